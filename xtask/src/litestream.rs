//! Litestream, which the tests of SQLite replication exchange files with:
//! `target/litestream/VERSION/litestream`, built from the Go module proxy.

use std::fs;
use std::process::Command;

use crate::Outcome;
use crate::process::{output, root, run};

/// The newest release, and the last that wrote pages as LZ4 frames.
const TESTED: [&str; 2] = ["0.5.18", "0.5.15"];

/// Makes sure that each version is there.
pub(crate) fn ensure() -> Outcome {
    for version in TESTED {
        let directory = root().join("target/litestream").join(version);
        let binary = directory.join("litestream");
        // Builds of old versions do not say which they are: the directory does.
        if output(Command::new(&binary).arg("version")).is_ok() {
            println!("litestream {version} is there");
            continue;
        }
        fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        let module = format!("github.com/benbjohnson/litestream/cmd/litestream@v{version}");
        run(Command::new("go").args(["install", &module]).env("GOBIN", &directory)).map_err(
            |reason| {
                format!(
                    "litestream {version} could not be installed, and no test is skipped for \
                     want of it: {reason}"
                )
            },
        )?;
    }
    Ok(())
}
