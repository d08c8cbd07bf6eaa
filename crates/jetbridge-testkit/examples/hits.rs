//! Writes the component of the tour: `cargo run -p jetbridge-testkit --example hits >hits.wasm`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(&jetbridge_testkit::guest::http())
}
