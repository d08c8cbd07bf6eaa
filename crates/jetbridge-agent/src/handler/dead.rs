//! Dead letters: messages that were given up, kept in a stream with what is known of them.
//!
//! A dead letter is stored before its message is settled, under an id made of where the message
//! came from, so that a crash in between stores it again and the stream sees the duplicate.

use jetbridge_core::{
    AppendOpts, Backend, ErrorKind, Message, Pattern, Result, StreamName, StreamSpec, Subject,
};

use super::attempt::Attempt;
use super::spec::HandlerSpec;

/// Dead letters are on `jetbridge.dead.STREAM.HANDLER`.
const SUBJECT_PREFIX: &str = "jetbridge.dead";

/// The subjects of the dead letters in `stream`.
pub(crate) fn subjects(stream: &StreamName) -> Result<Pattern> {
    Pattern::parse(format!("{SUBJECT_PREFIX}.{stream}.>"))
}

/// Makes the stream of dead letters if it is missing.
pub(crate) async fn ensure_stream(backend: &dyn Backend, stream: &StreamName) -> Result<()> {
    let spec = StreamSpec::new(stream.clone(), vec![subjects(stream)?]);
    match backend.bus().create_stream(&spec).await {
        Ok(_made) => Ok(()),
        // Somebody wants other limits: theirs hold, as long as the subject is kept, which
        // appending finds out.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Keeps the message of `attempt` as a dead letter.
pub(crate) async fn keep(
    backend: &dyn Backend,
    spec: &HandlerSpec,
    attempt: &Attempt,
    reason: &str,
) -> Result<()> {
    let handler: String = spec.name.chars().map(token_letter).collect();
    let subject = Subject::parse(format!("{SUBJECT_PREFIX}.{}.{handler}", spec.dead_letters))?;
    let mut headers = attempt.message.headers.clone();
    for (name, value) in attempt.facts() {
        headers.set(&format!("Jetbridge-{name}"), &value)?;
    }
    headers.set("Jetbridge-Reason", &one_line(reason))?;
    // The id of the original would make the stream take the letter for a repetition.
    headers.remove("Nats-Msg-Id");
    let letter = Message::new(subject, attempt.message.payload.clone()).headers(headers);
    let mut opts = AppendOpts::new();
    if let Some((stream, sequence)) = &attempt.stored {
        // The name as it is: two may have the same token.
        opts = opts.id(&format!("{}:{stream}:{sequence}", one_line(&spec.name)));
    }
    match backend.bus().append(letter.clone(), opts.clone()).await {
        // Somebody has deleted the stream since the handler began.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ensure_stream(backend, &spec.dead_letters).await?;
            backend.bus().append(letter, opts).await.map(|_appended| ())
        }
        appended => appended.map(|_appended| ()),
    }
}

fn token_letter(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }
}

/// A header holds one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()
}
