//! What Litestream's page about NATS calls a store that cannot be used, and what it says to look
//! at: those who know the page look for these words.

use jetbridge_core::{Error, ErrorKind, Outcome};

const LOGIN: (&str, &str) = (
    "Authorization violation",
    "check the login, and that the user may use JetStream: `jetbridge doctor` says what fails, \
     `jetbridge check --permissions FILE` what is needed",
);

/// What such an error begins with.
pub const WORDS_OF_THE_PAGE: [&str; 4] = [
    "Authorization violation",
    "Bucket not found",
    "Connection refused, or no answer",
    "TLS handshake failed",
];

/// The same error, beginning with the words of the page, if it has any for it.
pub fn in_words_of_the_page(error: Error) -> Error {
    let said = format!("{error:?}").to_lowercase();
    let (words, hint) = match error.kind() {
        ErrorKind::NotFound => (
            "Bucket not found",
            "create the bucket first: `jetbridge object add BUCKET`; or check its name",
        ),
        ErrorKind::PermissionDenied => LOGIN,
        ErrorKind::Unavailable if said.contains("authorization violation") => LOGIN,
        ErrorKind::Unavailable if said.contains("tls") || said.contains("certificate") => (
            "TLS handshake failed",
            "check the CA certificate, that client certificate and key match, and that the \
             server's certificate is valid",
        ),
        ErrorKind::Unavailable => (
            "Connection refused, or no answer",
            "check that the server runs, that its port is open, and the URL",
        ),
        _ => return error,
    };
    let told = Error::new(error.kind(), error.operation()).because(words).hint(hint);
    match error.outcome() {
        Outcome::Unknown => told.outcome_unknown().caused_by(error),
        _ => told.caused_by(error),
    }
}
