//! The binary under the names of other programs: `spruce` and `graft` work as those do, with
//! their words, defaults and exit codes, so that scripts keep working.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::Global;
use crate::args::link::{Link, Word};
use crate::command::template::{Manner, Task};
use crate::printer::Printer;
use crate::report::{self, Status};
use crate::{block_on, command, logging};

/// What both programs exit with when the arguments are wrong.
const USAGE: u8 = 1;
/// What both exit with when anything else is.
const FAILED: u8 = 2;

/// A program whose name the binary was started under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Name {
    Graft,
    Spruce,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Self::Graft => "graft",
            Self::Spruce => "spruce",
        }
    }
}

/// The other program that was asked for.
pub(crate) fn name(arguments: &[OsString]) -> Option<Name> {
    let called = Path::new(arguments.first()?).file_stem()?;
    [Name::Graft, Name::Spruce].into_iter().find(|name| called == name.text())
}

/// Runs as the program `name`.
pub(crate) fn main(name: Name, arguments: &[OsString]) -> ExitCode {
    let matches = Link::command().name(name.text()).bin_name(name.text());
    let parsed = matches.try_get_matches_from(arguments).and_then(|m| Link::from_arg_matches(&m));
    let link = match parsed {
        Ok(link) => link,
        Err(refused) => {
            let _printed = refused.print();
            return ExitCode::from(if refused.use_stderr() { USAGE } else { 0 });
        }
    };
    if link.version {
        let version = env!("CARGO_PKG_VERSION");
        let _written = writeln!(io::stderr(), "{} - Version {version} (jetbridge)", name.text());
        return ExitCode::SUCCESS;
    }
    let Some(word) = link.word else {
        let _printed = io::stderr().write_all(help(name).as_bytes());
        return ExitCode::from(USAGE);
    };
    let verbose = if link.trace { 2 } else { u8::from(link.debug) };
    let global = Global { verbose, ..Global::default() };
    let printer = Printer::new(&global);
    logging::start(&global, logging::Tone::Command, None);
    let task = match word {
        Word::Merge(args) => Task::Merge(args),
        Word::Fan(args) => Task::Fan(args),
        Word::Json(args) => Task::Json(args),
        Word::Diff(args) => Task::Diff(args),
    };
    let run = command::template::perform(task, Manner::Linked, &global, &printer);
    match block_on(run) {
        Ok(Status::Failed(_)) => ExitCode::from(FAILED),
        Err(error) if !report::reader_left(&error) => {
            let _said = report::conclude(Err(error), &printer);
            ExitCode::from(FAILED)
        }
        settled => report::conclude(settled, &printer),
    }
}

fn help(name: Name) -> String {
    Link::command().name(name.text()).bin_name(name.text()).render_help().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_names() {
        let named = |path: &str| name(&[OsString::from(path)]);
        assert_eq!(named("/usr/bin/graft"), Some(Name::Graft));
        assert_eq!(named("spruce"), Some(Name::Spruce));
        assert_eq!(named("./jetbridge"), None);
        assert_eq!(named("spruced"), None);
        assert_eq!(name(&[]), None);
    }
}
