//! Dead letters: looked at, and sent again to where they came from.
//!
//! A letter stays in its stream when it is sent again; a mark beside it, on the letter's subject
//! and one token more, says so to everybody who looks, also after a restart.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt as _;
use jetbridge_core::{
    AppendOpts, Backend, Error, ErrorKind, Headers, Message, ReadStream, Result, StreamName,
    Subject,
};

/// How many messages of the stream are looked at, from the newest: letters and marks.
const LOOK_BACK: u64 = 200;
/// How long the store may take to show them.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The last token of a mark's subject.
const AGAIN: &str = "again";
/// The header of a mark: the sequence of the letter.
const AGAIN_HEADER: &str = "Jetbridge-Again";
/// What the headers begin with that the handler added.
const FACTS: &str = "Jetbridge-";

/// A letter as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) sequence: u64,
    pub(super) stored: SystemTime,
    pub(super) message: Message,
    /// When it was sent again last.
    pub(super) again: Option<SystemTime>,
}

impl Letter {
    pub(super) fn fact(&self, name: &str) -> Option<&str> {
        self.message.headers.get(&format!("{FACTS}{name}"))
    }

    /// Where its message was, if that is known: of the largest letters only the payload is kept.
    pub(super) fn subject(&self) -> Option<&str> {
        self.fact("Subject")
    }

    /// The message as it was before it was given up.
    fn original(&self) -> Result<Message> {
        let unknown = || {
            Error::new(ErrorKind::InvalidInput, "letter.send")
                .because("only the payload of this message was kept: where it was is not known")
                .with("letter", self.sequence)
                .hint("`jetbridge stream get` has the payload; `jetbridge pub` sends it")
        };
        let subject = Subject::parse(self.subject().ok_or_else(unknown)?)?;
        let mut headers = Headers::new();
        let own = self.message.headers.iter().filter(|(name, _)| !name.starts_with(FACTS));
        own.for_each(|(name, value)| headers.push_wire(name, value));
        Ok(Message::new(subject, Bytes::clone(&self.message.payload)).headers(headers))
    }
}

/// The newest letters of `stream`, the newest first.
pub(super) async fn newest(backend: &dyn Backend, stream: &StreamName) -> Result<Vec<Letter>> {
    let read = async {
        let bus = backend.bus();
        let last = match bus.stream(stream).await {
            Ok(info) => info.last_sequence,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let read = ReadStream::all().after(last.saturating_sub(LOOK_BACK));
        let mut messages = bus.read_stream(stream, read);
        let mut kept = Vec::new();
        while let Some(message) = messages.next().await {
            let message = message?;
            let is_newest = message.sequence >= last;
            kept.push(message);
            if is_newest {
                break;
            }
        }
        Ok(kept)
    };
    let slow = |_elapsed| {
        Error::new(ErrorKind::Unavailable, "letter.read")
            .because(format!("the store did not show them within {READ_TIMEOUT:?}"))
    };
    let kept = tokio::time::timeout(READ_TIMEOUT, read).await.map_err(slow)??;
    let mut again: BTreeMap<u64, SystemTime> = BTreeMap::new();
    let mut letters = Vec::new();
    for kept in kept {
        match kept.message.headers.get(AGAIN_HEADER).map(str::parse) {
            Some(Ok(sequence)) => drop(again.insert(sequence, kept.stored)),
            Some(Err(_foreign)) => {}
            None => letters.push(Letter {
                sequence: kept.sequence,
                stored: kept.stored,
                message: kept.message,
                again: None,
            }),
        }
    }
    for letter in &mut letters {
        letter.again = again.get(&letter.sequence).copied();
    }
    letters.reverse();
    Ok(letters)
}

/// Sends the letter of this sequence to where its message came from: into its stream, or, if it
/// was a plain one, to whoever listens.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) if there is no such letter among the newest, or no stream
/// keeps its subject any more; [`InvalidInput`](ErrorKind::InvalidInput) if nobody knows where it
/// was.
pub(super) async fn send_again(
    backend: &dyn Backend,
    stream: &StreamName,
    sequence: u64,
) -> Result<()> {
    let letters = newest(backend, stream).await?;
    let letter = letters.into_iter().find(|letter| letter.sequence == sequence);
    let letter = letter.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "letter.send")
            .because("this letter is gone, or not among the newest")
            .with("letter", sequence)
    })?;
    let (bus, original) = (backend.bus(), letter.original()?);
    match letter.fact("Stream") {
        Some(_) => drop(bus.append(original, AppendOpts::new()).await?),
        None => bus.publish(original).await?,
    }
    let mut subject = letter.message.subject.to_string();
    subject.push('.');
    subject.push_str(AGAIN);
    let headers = Headers::new().with(AGAIN_HEADER, &sequence.to_string())?;
    let mark = Message::new(Subject::parse(subject)?, "").headers(headers);
    // It was sent: a mark that cannot be kept is no reason to say that it was not.
    if let Err(error) = bus.append(mark, AppendOpts::new()).await {
        tracing::warn!(%error, sequence, "a letter was sent again, and that could not be noted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jetbridge_core::{MemoryBackend, Pattern, StreamSpec};

    use super::*;

    async fn store() -> (MemoryBackend, StreamName) {
        let (store, dead) = (MemoryBackend::new(), StreamName::parse("DEAD").unwrap());
        for (stream, subject) in [("DEAD", "jetbridge.dead.DEAD.>"), ("ORDERS", "orders.>")] {
            let subjects = vec![Pattern::parse(subject).unwrap()];
            let spec = StreamSpec::new(StreamName::parse(stream).unwrap(), subjects);
            store.bus().create_stream(&spec).await.unwrap();
        }
        (store, dead)
    }

    async fn letter(store: &MemoryBackend, payload: &str, headers: &[(&str, &str)]) {
        let subject = Subject::parse("jetbridge.dead.DEAD.clerk").unwrap();
        let headers = headers
            .iter()
            .fold(Headers::new(), |headers, (name, value)| headers.with(name, value).unwrap());
        let message = Message::new(subject, payload.to_owned()).headers(headers);
        store.bus().append(message, AppendOpts::new()).await.unwrap();
    }

    #[tokio::test]
    async fn a_letter_goes_back_as_it_was_and_is_marked() {
        let (store, dead) = store().await;
        let facts = [
            ("Jetbridge-Subject", "orders.eu"),
            ("Jetbridge-Stream", "ORDERS"),
            ("Jetbridge-Reason", "no paper"),
            ("Customer", "7"),
        ];
        letter(&store, "chair", &facts).await;
        letter(&store, "big", &[]).await;
        let found = newest(&store, &dead).await.unwrap();
        let payloads: Vec<&[u8]> = found.iter().map(|it| &it.message.payload[..]).collect();
        assert_eq!(payloads, [b"big", &b"chair"[..]]);
        assert_eq!(found[1].fact("Reason"), Some("no paper"));

        send_again(&store, &dead, 1).await.unwrap();
        let orders = StreamName::parse("ORDERS").unwrap();
        let sent = store.bus().read_stream(&orders, ReadStream::all()).next().await;
        let sent = sent.unwrap().unwrap().message;
        assert_eq!((sent.subject.as_str(), &sent.payload[..]), ("orders.eu", &b"chair"[..]));
        let headers: Vec<_> = sent.headers.iter().collect();
        assert_eq!(headers, [("Customer", "7")]);
        let found = newest(&store, &dead).await.unwrap();
        let again: Vec<bool> = found.iter().map(|it| it.again.is_some()).collect();
        assert_eq!(again, [false, true], "the mark is no letter");

        let lost = send_again(&store, &dead, 2).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::InvalidInput);
        let absent = send_again(&store, &dead, 9).await.unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn without_a_stream_there_are_none() {
        let store = MemoryBackend::new();
        assert!(newest(&store, &StreamName::parse("DEAD").unwrap()).await.unwrap().is_empty());
    }
}
