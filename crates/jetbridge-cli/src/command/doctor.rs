//! `doctor`. It connects itself: that this fails is one of its findings.

use jetbridge_core::{Check, Error, ErrorKind, Result, Verdict};

use super::CLOSE_GRACE;
use crate::args::Global;
use crate::location::Place;
use crate::printer::Printer;
use crate::report::{Report, Status};
use crate::view::store::{Diagnosis, verdict};

/// Checks everything people trip over, and says what to do about it.
pub(crate) async fn run(global: &Global, printer: &Printer) -> Result<Status> {
    let place = Place::find(global)?;
    let settings = place.warnings.iter().map(|text| Check::new("settings", Verdict::Warns, text));
    let mut checks: Vec<Check> = settings.collect();
    let mut unreachable = None;
    match jetbridge::connect(&place.location).await {
        Ok(store) => {
            checks.extend(store.diagnose().await);
            store.close(CLOSE_GRACE).await;
        }
        Err(error) => {
            checks.push(connection(&error));
            unreachable = Some(error.kind());
        }
    }
    let worst = worst(&checks);
    printer.value(&Diagnosis {
        store: place.location.to_string(),
        origin: place.origin,
        verdict: verdict(worst),
        checks: checks.iter().map(Into::into).collect(),
    })?;
    Ok(status(worst, unreachable))
}

/// That there is no connection, with all that is known about why.
fn connection(error: &Error) -> Check {
    let report = Report::of(error);
    let check = Check::new("connection", Verdict::Fails, report.lines());
    match error.hint_text() {
        Some(hint) => check.hint(hint),
        None if error.kind() == ErrorKind::Unavailable => {
            check.hint("does the server run, is the address right, is nothing in between?")
        }
        None => check,
    }
}

fn worst(checks: &[Check]) -> Verdict {
    let any = |verdict| checks.iter().any(|check| check.verdict == verdict);
    if any(Verdict::Fails) {
        Verdict::Fails
    } else if any(Verdict::Warns) {
        Verdict::Warns
    } else {
        Verdict::Passes
    }
}

fn status(worst: Verdict, unreachable: Option<ErrorKind>) -> Status {
    match (worst, unreachable) {
        (_, Some(kind)) => Status::Failed(kind),
        (Verdict::Fails, None) => Status::No,
        (Verdict::Passes | Verdict::Warns, None) => Status::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides() {
        let check = |verdict| Check::new("x", verdict, "");
        assert_eq!(worst(&[]), Verdict::Passes);
        assert_eq!(worst(&[check(Verdict::Passes), check(Verdict::Warns)]), Verdict::Warns);
        assert_eq!(worst(&[check(Verdict::Fails), check(Verdict::Warns)]), Verdict::Fails);
        assert_eq!(status(Verdict::Warns, None), Status::Done);
        assert_eq!(status(Verdict::Fails, None), Status::No);
        let unreachable = Some(ErrorKind::Unavailable);
        assert_eq!(status(Verdict::Fails, unreachable), Status::Failed(ErrorKind::Unavailable));
    }
}
