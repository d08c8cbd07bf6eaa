//! As much of the NATS protocol as faults and cluster checks need: where a frame ends, what it
//! carries, and one request.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 << 10;

/// One protocol operation, whole.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Everything, line ends included.
    pub(crate) bytes: Bytes,
    /// Where the payload of a message begins, headers left out; `None` for anything else.
    body: Option<usize>,
}

impl Frame {
    /// The payload, if this is a message to a client.
    pub(crate) fn payload(&self) -> Option<&[u8]> {
        self.body.map(|at| &self.bytes[at..self.bytes.len() - 2])
    }

    /// The first word, such as `PING`.
    pub(crate) fn operation(&self) -> &[u8] {
        let end = self.bytes.iter().position(|byte| byte.is_ascii_whitespace());
        &self.bytes[..end.unwrap_or(self.bytes.len())]
    }
}

/// Cuts a byte stream of the server's side into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames(BytesMut);

impl Frames {
    /// Where the next bytes go.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        self.0.reserve(READ_BYTES);
        &mut self.0
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let line = self.0.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let text = std::str::from_utf8(&self.0[..line]).unwrap_or_default();
        let mut words = text.split_ascii_whitespace();
        let (size, body) = match words.next() {
            Some("MSG") => (number(words.next_back()), Some(0)),
            Some("HMSG") => (number(words.next_back()), Some(number(words.next_back()))),
            _ => (0, None),
        };
        let whole = if body.is_some() { line + size + 2 } else { line };
        if self.0.len() < whole {
            return None;
        }
        let bytes = self.0.split_to(whole).freeze();
        Some(Frame { bytes, body: body.map(|headers| (line + headers).min(whole - 2)) })
    }

    /// True if what is left may become a frame.
    pub(crate) fn speak_nats(&self) -> bool {
        let legal = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'+' | b'-');
        self.0.first().is_none_or(legal)
    }

    /// What is left, as it is.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.0.split().freeze()
    }
}

fn number(word: Option<&str>) -> usize {
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A connection that asks one question at a time.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    frames: Frames,
    inbox: String,
}

impl Client {
    /// Connects as nobody.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let inbox = format!("_INBOX.{}", jetbridge_core::random::name());
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"lang\":\"jetbridge-testkit\",\"headers\":true,\
             \"no_responders\":true}}\r\nSUB {inbox} 1\r\n"
        );
        stream.write_all(hello.as_bytes()).await?;
        Ok(Self { stream, frames: Frames::default(), inbox })
    }

    /// The payload of the first answer; empty if nobody listens.
    pub(crate) async fn request(&mut self, subject: &str, payload: &[u8]) -> io::Result<Bytes> {
        let head = format!("PUB {subject} {} {}\r\n", self.inbox, payload.len());
        self.stream.write_all(&[head.as_bytes(), payload, b"\r\n"].concat()).await?;
        loop {
            while let Some(frame) = self.frames.next() {
                if let Some(payload) = frame.payload() {
                    return Ok(Bytes::copy_from_slice(payload));
                }
                match frame.operation() {
                    b"PING" => self.stream.write_all(b"PONG\r\n").await?,
                    b"-ERR" => return Err(io::Error::other(format!("{:?}", frame.bytes))),
                    _ => {}
                }
            }
            if self.stream.read_buf(self.frames.buffer()).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_whole() {
        let mut frames = Frames::default();
        frames
            .buffer()
            .extend_from_slice(b"PING\r\nMSG a 1 5\r\nhe\r\nl\r\nHMSG a 1 b 5 7\r\nN\r\n\r");
        assert_eq!(frames.next().unwrap().operation(), b"PING");
        let message = frames.next().unwrap();
        assert_eq!(message.payload(), Some(b"he\r\nl".as_slice()));
        assert!(frames.next().is_none(), "the rest is not there yet");
        frames.buffer().extend_from_slice(b"\nxy\r\n+OK");
        let message = frames.next().unwrap();
        assert_eq!(message.payload(), Some(b"xy".as_slice()), "{message:?}");
        assert!(frames.next().is_none() && frames.speak_nats());
        assert_eq!(frames.rest(), "+OK");
        frames.buffer().extend_from_slice(b"\x16\x03\x03");
        assert!(frames.next().is_none() && !frames.speak_nats());
    }
}
