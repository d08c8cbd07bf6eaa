//! Errors in one line, for reasons that have no room for more.

use std::error::Error;

/// What failed and its causes: an outer error often says no more than that something did.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
