//! The wire between a member and the owner: frames of a length and a body.
//!
//! A frame is `length: u32`, `kind: u8`, then fields in the order of the variant's declaration;
//! numbers are little-endian, texts carry their length. The wire never leaves the host and both
//! ends run the same layout, which [`VERSION`] in the first frame makes sure of; so there is no
//! negotiation and no optional field. What does not parse ends the connection: guessing would
//! deliver a message to the wrong subject. This module knows no sockets and no subscriptions.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jetbridge_core::{GroupName, Headers, Message, Pattern, Subject};

/// Grows with every change of the layout; ends of different versions refuse each other.
pub(super) const VERSION: u8 = 1;
/// Opens a [`Frame::Hello`], so that a stray client is told apart from an old version.
const MAGIC: u32 = u32::from_le_bytes(*b"JBHB");
/// Bytes of payload and headers of one message at most: eight times what a NATS server takes by
/// default, and few enough that four of them fit a connection's buffer.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of one frame at most: headers take up to twice their NATS size here, and subjects and
/// picked subscriptions come on top.
pub(super) const FRAME_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX + (64 << 10);
/// Bytes of the length in front of a frame.
const PREFIX_BYTES: usize = 4;
/// Bodies up to this size are copied out of the read buffer, several to a page, so that a message
/// that waits for a slow reader does not keep a whole buffer alive, nor costs an allocation.
const COPY_BYTES_MAX: usize = 1 << 10;
/// What a message that waits keeps alive at most, if it is small.
const PAGE_BYTES: usize = 4 << 10;

/// What travels; the first group from member to owner, the second back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Frame {
    /// First: who comes, and whether it has been a member before.
    Hello { member: u64, rejoins: bool },
    /// Interest in a pattern, under an id of the member's choice.
    Subscribe { sid: u64, group: Option<GroupName>, pattern: Pattern },
    /// That interest ends.
    Unsubscribe { sid: u64 },
    /// A message for all but the member's own plain subscriptions, which have it already. With
    /// `asks`, the member wants to know if nobody gets it.
    Publish { asks: bool, message: Message },
    /// Interest in wake-ups of a topic; answered with one, so that none can fall in between. The
    /// id tells it from later interest in the same topic, which may overtake its end.
    Watch { id: u64, topic: Box<str> },
    /// That interest ends.
    Unwatch { id: u64, topic: Box<str> },
    /// Something happened. Goes both ways.
    Wake { topic: Box<str> },
    /// To be answered when everything before it is done.
    Ping { token: u64 },
    /// The member has announced all its interest.
    Synced,

    /// The answer to `Hello`.
    Welcome,
    /// A message: for all plain subscriptions that match if `plain`, and for the picked ones.
    Deliver { plain: bool, picks: Vec<u64>, message: Message },
    /// So many messages did not fit the connection's buffer for this subscription.
    Dropped { sid: u64, count: u64 },
    /// The answer to `Ping`; with how many publishes of this connection have been handled.
    Pong { token: u64, received: u64 },
    /// Nobody else waits for this topic: no more wake-ups for it, until told to.
    Hush { topic: Box<str> },
    /// Somebody does again: the answer is a wake-up, for what was not told meanwhile.
    Rouse { topic: Box<str> },
    /// Nobody got the publish with this reply subject.
    Unanswered { reply: Subject },
    /// So many publishes of this connection have been handled.
    Received { count: u64 },
    /// Last: the owner leaves in order, and has handled only what it said it has.
    Leaving,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Malformed {
    /// A field does not parse, or the frame is too short or too long.
    Layout,
    /// The other end speaks another version.
    Version(u8),
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Layout => f.write_str("bytes that are no frame"),
            Self::Version(theirs) => write!(f, "wire version {theirs}, this is {VERSION}"),
        }
    }
}

impl std::error::Error for Malformed {}

const HELLO: u8 = 1;
const SUBSCRIBE: u8 = 2;
const UNSUBSCRIBE: u8 = 3;
const PUBLISH: u8 = 4;
const WATCH: u8 = 5;
const UNWATCH: u8 = 6;
const WAKE: u8 = 7;
const PING: u8 = 8;
const SYNCED: u8 = 9;
const WELCOME: u8 = 32;
const DELIVER: u8 = 33;
const DROPPED: u8 = 34;
const PONG: u8 = 35;
const UNANSWERED: u8 = 36;
const RECEIVED: u8 = 37;
const LEAVING: u8 = 38;
const HUSH: u8 = 39;
const ROUSE: u8 = 40;

impl Frame {
    /// Appends the frame to `out`.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { member, rejoins } => framed(out, HELLO, |out| {
                out.put_u32_le(MAGIC);
                out.put_u8(VERSION);
                out.put_u64_le(*member);
                out.put_u8(u8::from(*rejoins));
            }),
            Self::Subscribe { sid, group, pattern } => framed(out, SUBSCRIBE, |out| {
                out.put_u64_le(*sid);
                put_text(out, group.as_ref().map_or("", GroupName::as_str));
                put_text(out, pattern.as_str());
            }),
            Self::Unsubscribe { sid } => framed(out, UNSUBSCRIBE, |out| out.put_u64_le(*sid)),
            Self::Publish { asks, message } => framed(out, PUBLISH, |out| {
                out.put_u8(u8::from(*asks));
                put_message(out, message);
            }),
            Self::Watch { id, topic } => framed(out, WATCH, |out| {
                out.put_u64_le(*id);
                put_text(out, topic);
            }),
            Self::Unwatch { id, topic } => framed(out, UNWATCH, |out| {
                out.put_u64_le(*id);
                put_text(out, topic);
            }),
            Self::Wake { topic } => framed(out, WAKE, |out| put_text(out, topic)),
            Self::Ping { token } => framed(out, PING, |out| out.put_u64_le(*token)),
            Self::Synced => framed(out, SYNCED, |_| {}),
            Self::Welcome => framed(out, WELCOME, |out| out.put_u8(VERSION)),
            Self::Deliver { plain, picks, message } => encode_deliver(out, *plain, picks, message),
            Self::Dropped { sid, count } => framed(out, DROPPED, |out| {
                out.put_u64_le(*sid);
                out.put_u64_le(*count);
            }),
            Self::Pong { token, received } => framed(out, PONG, |out| {
                out.put_u64_le(*token);
                out.put_u64_le(*received);
            }),
            Self::Hush { topic } => framed(out, HUSH, |out| put_text(out, topic)),
            Self::Rouse { topic } => framed(out, ROUSE, |out| put_text(out, topic)),
            Self::Unanswered { reply } => {
                framed(out, UNANSWERED, |out| put_text(out, reply.as_str()));
            }
            Self::Received { count } => framed(out, RECEIVED, |out| out.put_u64_le(*count)),
            Self::Leaving => framed(out, LEAVING, |_| {}),
        }
    }
}

/// Takes frames out of what has been read.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// What has been read.
    pub(super) buffer: BytesMut,
    page: BytesMut,
}

impl Decoder {
    /// Takes one frame off the front of the buffer; `None` if it is not all there yet.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, Malformed> {
        let Self { buffer, page } = self;
        let Some(prefix) = buffer.get(..PREFIX_BYTES) else { return Ok(None) };
        let length = prefix.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length > FRAME_BYTES_MAX {
            return Err(Malformed::Layout);
        }
        if buffer.len() < PREFIX_BYTES + length {
            buffer.reserve(PREFIX_BYTES + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(PREFIX_BYTES);
        let body = if length > COPY_BYTES_MAX {
            buffer.split_to(length)
        } else {
            if page.capacity() < length {
                *page = BytesMut::with_capacity(PAGE_BYTES);
            }
            page.extend_from_slice(&buffer[..length]);
            buffer.advance(length);
            page.split()
        };
        parse(Fields(body.freeze())).map(Some)
    }
}

/// Appends a [`Frame::Deliver`] without making one first: the hot path of the owner.
pub(super) fn encode_deliver(out: &mut BytesMut, plain: bool, picks: &[u64], message: &Message) {
    framed(out, DELIVER, |out| {
        out.put_u8(u8::from(plain));
        put_length(out, picks.len());
        for sid in picks {
            out.put_u64_le(*sid);
        }
        put_message(out, message);
    });
}

/// Bytes a message takes, nearly: what queues are measured by.
pub(super) fn message_bytes(message: &Message) -> usize {
    // Names are short, and the values around the bytes take more.
    size_of::<Message>() + message.headers.wire_bytes() + message.payload.len()
}

fn framed(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32_le(0);
    out.put_u8(kind);
    body(out);
    let length = u32::try_from(out.len() - start - PREFIX_BYTES).unwrap_or(u32::MAX);
    out[start..start + PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Every length fits: a message is at most [`MESSAGE_BYTES_MAX`], a name far below that.
fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put_text(out: &mut BytesMut, text: &str) {
    put_length(out, text.len());
    out.put_slice(text.as_bytes());
}

fn put_message(out: &mut BytesMut, message: &Message) {
    put_text(out, message.subject.as_str());
    put_text(out, message.reply.as_ref().map_or("", Subject::as_str));
    put_length(out, message.headers.len());
    for (name, value) in message.headers.iter() {
        put_text(out, name);
        put_text(out, value);
    }
    out.put_slice(&message.payload);
}

/// The rest of a body.
struct Fields(Bytes);

impl Fields {
    fn bytes(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if self.0.len() < length {
            return Err(Malformed::Layout);
        }
        Ok(self.0.split_to(length))
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_short| Malformed::Layout)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        Ok(self.u8()? != 0)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64_le().map_err(|_short| Malformed::Layout)
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let length = self.0.try_get_u32_le().map_err(|_short| Malformed::Layout)?;
        usize::try_from(length).map_err(|_huge| Malformed::Layout)
    }

    fn raw_text(&mut self) -> Result<Bytes, Malformed> {
        let length = self.length()?;
        self.bytes(length)
    }

    fn text(&mut self) -> Result<Box<str>, Malformed> {
        let raw = self.raw_text()?;
        std::str::from_utf8(&raw).map(Into::into).map_err(|_not_text| Malformed::Layout)
    }

    fn subject(&mut self) -> Result<Subject, Malformed> {
        Subject::from_wire(self.raw_text()?).map_err(|_not_text| Malformed::Layout)
    }

    fn message(mut self) -> Result<Message, Malformed> {
        let subject = self.subject()?;
        let reply = self.subject()?;
        let mut headers = Headers::new();
        for _ in 0..self.length()? {
            let (name, value) = (self.text()?, self.text()?);
            headers.push_wire(&name, &value);
        }
        let mut message = Message::new(subject, self.0).headers(headers);
        if !reply.as_str().is_empty() {
            message.reply = Some(reply);
        }
        Ok(message)
    }
}

fn parse(mut fields: Fields) -> Result<Frame, Malformed> {
    Ok(match fields.u8()? {
        HELLO => {
            if fields.0.try_get_u32_le() != Ok(MAGIC) {
                return Err(Malformed::Layout);
            }
            check_version(fields.u8()?)?;
            Frame::Hello { member: fields.u64()?, rejoins: fields.flag()? }
        }
        SUBSCRIBE => {
            let (sid, group, pattern) = (fields.u64()?, fields.text()?, fields.text()?);
            let group = match &*group {
                "" => None,
                group => Some(GroupName::parse(group).map_err(|_illegal| Malformed::Layout)?),
            };
            let pattern = Pattern::parse(&*pattern).map_err(|_illegal| Malformed::Layout)?;
            Frame::Subscribe { sid, group, pattern }
        }
        UNSUBSCRIBE => Frame::Unsubscribe { sid: fields.u64()? },
        PUBLISH => Frame::Publish { asks: fields.flag()?, message: fields.message()? },
        WATCH => Frame::Watch { id: fields.u64()?, topic: fields.text()? },
        UNWATCH => Frame::Unwatch { id: fields.u64()?, topic: fields.text()? },
        WAKE => Frame::Wake { topic: fields.text()? },
        PING => Frame::Ping { token: fields.u64()? },
        SYNCED => Frame::Synced,
        WELCOME => {
            check_version(fields.u8()?)?;
            Frame::Welcome
        }
        DELIVER => {
            let plain = fields.flag()?;
            let count = fields.length()?;
            let picks = (0..count).map(|_| fields.u64()).collect::<Result<_, _>>()?;
            Frame::Deliver { plain, picks, message: fields.message()? }
        }
        DROPPED => Frame::Dropped { sid: fields.u64()?, count: fields.u64()? },
        PONG => Frame::Pong { token: fields.u64()?, received: fields.u64()? },
        HUSH => Frame::Hush { topic: fields.text()? },
        ROUSE => Frame::Rouse { topic: fields.text()? },
        UNANSWERED => Frame::Unanswered { reply: fields.subject()? },
        RECEIVED => Frame::Received { count: fields.u64()? },
        LEAVING => Frame::Leaving,
        _ => return Err(Malformed::Layout),
    })
}

fn check_version(theirs: u8) -> Result<(), Malformed> {
    if theirs == VERSION { Ok(()) } else { Err(Malformed::Version(theirs)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let headers = Headers::new().with("A", "1").unwrap().with("B", "").unwrap();
        Message::new(Subject::parse("a.b").unwrap(), "payload")
            .headers(headers)
            .reply(Subject::parse("r").unwrap())
    }

    fn all() -> Vec<Frame> {
        let bare = Message::new(Subject::parse("x").unwrap(), vec![7; 2 * COPY_BYTES_MAX]);
        let (group, pattern) = (GroupName::parse("g").unwrap(), Pattern::parse("a.*.>").unwrap());
        let topic: Box<str> = "kv/é".into();
        vec![
            Frame::Hello { member: u64::MAX, rejoins: true },
            Frame::Subscribe { sid: 1, group: Some(group), pattern: pattern.clone() },
            Frame::Subscribe { sid: 2, group: None, pattern },
            Frame::Unsubscribe { sid: 3 },
            Frame::Publish { asks: true, message: message() },
            Frame::Publish { asks: false, message: bare },
            Frame::Watch { id: 12, topic: topic.clone() },
            Frame::Unwatch { id: 12, topic: topic.clone() },
            Frame::Wake { topic: topic.clone() },
            Frame::Hush { topic: topic.clone() },
            Frame::Rouse { topic },
            Frame::Ping { token: 4 },
            Frame::Synced,
            Frame::Welcome,
            Frame::Deliver { plain: true, picks: vec![5, 6], message: message() },
            Frame::Dropped { sid: 7, count: 8 },
            Frame::Pong { token: 9, received: 10 },
            Frame::Unanswered { reply: Subject::parse("r").unwrap() },
            Frame::Received { count: 11 },
            Frame::Leaving,
        ]
    }

    fn decoder(read: &[u8]) -> Decoder {
        Decoder { buffer: BytesMut::from(read), ..Decoder::default() }
    }

    #[test]
    fn every_frame_comes_back_as_it_was() {
        let mut decoder = Decoder::default();
        for frame in all() {
            frame.encode(&mut decoder.buffer);
        }
        for frame in all() {
            assert_eq!(decoder.next(), Ok(Some(frame)));
        }
        assert_eq!(decoder.next(), Ok(None));
    }

    #[test]
    fn a_part_of_a_frame_is_no_frame_yet() {
        for frame in all() {
            let mut whole = BytesMut::new();
            frame.encode(&mut whole);
            for end in 0..whole.len() {
                let mut decoder = decoder(&whole[..end]);
                assert_eq!(decoder.next(), Ok(None), "{frame:?} cut at {end}");
                decoder.buffer.extend_from_slice(&whole[end..]);
                assert_eq!(decoder.next().as_ref(), Ok(&Some(frame.clone())));
                if end > 64 {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_does_not_parse_is_refused() {
        let refused = |bytes: &[u8]| decoder(bytes).next().unwrap_err();
        assert_eq!(refused(&[0xff, 0xff, 0xff, 0x7f]), Malformed::Layout, "too long");
        assert_eq!(refused(&[0, 0, 0, 0]), Malformed::Layout, "empty");
        assert_eq!(refused(&[1, 0, 0, 0, 200]), Malformed::Layout, "unknown kind");
        assert_eq!(refused(&[2, 0, 0, 0, PING, 1]), Malformed::Layout, "short");
        assert_eq!(refused(&[2, 0, 0, 0, WELCOME, 9]), Malformed::Version(9));
        let mut hello = BytesMut::new();
        Frame::Hello { member: 1, rejoins: false }.encode(&mut hello);
        hello[6] ^= 1;
        assert_eq!(refused(&hello), Malformed::Layout, "not our magic");
    }
}
