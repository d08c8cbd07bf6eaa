//! Files and stdin as inputs, with spruce's words for those that cannot be read.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use jetbridge::template::Input;

/// The name of stdin, as an argument and in errors.
const STDIN: &str = "-";

/// An input that cannot be read, and why.
#[derive(Debug)]
pub(super) struct Missing(pub(super) String);

/// Reads inputs; stdin once.
#[derive(Debug, Default)]
pub(super) struct Reader {
    stdin_is_read: bool,
}

impl Reader {
    /// The inputs in these files; stdin if none is named.
    pub(super) fn files(&mut self, paths: &[PathBuf]) -> Result<Vec<Input>, Missing> {
        if paths.is_empty() {
            return self.file(Path::new(STDIN)).map(|input| vec![input]);
        }
        paths.iter().map(|path| self.file(path)).collect()
    }

    pub(super) fn file(&mut self, path: &Path) -> Result<Input, Missing> {
        let bytes = if path == Path::new(STDIN) { self.stdin()? } else { file(path)? };
        Ok(Input::new(path.display().to_string(), bytes))
    }

    fn stdin(&mut self) -> Result<Vec<u8>, Missing> {
        if std::mem::replace(&mut self.stdin_is_read, true) {
            return Err(Missing("Error reading STDIN: it can be read once only".to_owned()));
        }
        let mut bytes = Vec::new();
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            let read = stdin.lock().read_to_end(&mut bytes);
            read.map_err(|error| Missing(format!("Error reading STDIN: {error}")))?;
        }
        if bytes.is_empty() {
            return Err(Missing(
                "Error reading STDIN: no data found. Did you forget to pipe data to STDIN, or \
                 specify yaml files to merge?"
                    .to_owned(),
            ));
        }
        Ok(bytes)
    }
}

fn file(path: &Path) -> Result<Vec<u8>, Missing> {
    std::fs::read(path).map_err(|error| {
        let name = path.display();
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            io::ErrorKind::IsADirectory => "is a directory".to_owned(),
            _ => error.to_string(),
        };
        Missing(format!("Error reading file {name}: open {name}: {why}"))
    })
}
