//! Dead letters: messages that were given up, kept in a stream with what is known of them.
//!
//! A dead letter is stored before its message is settled, under an id made of where the message
//! came from, so that a crash in between stores it again and the stream sees the duplicate.

use jetbridge_core::{
    AppendOpts, Backend, ErrorKind, Headers, Message, Pattern, Result, StreamName, StreamSpec,
    Subject,
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

/// Keeps the message of `attempt` as a dead letter. If that would be over the limit for a message,
/// its own headers are left out, and if the payload alone is all that fits, that is kept.
pub(crate) async fn keep(
    backend: &dyn Backend,
    spec: &HandlerSpec,
    attempt: &Attempt,
    reason: &str,
) -> Result<()> {
    let letter = Letter::new(spec, attempt, reason)?;
    let mut kept = append(backend, spec, letter.whole(), letter.opts()).await;
    for (left_out, smaller, opts) in [
        ("the message's own headers", letter.without_own_headers()?, letter.opts()),
        ("everything but the payload", letter.payload_alone(), AppendOpts::new()),
    ] {
        match kept {
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                let (handler, subject) = (&spec.name, &attempt.message.subject);
                let stored = attempt.stored.as_ref().map(|(stream, at)| format!("{stream}:{at}"));
                tracing::warn!(handler, %subject, stored, reason, %error, left_out,
                    "a dead letter is too large as it is");
                kept = append(backend, spec, smaller, opts).await;
            }
            done => return done,
        }
    }
    kept
}

async fn append(
    backend: &dyn Backend,
    spec: &HandlerSpec,
    letter: Message,
    opts: AppendOpts,
) -> Result<()> {
    match backend.bus().append(letter.clone(), opts.clone()).await {
        // Somebody has deleted the stream since the handler began.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ensure_stream(backend, &spec.dead_letters).await?;
            backend.bus().append(letter, opts).await.map(|_appended| ())
        }
        appended => appended.map(|_appended| ()),
    }
}

/// A dead letter, of which as much is kept as fits.
struct Letter<'a> {
    message: &'a Message,
    subject: Subject,
    /// What is known of the message.
    facts: Headers,
    /// Made of where the message came from.
    id: Option<String>,
}

impl<'a> Letter<'a> {
    fn new(spec: &HandlerSpec, attempt: &'a Attempt, reason: &str) -> Result<Self> {
        let handler: String = spec.name.chars().map(token_letter).collect();
        let subject = Subject::parse(format!("{SUBJECT_PREFIX}.{}.{handler}", spec.dead_letters))?;
        let mut facts = Headers::new();
        for (name, value) in attempt.facts() {
            facts.set(&format!("Jetbridge-{name}"), &value)?;
        }
        facts.set("Jetbridge-Reason", &one_line(reason))?;
        // The name as it is: two may have the same token.
        let name = one_line(&spec.name);
        let stored = attempt.stored.as_ref();
        let id = stored.map(|(stream, sequence)| format!("{name}:{stream}:{sequence}"));
        Ok(Self { message: &attempt.message, subject, facts, id })
    }

    fn opts(&self) -> AppendOpts {
        self.id.iter().fold(AppendOpts::new(), |opts, id| opts.id(id))
    }

    fn with(&self, headers: Headers) -> Message {
        self.payload_alone().headers(headers)
    }

    fn whole(&self) -> Message {
        let mut headers = self.message.headers.clone();
        for (name, _) in self.facts.iter() {
            headers.remove(name);
        }
        // The id of the original would make the stream take the letter for a repetition.
        headers.remove("Nats-Msg-Id");
        self.facts.iter().for_each(|(name, value)| headers.push_wire(name, value));
        self.with(headers)
    }

    fn without_own_headers(&self) -> Result<Message> {
        let mut headers = self.facts.clone();
        headers.set("Jetbridge-Headers-Left-Out", &self.message.headers.len().to_string())?;
        Ok(self.with(headers))
    }

    /// Always fits where the message itself did.
    fn payload_alone(&self) -> Message {
        Message::new(self.subject.clone(), self.message.payload.clone())
    }
}

fn token_letter(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }
}

/// A header holds one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()
}
