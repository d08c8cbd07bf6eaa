//! Streams: their messages in order, each once.
//!
//! One message is sent when the one before is acknowledged. With several under way, one that is
//! lost or refused would be passed by those behind it, and nobody could put it back in its place.
//!
//! How far a copy has come, and which messages it is about to send, is noted in a bucket of the
//! destination before each stretch of them. What landed of a stretch that was cut off are the
//! first of those, whatever the source has let go of since; so nothing is copied twice, and nothing
//! is taken for copied that somebody else appended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use jetbridge_core::{
    AppendOpts, BucketName, BucketSpec, Bus, Digest, Error, ErrorKind, Key, Kv, Message, Open,
    Outcome, PutOpts, Read, ReadStream, Result, Retention, StreamInfo, StreamMessage, StreamName,
};
use serde::{Deserialize, Serialize};

use super::age::fields;
use super::report::{CopyReport, Step};
use super::{PASSES_MAX, Stores, into, out_of};

/// Where the destination keeps how far each stream has come.
pub(super) const PROGRESS_BUCKET: &str = "jetbridge-copies";

/// Messages between two notes of how far it is.
const STRETCH_MESSAGES: usize = 1024;
/// Bytes of payload, beyond which a stretch has fewer messages: they are held while it is sent.
const STRETCH_BYTES: usize = 8 << 20;

/// How far a stream has come: the last message of the source, and the one it became.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Note {
    /// When the source's stream was made, Unix milliseconds: another of the same name begins anew.
    source_created: u64,
    source_sequence: u64,
    sequence: u64,
    /// The messages that are sent next: the source's sequence and the print of each.
    ahead: Vec<(u64, String)>,
}

pub(super) async fn copy(
    stores: &Stores,
    info: &StreamInfo,
    seen: &(dyn Fn(Step) + Send + Sync),
) -> Result<CopyReport> {
    let name = &info.spec.name;
    let mut report = CopyReport::default();
    let target = match stores.to.bus().stream(name).await {
        Ok(target) => target,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            stores.to.bus().create_stream(&info.spec).await.map_err(into)?
        }
        Err(error) => return Err(into(error)),
    };
    remark(info, &target, &mut report);
    let bucket = BucketName::parse(PROGRESS_BUCKET)?;
    let open = Open::ensure(BucketSpec::default());
    let messages = Messages {
        name: name.clone(),
        source: stores.from.bus(),
        target: stores.to.bus(),
        notes: stores.to.kv(&bucket, open).await.map_err(into)?,
        key: Key::parse(name.as_str())?,
        seen,
    };
    let mut at = messages.begin(info, &target, &mut report).await?;
    let (mut is_settled, mut lacking) = (false, 0);
    for _pass in 0..PASSES_MAX {
        let before = report.copied;
        lacking += messages.pass(&mut at, &mut report).await?;
        is_settled = report.copied == before;
        if is_settled {
            break;
        }
    }
    if lacking > 0 {
        let copied = report.copied;
        report.remark(format!("the destination has let go of {lacking} of these {copied} already"));
    }
    report.verified = is_settled && (lacking == 0 || lets_go(&target));
    Ok(report)
}

fn remark(source: &StreamInfo, target: &StreamInfo, report: &mut CopyReport) {
    let (ours, theirs) = (&source.spec, &target.spec);
    let mut differs = |what: &str, differs: bool| {
        if differs {
            report.remark(format!("the destination's stream has other {what}; they were left"));
        }
    };
    differs("subjects", ours.subjects != theirs.subjects);
    differs("retention", ours.retention != theirs.retention);
    differs(
        "limits",
        (ours.max_age, ours.max_bytes, ours.max_messages)
            != (theirs.max_age, theirs.max_bytes, theirs.max_messages),
    );
    if source.consumers > 0 {
        report.remark(format!(
            "{} durable consumers stay behind: those of the destination begin with the oldest message",
            source.consumers
        ));
    }
}

struct Messages<'a> {
    name: StreamName,
    source: Arc<dyn Bus>,
    target: Arc<dyn Bus>,
    notes: Arc<dyn Kv>,
    key: Key,
    seen: &'a (dyn Fn(Step) + Send + Sync),
}

impl Messages<'_> {
    /// Where to go on: behind what the note says, and what was sent of the stretch it tells of.
    async fn begin(
        &self,
        source: &StreamInfo,
        target: &StreamInfo,
        report: &mut CopyReport,
    ) -> Result<Note> {
        let created = unix_ms(source.created);
        let noted = self.notes.get(&self.key, Read::Fresh).await.map_err(into)?;
        let noted = noted.and_then(|entry| serde_json::from_slice::<Note>(&entry.value).ok());
        let mut at = match noted.filter(|noted| noted.source_created == created) {
            Some(noted) => noted,
            None => Note { source_created: created, ..Note::default() },
        };
        if target.last_sequence < at.sequence {
            return Err(self.foreign("the stream has fewer messages than were copied into it"));
        }
        let mut theirs = self.target.read_stream(&self.name, ReadStream::all().after(at.sequence));
        let mut ahead = std::mem::take(&mut at.ahead).into_iter();
        while let Some(there) = theirs.try_next().await.map_err(into)? {
            match ahead.next() {
                Some((source_sequence, sent)) if sent == print(&there.message) => {
                    (at.source_sequence, at.sequence) = (source_sequence, there.sequence);
                    report.unchanged += 1;
                    (self.seen)(Step::one(there.message.payload.len()));
                }
                _ => {
                    return Err(self.foreign("the stream has messages that were not copied"));
                }
            }
        }
        Ok(at)
    }

    /// Copies what the source has behind `at`, and says how much of it the destination has let go
    /// of again.
    async fn pass(&self, at: &mut Note, report: &mut CopyReport) -> Result<u64> {
        let read = ReadStream::all().after(at.source_sequence);
        let mut ours = self.source.read_stream(&self.name, read).fuse();
        let mut lacking = 0;
        loop {
            let stretch = next_stretch(&mut ours).await.map_err(out_of)?;
            if stretch.is_empty() {
                return Ok(lacking);
            }
            at.ahead = stretch.iter().map(|it| (it.sequence, print(&it.message))).collect();
            self.note(at).await?;
            let mut sent = BTreeMap::new();
            for (here, (_, print)) in stretch.into_iter().zip(std::mem::take(&mut at.ahead)) {
                let bytes = here.message.payload.len();
                let opts = AppendOpts::new().stream(self.name.clone());
                let kept = self.target.append(here.message, opts).await.map_err(cut_off)?;
                sent.insert(kept.sequence, print);
                (at.source_sequence, at.sequence) = (here.sequence, kept.sequence);
                report.copied += 1;
                report.bytes += bytes as u64;
                (self.seen)(Step::one(bytes));
            }
            self.note(at).await?;
            lacking += self.check(sent).await?;
        }
    }

    /// Reads back what was sent, by sequence; how many are not there (any more).
    async fn check(&self, mut sent: BTreeMap<u64, String>) -> Result<u64> {
        let (Some((first, _)), Some((last, _))) = (sent.first_key_value(), sent.last_key_value())
        else {
            return Ok(0);
        };
        let (before, last) = (first.saturating_sub(1), *last);
        let mut theirs = self.target.read_stream(&self.name, ReadStream::all().after(before));
        while let Some(there) = theirs.try_next().await.map_err(into)? {
            if there.sequence > last {
                break;
            }
            match sent.remove(&there.sequence) {
                Some(sent) if sent == print(&there.message) => {}
                Some(_other) => {
                    return Err(Error::new(ErrorKind::Corrupt, "copy.stream")
                        .because("the destination keeps another message than it was sent")
                        .with("stream", &self.name)
                        .with("sequence", there.sequence));
                }
                None => {
                    return Err(self.foreign("somebody else's message stands between the copied"));
                }
            }
        }
        Ok(sent.len() as u64)
    }

    async fn note(&self, at: &Note) -> Result<()> {
        let note = serde_json::to_vec(at)
            .map_err(|error| Error::new(ErrorKind::Internal, "copy.stream").caused_by(error))?;
        self.notes.put(&self.key, note.into(), PutOpts::new()).await.map_err(into)?;
        Ok(())
    }

    fn foreign(&self, why: &str) -> Error {
        Error::new(ErrorKind::Conflict, "copy.stream").because(why).with("stream", &self.name).hint(
            "somebody else appends to the destination's stream, or purges it; to begin anew: \
             `jetbridge --store DESTINATION stream rm NAME`, and copy again",
        )
    }
}

/// The next messages, of a bounded number and size; none at the end.
async fn next_stretch(
    ours: &mut (impl Stream<Item = Result<StreamMessage>> + Unpin),
) -> Result<Vec<StreamMessage>> {
    let (mut stretch, mut bytes) = (Vec::new(), 0);
    while stretch.len() < STRETCH_MESSAGES && bytes < STRETCH_BYTES {
        let Some(one) = ours.try_next().await? else { break };
        bytes += one.message.payload.len();
        stretch.push(one);
    }
    Ok(stretch)
}

/// Tells messages apart by all that a copy carries over: the digest of it, each part behind its
/// length. It is noted in the destination, where any later release must find the same.
fn print(message: &Message) -> String {
    let fields = fields(&message.headers);
    let fields = fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
    let mut bytes = Vec::with_capacity(message.payload.len());
    for part in std::iter::once(message.subject.as_str().as_bytes()).chain(fields) {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part);
    }
    // Told from a field: no part follows it.
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.extend(&message.payload);
    Digest::of(&bytes).to_string()
}

/// True if the stream removes messages by itself, or its consumers do.
fn lets_go(target: &StreamInfo) -> bool {
    let spec = &target.spec;
    let by_consumers = match spec.retention {
        Retention::Interest => target.consumers > 0,
        Retention::Limits => false,
        Retention::WorkQueue => true,
    };
    by_consumers
        || spec.max_age.is_some()
        || spec.max_bytes.is_some()
        || spec.max_messages.is_some()
        || spec.max_messages_per_subject.is_some()
}

/// A message whose acknowledgement is lost may be there: the next run looks.
fn cut_off(error: Error) -> Error {
    let unknown = error.outcome() == Outcome::Unknown;
    let error = into(error);
    if unknown { error.hint("run the copy again: it goes on where this one was") } else { error }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
