//! The words on the store in memory, all in this process: what they print and how they end.

mod bus;
mod kv;
mod object;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use clap::Parser as _;
use jetbridge_core::{ErrorKind, MemoryBackend};

use super::*;
use crate::args::{Cli, Command};

/// No word takes longer on the store in memory.
const DEADLINE: Duration = Duration::from_secs(20);

/// A store and a way to type.
struct Terminal {
    store: Arc<dyn Backend>,
}

/// What a command said and how it ended.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    ended: Result<Status>,
}

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn read(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Terminal {
    fn new() -> Self {
        Self { store: Arc::new(MemoryBackend::new()) }
    }

    /// Runs words without white space.
    async fn run(&self, line: &str) -> Said {
        self.run_words(&line.split(' ').collect::<Vec<_>>()).await
    }

    async fn run_words(&self, words: &[&str]) -> Said {
        let cli = Cli::parse_from(std::iter::once(&"jetbridge").chain(words));
        let Command::OnStore(command) = cli.command else { panic!("{words:?}") };
        let (out, err) = (Paper::default(), Paper::default());
        let printer = Printer::to(&cli.global, Box::new(out.clone()), Box::new(err.clone()));
        let invocation = Invocation {
            store: Arc::clone(&self.store),
            printer: &printer,
            interrupt: &Interrupt::new(),
            timeout: cli.global.timeout.unwrap_or(TIMEOUT_DEFAULT),
            origin: "--store",
        };
        let running = tokio::time::timeout(DEADLINE, Box::pin(run(command, &invocation)));
        let ended = running.await.unwrap_or_else(|_late| panic!("{words:?} does not end"));
        printer.flush().unwrap();
        Said { out: out.read(), err: err.read(), ended }
    }

    /// Runs a line that does what it is asked to, and returns what it prints.
    async fn does(&self, line: &str) -> String {
        let said = self.run(line).await;
        assert_eq!(said.ended.as_ref().ok(), Some(&Status::Done), "{line}: {said:?}");
        said.out
    }

    /// Runs a line whose answer is no, and returns what it says about it.
    async fn denies(&self, line: &str) -> String {
        let said = self.run(line).await;
        assert_eq!(said.ended.as_ref().ok(), Some(&Status::No), "{line}: {said:?}");
        assert_eq!(said.out, "", "{line}");
        said.err
    }

    /// Runs a line that fails, and returns how.
    async fn fails(&self, line: &str) -> ErrorKind {
        let said = self.run(line).await;
        assert_eq!(said.out, "", "{line}");
        said.ended.unwrap_err().kind()
    }

    async fn json(&self, line: &str) -> serde_json::Value {
        let out = self.does(&format!("{line} --json")).await;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line}: {error}: {out}"))
    }
}

#[tokio::test]
async fn status_has_the_buckets_and_streams() {
    let terminal = Terminal::new();
    terminal.does("kv add config").await;
    terminal.does("object add assets").await;
    terminal.does("stream add ORDERS --subjects orders.>").await;
    let text = terminal.does("status").await;
    for name in ["memory", "config", "assets", "ORDERS"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let json = terminal.json("status").await;
    assert_eq!(json["backend"], "memory");
    assert_eq!(json["buckets"][0]["name"], "config");
    assert_eq!(json["streams"][0]["name"], "ORDERS");
    assert!(json["round_trip_ms"].is_number());
    assert_eq!(json["capabilities"]["key_ttl"], "native");
}
