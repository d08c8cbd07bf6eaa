//! Streams: their messages in order, each once.
//!
//! How far a copy has come is kept in a bucket of the destination, after every stretch that it
//! has acknowledged. What landed behind that, because the copy was cut off, is compared with the
//! source message by message; so nothing is copied twice, and nothing is taken for copied that
//! somebody else appended.

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jetbridge_core::{
    AppendOpts, BucketName, BucketSpec, Bus, Error, ErrorKind, Key, Kv, Open, Outcome, PutOpts,
    Read, ReadStream, Result, StreamInfo, StreamMessage, StreamName, StreamSpec,
};
use serde::{Deserialize, Serialize};
use tokio::task::unconstrained;

use super::report::{CopyReport, Step};
use super::{PASSES_MAX, Stores, into, out_of};

/// Where the destination keeps how far each stream has come.
pub(super) const PROGRESS_BUCKET: &str = "jetbridge-copies";

/// Messages on their way at once, where the store keeps them in the order in which they are sent.
const WINDOW: usize = 512;
/// Messages between two notes of how far it is: what has to be compared after a copy was cut off.
const STRETCH: usize = 8192;

/// Messages of a stream, in order.
type Ordered = BoxStream<'static, Result<StreamMessage>>;

/// How far a stream has come: the last message of the source, and the one it became.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Position {
    /// When the source's stream was made, Unix milliseconds: another of the same name begins anew.
    source_created: u64,
    source_sequence: u64,
    sequence: u64,
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
        window: if stores.to.capabilities().ordered_appends { WINDOW } else { 1 },
        seen,
    };
    let start = messages.begin(info, &target).await?;
    report.unchanged = start.found;
    let (mut at, mut is_settled) = (start.at, false);
    for _pass in 0..PASSES_MAX {
        let before = report.copied;
        at = messages.pass(at, &mut report).await?;
        is_settled = report.copied == before;
        if is_settled {
            break;
        }
    }
    report.verified = is_settled && messages.verify(start.noted, at, &target, &mut report).await?;
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

/// Where a copy goes on.
struct Begun {
    /// Up to where the notes say it had come.
    noted: Position,
    /// Up to where it had come.
    at: Position,
    /// Messages between the two.
    found: u64,
}

struct Messages<'a> {
    name: StreamName,
    source: Arc<dyn Bus>,
    target: Arc<dyn Bus>,
    notes: Arc<dyn Kv>,
    key: Key,
    window: usize,
    seen: &'a (dyn Fn(Step) + Send + Sync),
}

impl Messages<'_> {
    /// Where to go on: behind what the notes say, and what a copy before had sent beyond them.
    async fn begin(&self, source: &StreamInfo, target: &StreamInfo) -> Result<Begun> {
        let created = unix_ms(source.created);
        let noted = self.notes.get(&self.key, Read::Fresh).await.map_err(into)?;
        let noted = noted.and_then(|entry| serde_json::from_slice::<Position>(&entry.value).ok());
        let noted = match noted.filter(|noted| noted.source_created == created) {
            Some(noted) => noted,
            None => Position { source_created: created, ..Position::default() },
        };
        if target.last_sequence < noted.sequence {
            return Err(self.foreign("the stream has fewer messages than were copied into it"));
        }
        let (mut ours, mut theirs) = self.both_after(noted);
        let (mut at, mut found) = (noted, 0);
        while let Some(there) = theirs.try_next().await.map_err(into)? {
            loop {
                let Some(here) = ours.try_next().await.map_err(out_of)? else {
                    return Err(self.foreign("the stream has messages that are not the source's"));
                };
                if here.message == there.message {
                    at.source_sequence = here.sequence;
                    at.sequence = there.sequence;
                    found += 1;
                    (self.seen)(Step::one(here.message.payload.len()));
                    break;
                }
            }
        }
        Ok(Begun { noted, at, found })
    }

    /// Both streams behind a position.
    fn both_after(&self, at: Position) -> (Ordered, Ordered) {
        let read =
            |bus: &Arc<dyn Bus>, after| bus.read_stream(&self.name, ReadStream::all().after(after));
        (read(&self.source, at.source_sequence), read(&self.target, at.sequence))
    }

    /// Reads both streams between two positions. The destination may lack what its limits have
    /// removed since, and nothing else.
    async fn verify(
        &self,
        begin: Position,
        end: Position,
        target: &StreamInfo,
        report: &mut CopyReport,
    ) -> Result<bool> {
        let (mut ours, mut theirs) = self.both_after(begin);
        let (mut sent, mut kept) = (0_u64, 0_u64);
        while let Some(there) = theirs.try_next().await.map_err(into)? {
            if there.sequence > end.sequence {
                break;
            }
            loop {
                let Some(here) = ours.try_next().await.map_err(out_of)? else {
                    return Err(self.foreign("the stream has messages that are not the source's"));
                };
                sent += 1;
                if here.message == there.message {
                    kept += 1;
                    break;
                }
            }
        }
        while let Some(here) = ours.try_next().await.map_err(out_of)? {
            if here.sequence > end.source_sequence {
                break;
            }
            sent += 1;
        }
        if kept < sent {
            report.remark(format!("the destination keeps {kept} of these {sent} messages"));
        }
        Ok(kept == sent || is_limited(&target.spec))
    }

    /// Copies what the source has behind `at`, and says where that ends.
    async fn pass(&self, mut at: Position, report: &mut CopyReport) -> Result<Position> {
        let read = ReadStream::all().after(at.source_sequence);
        let mut ours = self.source.read_stream(&self.name, read).map_err(out_of).peekable();
        while Pin::new(&mut ours).peek().await.is_some() {
            let stretch: Vec<StreamMessage> = ours.by_ref().take(STRETCH).try_collect().await?;
            // Tokio's budget would put messages off behind later ones.
            at = unconstrained(self.append(at, stretch, report)).await?;
            self.note(at).await?;
        }
        Ok(at)
    }

    async fn append(
        &self,
        mut at: Position,
        stretch: Vec<StreamMessage>,
        report: &mut CopyReport,
    ) -> Result<Position> {
        let mut sent = stream::iter(stretch)
            .map(|one| async move {
                let (sequence, bytes) = (one.sequence, one.message.payload.len());
                let opts = AppendOpts::new().stream(self.name.clone());
                let kept = self.target.append(one.message, opts).await.map_err(cut_off)?;
                Ok::<_, Error>((sequence, bytes, kept.sequence))
            })
            .buffered(self.window);
        while let Some((source_sequence, bytes, sequence)) = sent.try_next().await? {
            if sequence <= at.sequence {
                return Err(Error::new(ErrorKind::Internal, "copy.stream")
                    .because("the store did not keep the messages in the order they were sent in")
                    .with("stream", &self.name)
                    .with("sequence", sequence));
            }
            at.source_sequence = source_sequence;
            at.sequence = sequence;
            report.copied += 1;
            report.bytes += bytes as u64;
            (self.seen)(Step::one(bytes));
        }
        Ok(at)
    }

    async fn note(&self, at: Position) -> Result<()> {
        let note = serde_json::to_vec(&at)
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

/// True if the stream removes messages by itself.
fn is_limited(spec: &StreamSpec) -> bool {
    spec.max_age.is_some()
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
