//! The only way to print. Values go to stdout, as text or as JSON; everything else goes to
//! stderr, and nothing of it when the user wants quiet. Nothing here needs colour to be read.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use jetbridge_core::{Error, ErrorKind, Result};
use serde::Serialize;

use crate::args::Global;

/// The operation of errors that say that stdout cannot be written.
pub(crate) const STDOUT: &str = "stdout.write";

/// Bytes gathered before they are written. Streams of lines flush when they run dry.
const BUFFER_BYTES: usize = 64 * 1024;

/// Something that can be printed: as text, or as one JSON object.
pub(crate) trait View: Serialize {
    /// Writes the text, its line break included.
    fn text(&self, out: &mut Text);
}

/// Something that can be a line of a table, or one JSON object.
pub(crate) trait Row: Serialize {
    /// The columns' titles.
    const TITLES: &'static [&'static str];

    /// As many cells as there are titles.
    fn cells(&self) -> Vec<String>;
}

/// Text being put together. Bytes, because values are.
#[derive(Debug, Default)]
pub(crate) struct Text(Vec<u8>);

impl Text {
    /// Adds a line.
    pub(crate) fn line(&mut self, line: impl Display) {
        self.0.extend_from_slice(format!("{line}\n").as_bytes());
    }

    /// Adds a line of a name and a value.
    pub(crate) fn field(&mut self, name: &str, value: impl Display) {
        self.line(format!("{name:<16}{value}"));
    }

    /// Adds a table, its columns below each other.
    pub(crate) fn table<R: Row>(&mut self, rows: &[R]) {
        if rows.is_empty() {
            return;
        }
        let titles = R::TITLES.iter().map(|title| (*title).to_owned()).collect();
        let cells: Vec<Vec<String>> =
            std::iter::once(titles).chain(rows.iter().map(R::cells)).collect();
        for line in aligned(&cells) {
            self.line(line);
        }
    }

    /// What was put together.
    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// Prints as the user asked.
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    terminal: bool,
    streams: Mutex<Streams>,
}

struct Streams {
    out: BufWriter<Box<dyn Write + Send>>,
    err: Box<dyn Write + Send>,
}

impl Printer {
    /// A printer for these options.
    pub(crate) fn new(global: &Global) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { terminal, ..Self::to(global, Box::new(stdout), Box::new(io::stderr())) }
    }

    /// A printer that writes values to `out` and the rest to `err`.
    pub(crate) fn to(
        global: &Global,
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
    ) -> Self {
        let out = BufWriter::with_capacity(BUFFER_BYTES, out);
        let streams = Mutex::new(Streams { out, err });
        Self { json: global.json, quiet: global.quiet, terminal: false, streams }
    }

    /// True if values are to be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// True if notes and progress are not wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// True if a person is likely to see what goes to stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Prints one value.
    pub(crate) fn value(&self, value: &impl View) -> Result<()> {
        if self.json {
            return self.json(value);
        }
        let mut text = Text::default();
        value.text(&mut text);
        // A value that ends in mid-line would have the prompt glued to it.
        if self.terminal && text.0.last().is_some_and(|last| *last != b'\n') {
            text.0.push(b'\n');
        }
        self.bytes(&text.0)
    }

    /// Prints a table; as JSON, one object per row.
    pub(crate) fn table<R: Row>(&self, rows: &[R]) -> Result<()> {
        if self.json {
            return rows.iter().try_for_each(|row| self.json(row));
        }
        let mut text = Text::default();
        text.table(rows);
        self.bytes(&text.0)
    }

    fn json(&self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)
            .map_err(|error| Error::new(ErrorKind::Internal, "json.write").caused_by(error))?;
        line.push(b'\n');
        self.bytes(&line)
    }

    /// Writes bytes to stdout as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<()> {
        stdout_result(self.lock().out.write_all(bytes))
    }

    /// Hands what was gathered to whoever reads stdout.
    pub(crate) fn flush(&self) -> Result<()> {
        stdout_result(self.lock().out.flush())
    }

    /// Says something on stderr, unless the user wants quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            self.stderr(&format!("{text}\n"));
        }
    }

    /// Says on stderr what is probably not meant, unless the user wants quiet.
    pub(crate) fn warn(&self, text: impl Display) {
        self.note(format_args!("warning: {text}"));
    }

    /// Says on stderr that the answer is no, unless the user wants quiet.
    pub(crate) fn no(&self, answer: &impl View) {
        if !self.quiet {
            self.error(answer);
        }
    }

    /// Says on stderr why the command failed.
    pub(crate) fn error(&self, error: &impl View) {
        let mut text = Text::default();
        match serde_json::to_string(error) {
            Ok(json) if self.json => text.line(json),
            _ => error.text(&mut text),
        }
        self.stderr(&String::from_utf8_lossy(&text.0));
    }

    /// After stdout, so that the two are in order on a terminal. A stderr that cannot be written
    /// leaves nobody to tell.
    fn stderr(&self, text: &str) {
        let mut streams = self.lock();
        let _flushed = streams.out.flush();
        let _written = streams.err.write_all(text.as_bytes());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines whose columns begin below each other, two spaces apart.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn stdout_result(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| {
        Error::new(ErrorKind::Unavailable, STDOUT)
            .because("stdout cannot be written")
            .caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_begin_below_each_other() {
        let rows = [["NAME", "KEYS"], ["é", "10"], ["longer", "2"]]
            .map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), ["NAME    KEYS", "é       10", "longer  2"]);
    }
}
