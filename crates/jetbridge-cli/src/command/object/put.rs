//! `put`.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::path::{Component, Path, PathBuf};

use jetbridge_core::{Error, ErrorKind, Expect, ObjectName, ObjectPut, Result, Revision};

use super::Words;
use crate::args::object::Put;
use crate::input::{self, Source};
use crate::progress::Progress;
use crate::report::Status;
use crate::view::object::{ObjectView, Stored};

impl Words<'_> {
    pub(super) async fn put(&self, args: Put) -> Result<Status> {
        let (path, name) = file_and_name(&args)?;
        let objects = self.open(&args.bucket).await?;
        let source = Source::open(&path).await?;
        let progress = Progress::bytes(self.on.printer, source.size);
        let body = source.body(progress.clone(), &path);
        let stored = objects.put(&name, body, options(&args)?).await;
        progress.finish();
        self.on.printer.value(&Stored(ObjectView::of(&args.bucket, &stored?)))?;
        Ok(Status::Done)
    }
}

fn options(args: &Put) -> Result<ObjectPut> {
    let expect = match args.revision {
        Some(revision) => Expect::Exactly(Revision(revision)),
        None if args.if_absent => Expect::Absent,
        None => Expect::Any,
    };
    let mut opts = ObjectPut::new().expect(expect).headers(input::headers(&args.header)?);
    opts.description.clone_from(&args.description);
    opts.chunk_bytes = args.chunk_size.and_then(|size| size.0);
    Ok(opts)
}

/// `FILE [--name NAME]`, `NAME --file FILE`, `--file FILE [--name NAME]`, or `--name NAME` for
/// stdin.
fn file_and_name(args: &Put) -> Result<(PathBuf, ObjectName)> {
    let refused = |why: &str, hint: &str| {
        Err(Error::new(ErrorKind::InvalidInput, "object.put").because(why).hint(hint))
    };
    match (&args.file_or_name, &args.file, &args.name) {
        (Some(_), Some(_), Some(_)) => {
            refused("the object has two names", "give FILE --name NAME, or NAME --file FILE")
        }
        (Some(name), Some(file), None) => Ok((file.clone(), parsed(name.as_os_str().to_owned())?)),
        (Some(file), None, Some(name)) | (None, Some(file), Some(name)) => {
            Ok((file.clone(), name.clone()))
        }
        (Some(file), None, None) | (None, Some(file), None) if file == Path::new("-") => {
            refused("what comes from stdin has no name", "add --name NAME")
        }
        (Some(file), None, None) | (None, Some(file), None) => {
            let name = cleaned(file).into_os_string();
            if name.is_empty() {
                return refused("that is a directory", "name a file in it");
            }
            Ok((file.clone(), parsed(name)?))
        }
        (None, None, Some(name)) if !io::stdin().is_terminal() => {
            Ok((PathBuf::from("-"), name.clone()))
        }
        (None, None, _) => refused("no file given", "name a file, or `-` for stdin"),
    }
}

fn parsed(name: OsString) -> Result<ObjectName> {
    match name.into_string() {
        Ok(name) => ObjectName::parse(name),
        Err(name) => Err(Error::new(ErrorKind::InvalidInput, "object.parse")
            .because("the name is not UTF-8")
            .with("name", format!("{name:?}"))
            .hint("give it another one with --name")),
    }
}

/// `path` without `.` and `..`, as the `nats` CLI names the objects of files.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(_) | Component::Prefix(_) | Component::RootDir => clean.push(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::object::Word;
    use crate::args::{Cli, Command, OnStore};

    fn put(words: &[&str]) -> Result<(String, String)> {
        let line = ["jetbridge", "object", "put", "b"].iter().chain(words);
        let Command::OnStore(OnStore::Object(object)) = Cli::parse_from(line).command else {
            panic!("{words:?}");
        };
        let Word::Put(args) = object.word else { panic!("{words:?}") };
        let (file, name) = file_and_name(&args)?;
        Ok((file.display().to_string(), name.to_string()))
    }

    #[test]
    fn every_form_has_a_file_and_a_name() {
        for (words, file, name) in [
            (&["a.txt"][..], "a.txt", "a.txt"),
            (&["./d/../a.txt"], "./d/../a.txt", "a.txt"),
            (&["/d/a.txt"], "/d/a.txt", "/d/a.txt"),
            (&["a.txt", "--name", "n"], "a.txt", "n"),
            (&["n", "--file", "a.txt"], "a.txt", "n"),
            (&["n", "--file", "-"], "-", "n"),
            (&["--file", "a.txt", "--name", "n"], "a.txt", "n"),
            (&["-", "--name", "n"], "-", "n"),
        ] {
            let expected = (file.to_owned(), name.to_owned());
            assert_eq!(put(words).unwrap(), expected, "{words:?}");
        }
    }

    #[test]
    fn what_is_missing_or_double_is_refused() {
        for words in [&["-"][..], &["n", "--file", "f", "--name", "m"], &["./"], &[]] {
            assert_eq!(put(words).unwrap_err().kind(), ErrorKind::InvalidInput, "{words:?}");
        }
    }
}
