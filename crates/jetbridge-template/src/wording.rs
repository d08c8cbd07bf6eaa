//! How errors of stores are worded in a template's errors: a beginning that is promised, the
//! causes, and what to do about it.

use jetbridge_core::{Error, ErrorKind};

use crate::fetch::Server;

/// Facts that the message before them says already.
const SAID: [&str; 9] =
    ["bucket", "key", "kind", "name", "object", "server", "servers", "store", "stream"];

/// An error and its causes in one line, with what to do about it at the end. Which of our
/// functions failed is of no use to who wrote the template.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = said(error);
    let mut hint = error.hint_text();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let ours = cause.downcast_ref::<Error>();
        let line = ours.map_or_else(|| cause.to_string(), said);
        hint = hint.or_else(|| ours.and_then(Error::hint_text));
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    match hint {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

fn said(error: &Error) -> String {
    let denied = error.kind() == ErrorKind::PermissionDenied;
    let mut text = match error.message() {
        Some(message) if denied => format!("permission denied: {message}"),
        Some(message) => message.to_owned(),
        None => error.kind().as_str().to_owned(),
    };
    let facts: Vec<String> = error
        .facts()
        .filter(|(name, _)| !SAID.contains(name))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if !facts.is_empty() {
        text.push_str(&format!(" ({})", facts.join(", ")));
    }
    text
}

/// Why a store could not be opened: a server of NATS by its address, whatever the call named.
pub(crate) fn unopened(server: &Server, error: &Error) -> String {
    let chain = chain(error);
    if error.operation().starts_with("local.") {
        return format!("failed to open the store: {server}: {chain}");
    }
    match error.fact("servers") {
        Some(servers) if *server == Server::Default => {
            format!("failed to connect to NATS: {servers}: {chain}")
        }
        _ => format!("failed to connect to NATS: {server}: {chain}"),
    }
}
