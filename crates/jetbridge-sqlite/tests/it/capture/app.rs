//! An application: Python's SQLite, in a process of its own. It is older than ours, and has its
//! own locks.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SCRIPT: &str = "
import json, sqlite3, sys
def connect():
    return sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
c = connect()
for line in sys.stdin:
    sql = json.loads(line)
    try:
        if sql == 'close': c.close(); said = []
        elif sql == 'open': c = connect(); said = []
        elif sql.startswith('backup '):
            b = sqlite3.connect(sql[7:]); b.backup(c); b.close(); said = []
        elif sql.startswith('BEGIN'): c.executescript(sql); said = []
        else: said = c.execute(sql).fetchall()
    except sqlite3.Error as e: said = str(e)
    print(json.dumps(said), flush=True)
";

/// A process with one connection; killed when dropped.
pub(crate) struct App {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl App {
    pub(crate) fn open(path: &Path) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", SCRIPT]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output }
    }

    /// Runs a statement, or a script that begins with `BEGIN`; what it answers, as JSON.
    pub(crate) fn ask(&mut self, sql: &str) -> String {
        let quoted = sql.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
        self.input.write_all(format!("\"{quoted}\"\n").as_bytes()).unwrap();
        self.input.flush().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Runs it, and expects it to be right.
    pub(crate) fn run(&mut self, sql: &str) {
        let said = self.ask(sql);
        assert!(said.starts_with('['), "{sql}: {said}");
    }

    /// Commits `count` transactions of which each changes some pages.
    pub(crate) fn write(&mut self, count: u32) {
        self.run("CREATE TABLE IF NOT EXISTS w (id INTEGER PRIMARY KEY, pad TEXT)");
        for _ in 0..count {
            self.run("INSERT INTO w (pad) VALUES (hex(randomblob(300)))");
            self.run(
                "UPDATE w SET pad = hex(randomblob(300)) WHERE id = abs(random()) % \
                 (SELECT max(id) + 1 FROM w)",
            );
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}
