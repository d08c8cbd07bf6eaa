//! One stream: the messages it keeps, in order, within its limits.
//!
//! Pure state: its owner holds the lock, gives it the time and wakes readers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::durable::Durable;
use super::over_limit;
use crate::bus::{AppendOpts, Appended, Consume, ConsumeStart, Message};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ConsumerName, Pattern, StreamName, Subject};
use crate::stream::{Discard, Retention, StreamInfo, StreamMessage, StreamSpec};

/// Messages by sequence.
pub(super) type Messages = BTreeMap<u64, StreamMessage>;

/// A stream. Its identity is that of `changed`: one made anew under the same name is another.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) spec: StreamSpec,
    created: SystemTime,
    last: u64,
    bytes: u64,
    messages: Messages,
    subjects: HashMap<Subject, BTreeSet<u64>>,
    ids: HashMap<Box<str>, u64>,
    ids_by_age: VecDeque<(SystemTime, Box<str>)>,
    durables: BTreeMap<ConsumerName, Durable>,
    /// Told whenever there is something new to read, and when the stream is deleted.
    pub(super) changed: Arc<Notify>,
}

impl Log {
    pub(super) fn new(spec: StreamSpec, created: SystemTime) -> Self {
        Self {
            spec,
            created,
            last: 0,
            bytes: 0,
            messages: BTreeMap::new(),
            subjects: HashMap::new(),
            ids: HashMap::new(),
            ids_by_age: VecDeque::new(),
            durables: BTreeMap::new(),
            changed: Arc::new(Notify::new()),
        }
    }

    pub(super) fn keeps(&self, subject: &Subject) -> bool {
        self.spec.subjects.iter().any(|pattern| pattern.matches(subject.as_str()))
    }

    pub(super) fn overlaps(&self, other: &StreamSpec) -> bool {
        self.spec.subjects.iter().any(|mine| other.subjects.iter().any(|it| mine.overlaps(it)))
    }

    /// Takes `message`, unless it is a duplicate, a condition fails or a limit says no.
    pub(super) fn append(
        &mut self,
        message: Message,
        opts: &AppendOpts,
        now: SystemTime,
    ) -> Result<Appended> {
        if let Some(sequence) = opts.id.as_ref().and_then(|id| self.ids.get(id)) {
            return Ok(Appended::new(self.spec.name.clone(), *sequence, true));
        }
        self.check_last(&message.subject, opts)?;
        let bytes = size(&message);
        self.check_room(bytes)?;
        self.last += 1;
        if let Some(id) = &opts.id {
            self.ids.insert(id.clone(), self.last);
            self.ids_by_age.push_back((now, id.clone()));
        }
        if self.spec.retention != Retention::Interest || self.is_wanted(&message.subject) {
            let subject = message.subject.clone();
            self.subjects.entry(subject.clone()).or_default().insert(self.last);
            let stored = Message { reply: None, ..message };
            self.messages.insert(self.last, StreamMessage::new(stored, self.last, now));
            self.bytes += bytes;
            self.trim_subject(&subject);
            self.trim(now);
        }
        Ok(Appended::new(self.spec.name.clone(), self.last, false))
    }

    /// Removes what is over the limits at `now`.
    pub(super) fn trim(&mut self, now: SystemTime) {
        let window = self.spec.remembers();
        while let Some((_, id)) = self.ids_by_age.pop_front_if(|(at, _)| is_past(*at, window, now))
        {
            self.ids.remove(&id);
        }
        while let Some((sequence, oldest)) = self.messages.first_key_value() {
            let too_old = self.spec.max_age.is_some_and(|age| is_past(oldest.stored, age, now));
            let too_many =
                self.spec.max_messages.is_some_and(|most| self.messages.len() as u64 > most);
            let too_large = self.spec.max_bytes.is_some_and(|most| self.bytes > most);
            if !(too_old || too_many || too_large) {
                break;
            }
            self.remove(*sequence);
        }
    }

    /// Applies other settings to what is there.
    pub(super) fn set_spec(&mut self, spec: StreamSpec, now: SystemTime) {
        self.spec = spec;
        for subject in self.subjects.keys().cloned().collect::<Vec<_>>() {
            self.trim_subject(&subject);
        }
        self.trim(now);
    }

    /// Removes the messages on subjects of `filter`; returns how many.
    pub(super) fn purge(&mut self, filter: Option<&Pattern>) -> u64 {
        let wanted = |message: &&StreamMessage| {
            filter.is_none_or(|filter| filter.matches(message.message.subject.as_str()))
        };
        let purged: Vec<u64> =
            self.messages.values().filter(wanted).map(|message| message.sequence).collect();
        for sequence in &purged {
            self.remove(*sequence);
        }
        purged.len() as u64
    }

    /// The first message behind `sequence` that `filter` wants, but none behind `end`.
    pub(super) fn next(
        &self,
        sequence: u64,
        end: u64,
        filter: Option<&Pattern>,
    ) -> Option<&StreamMessage> {
        if sequence >= end {
            return None;
        }
        let behind = self.messages.range(sequence + 1..=end).map(|(_, message)| message);
        let wanted = |message: &&StreamMessage| {
            filter.is_none_or(|filter| filter.matches(message.message.subject.as_str()))
        };
        behind.into_iter().find(wanted)
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn info(&self) -> StreamInfo {
        let mut info = StreamInfo::new(self.spec.clone(), self.created);
        info.messages = self.messages.len() as u64;
        info.bytes = self.bytes;
        let empty = if self.last == 0 { 0 } else { self.last + 1 };
        info.first_sequence = self.messages.keys().next().copied().unwrap_or(empty);
        info.last_sequence = self.last;
        info.consumers = self.durables.len() as u64;
        info
    }

    /// Finds the durable consumer, or makes it.
    pub(super) fn join(&mut self, consume: &Consume) -> Result<()> {
        if let Some(durable) = self.durables.get(&consume.durable) {
            return durable.check_same(consume);
        }
        if self.spec.retention == Retention::WorkQueue {
            self.check_work_queue(consume)?;
        }
        let behind = match consume.start {
            ConsumeStart::First => 0,
            ConsumeStart::New => self.last,
        };
        self.durables.insert(consume.durable.clone(), Durable::new(consume.clone(), behind));
        Ok(())
    }

    /// Forgets a durable consumer, and what was kept for it alone.
    pub(super) fn leave(&mut self, name: &ConsumerName) -> bool {
        let left = self.durables.remove(name).is_some();
        if left && self.spec.retention == Retention::Interest {
            for sequence in self.messages.keys().copied().collect::<Vec<_>>() {
                self.release(sequence);
            }
        }
        left
    }

    /// A durable consumer, and the messages it reads.
    pub(super) fn durable(&mut self, name: &ConsumerName) -> Option<(&mut Durable, &Messages)> {
        Some((self.durables.get_mut(name)?, &self.messages))
    }

    /// Removes a message that a consumer has settled, if nobody needs it any more.
    pub(super) fn release(&mut self, sequence: u64) {
        let Some(message) = self.messages.get(&sequence) else { return };
        let subject = message.message.subject.as_str();
        let done = match self.spec.retention {
            Retention::Limits => false,
            Retention::WorkQueue => true,
            Retention::Interest => {
                !self.durables.values().any(|durable| durable.needs(sequence, subject))
            }
        };
        if done {
            self.remove(sequence);
        }
    }

    /// Keeps the newest messages of one subject, as many as the limit for each says.
    fn trim_subject(&mut self, subject: &Subject) {
        let Some(most) = self.spec.max_messages_per_subject else { return };
        while let Some(sequences) = self.subjects.get(subject)
            && sequences.len() as u64 > most
            && let Some(oldest) = sequences.first().copied()
        {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, sequence: u64) {
        let Some(removed) = self.messages.remove(&sequence) else { return };
        self.bytes -= size(&removed.message);
        if let Some(sequences) = self.subjects.get_mut(&removed.message.subject) {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.subjects.remove(&removed.message.subject);
            }
        }
    }

    fn is_wanted(&self, subject: &Subject) -> bool {
        self.durables.values().any(|durable| durable.wants(subject.as_str()))
    }

    fn check_last(&self, subject: &Subject, opts: &AppendOpts) -> Result<()> {
        let Some(expected) = opts.expect_last_on_subject else { return Ok(()) };
        let last = self.subjects.get(subject).and_then(|it| it.last()).copied().unwrap_or(0);
        if last == expected {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Conflict, "bus.append")
            .because("the last message on the subject is another")
            .with("stream", &self.spec.name)
            .with("subject", subject)
            .with("expected", expected)
            .with("revision", last))
    }

    fn check_room(&self, bytes: u64) -> Result<()> {
        let refuse = |what, is, max| {
            Err(over_limit("bus.append", what, is, max).with("stream", &self.spec.name))
        };
        if let Some(max) = self.spec.max_message_bytes.map(u64::from).filter(|max| bytes > *max) {
            return refuse("message", bytes, max);
        }
        if let Some(max) = self.spec.max_bytes {
            let held = if self.spec.discard == Discard::New { self.bytes } else { 0 };
            if held + bytes > max {
                return refuse("stream", held + bytes, max);
            }
        }
        let count = self.messages.len() as u64;
        match self.spec.max_messages {
            Some(max) if self.spec.discard == Discard::New && count >= max => {
                refuse("stream (messages)", count + 1, max)
            }
            _ => Ok(()),
        }
    }

    /// Every message of a work queue goes to exactly one consumer.
    fn check_work_queue(&self, consume: &Consume) -> Result<()> {
        let refuse = |why: &str| {
            Err(Error::new(ErrorKind::InvalidInput, "bus.consume")
                .because(why)
                .with("stream", &self.spec.name)
                .with("durable", &consume.durable))
        };
        if consume.start == ConsumeStart::New {
            return refuse("a consumer of a work queue begins with the first message");
        }
        if self.durables.values().any(|durable| durable.overlaps(consume)) {
            return refuse("another consumer of this work queue takes some of these messages");
        }
        Ok(())
    }
}

/// Checks `spec` and replaces wishes by what this store does; no subject is the stream's name.
pub(super) fn normalised(spec: &StreamSpec, operation: &'static str) -> Result<StreamSpec> {
    let mut spec = spec.clone();
    if spec.subjects.is_empty() {
        spec.subjects.push(Pattern::parse(spec.name.as_str())?);
    }
    let subjects = &spec.subjects;
    let twice =
        subjects.iter().enumerate().any(|(at, it)| subjects[..at].iter().any(|a| a.overlaps(it)));
    if twice {
        return Err(Error::new(ErrorKind::InvalidInput, operation)
            .because("two subjects of the stream overlap")
            .with("stream", &spec.name));
    }
    spec.replicas = 1;
    spec.storage = crate::backend::Storage::Memory;
    spec.placement = None;
    Ok(spec)
}

/// What is different between two settings, by name.
pub(super) fn differences(wanted: &StreamSpec, present: &StreamSpec) -> Vec<&'static str> {
    let per_subject = wanted.max_messages_per_subject != present.max_messages_per_subject;
    let fields = [
        ("subjects", wanted.subjects != present.subjects),
        ("retention", wanted.retention != present.retention),
        ("discard", wanted.discard != present.discard),
        ("max_age", wanted.max_age != present.max_age),
        ("max_bytes", wanted.max_bytes != present.max_bytes),
        ("max_messages", wanted.max_messages != present.max_messages),
        ("max_messages_per_subject", per_subject),
        ("max_message_bytes", wanted.max_message_bytes != present.max_message_bytes),
        ("duplicate_window", !wanted.remembers_as(present)),
        ("description", wanted.description != present.description),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

/// The error that a stream is not there.
pub(super) fn absent(name: &StreamName, operation: &'static str) -> Error {
    Error::new(ErrorKind::NotFound, operation)
        .because("there is no such stream")
        .with("stream", name)
        .hint(format!("create it with `jetbridge stream add {name}`"))
}

fn size(message: &Message) -> u64 {
    let text = message.subject.as_str().len();
    (text + message.headers.wire_bytes() + message.payload.len()) as u64
}

fn is_past(since: SystemTime, age: Duration, now: SystemTime) -> bool {
    since.checked_add(age).is_some_and(|end| end <= now)
}
