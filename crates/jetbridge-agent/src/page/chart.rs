//! Two small pictures in SVG. Sizes are attributes, not styles: the page's policy allows no style
//! but its own sheet.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::history::{EVERY, KEPT};
use super::words::{ago, span};

/// The pictures' own units; the sheet says how large they are shown.
const WIDTH: f64 = 240.0;
const HEIGHT: f64 = 40.0;
/// The top of the scale at least: a lag of milliseconds is not drawn as a mountain.
const SCALE_MIN: f64 = 1.0;

/// The lag over the last minutes, with gaps where nobody could tell.
pub(super) fn lag(lags: &[Option<f64>]) -> Markup {
    let most = lags.iter().flatten().copied().fold(0.0, f64::max);
    let words = |lag: Option<f64>| match lag.map(Duration::try_from_secs_f64) {
        Some(Ok(lag)) => span(lag),
        _ => "not known".to_owned(),
    };
    let words = format!(
        "Lag over the last {}: {} now, {} at most",
        span(EVERY * u32::try_from(KEPT).unwrap_or(u32::MAX)),
        words(lags.last().copied().flatten()),
        words(Some(most)),
    );
    html! {
        svg.chart role="img" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" {
            title { (words) }
            @for run in runs(lags, most.max(SCALE_MIN)) {
                @if let [(first, _), .., (last, _)] = run[..] {
                    @let line = path(&run);
                    path.area d=(format!("{line} L{last:.1},{HEIGHT} L{first:.1},{HEIGHT} Z")) {}
                    path.line d=(line) {}
                }
            }
        }
    }
}

/// Where the lines go: the newest at the right edge, so that the picture grows from there.
fn runs(lags: &[Option<f64>], top: f64) -> Vec<Vec<(f64, f64)>> {
    let number = |at: usize| f64::from(u32::try_from(at).unwrap_or(u32::MAX));
    let step = WIDTH / number(KEPT.max(2) - 1);
    let shown = &lags[lags.len().saturating_sub(KEPT)..];
    let mut runs = vec![Vec::new()];
    for (at, lag) in shown.iter().enumerate() {
        let x = WIDTH - step * number(shown.len() - 1 - at);
        match (lag, runs.last_mut()) {
            // The line itself has a width: it stays inside.
            (Some(lag), Some(run)) => {
                run.push((x, (HEIGHT - 1.0) - (HEIGHT - 3.0) * (lag / top).clamp(0.0, 1.0)));
            }
            _ => runs.push(Vec::new()),
        }
    }
    runs
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let sign = if at == 0 { 'M' } else { 'L' };
        // Writing to a string does not fail.
        let _written = write!(path, "{sign}{x:.1},{y:.1} ");
    }
    path.trim_end().to_owned()
}

/// What can be restored, from the oldest state to now.
pub(super) fn window((oldest, newest): (SystemTime, SystemTime), now: SystemTime) -> Markup {
    let whole = now.duration_since(oldest).unwrap_or_default().as_secs_f64().max(1.0);
    let covered = newest.duration_since(oldest).unwrap_or_default().as_secs_f64();
    // However short, it is seen.
    let width = (WIDTH * (covered / whole)).clamp(2.0, WIDTH);
    let words =
        format!("Can be restored: states from {} to {}", ago(oldest, now), ago(newest, now));
    html! {
        svg.bar role="img" viewBox=(format!("0 0 {WIDTH} 8")) preserveAspectRatio="none" {
            title { (words) }
            rect.rest width=(format!("{WIDTH:.1}")) height="8" rx="4" {}
            rect.full width=(format!("{width:.1}")) height="8" rx="4" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_stay_inside_the_picture_with_the_newest_at_the_right() {
        let many: Vec<Option<f64>> = (0..500).map(|lag| Some(f64::from(lag))).collect();
        let drawn = runs(&many, 499.0).concat();
        assert_eq!(drawn.len(), KEPT);
        assert!(drawn.iter().all(|(x, y)| (-0.1..=WIDTH).contains(x) && (0.0..HEIGHT).contains(y)));
        assert_eq!(drawn.last().unwrap(), &(WIDTH, 2.0));
        let gap = lag(&[Some(0.0), Some(1.0), None, Some(0.5), Some(0.25)]).into_string();
        assert!(gap.contains("250 ms now, 1 s at most"), "{gap}");
        assert_eq!(gap.matches("class=\"line\"").count(), 2, "{gap}");
        let unknown = lag(&[Some(f64::INFINITY), None]).into_string();
        assert!(unknown.contains("not known now"), "{unknown}");
        assert!(!lag(&[]).into_string().contains("<path"));
    }

    #[test]
    fn a_window_is_drawn_to_scale_and_never_nothing() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let half = window((at(0), at(50)), at(100)).into_string();
        assert!(half.contains("width=\"120.0\""), "{half}");
        let none = window((at(100), at(100)), at(100)).into_string();
        assert!(none.contains("width=\"2.0\""), "{none}");
        let back = window((at(100), at(90)), at(80)).into_string();
        assert!(back.contains("states from now to now"), "{back}");
    }
}
