//! Chromium, which the slow test of the status page looks through. It is the system's: no registry
//! that this project builds from has it.

use crate::Outcome;
use crate::process::exists;

/// Makes sure that it is there.
pub(crate) fn ensure() -> Outcome {
    if exists("chromium") {
        println!("chromium is there");
        return Ok(());
    }
    Err("chromium is not installed, and no test is skipped for want of it: on Debian, \
         `apt-get install chromium`"
        .to_owned())
}
