//! What the reply subject of a delivered message says: where it stands in its stream.

use std::time::{Duration, SystemTime};

/// The place of a delivery, from `$JS.ACK.STREAM.CONSUMER.ATTEMPT.SEQUENCE.NUMBER.TIME.PENDING`,
/// or from the longer form with a domain and an account behind `$JS.ACK`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Delivered {
    /// How often the message has been delivered, this time included.
    pub(crate) attempt: u64,
    /// Its sequence in the stream.
    pub(crate) sequence: u64,
    /// The number of the delivery, counted by the consumer from 1.
    pub(crate) number: u64,
    /// When the stream took it.
    pub(crate) time: SystemTime,
    /// Messages that wait for the consumer behind this one.
    pub(crate) pending: u64,
}

impl Delivered {
    /// `None` if `reply` is no such subject.
    pub(crate) fn parse(reply: &str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        // The five numbers stand behind two names, or behind four and before a word of chance.
        let skip = if rest.split('.').count() > 7 { 4 } else { 2 };
        let mut numbers = rest.split('.').skip(skip).map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let (attempt, sequence, number) = (next()?, next()?, next()?);
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(next()?);
        Some(Self { attempt, sequence, number, time, pending: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let expected = Delivered {
            attempt: 1,
            sequence: 22,
            number: 3,
            time: SystemTime::UNIX_EPOCH + Duration::from_nanos(4),
            pending: 5,
        };
        for reply in [
            "$JS.ACK.S.c.1.22.3.4.5",
            "$JS.ACK._.hash.S.c.1.22.3.4.5",
            "$JS.ACK.hub.hash.S.c.1.22.3.4.5.chance",
        ] {
            assert_eq!(Delivered::parse(reply), Some(expected), "{reply}");
        }
        for reply in ["", "_INBOX.x.1", "$JS.ACK.S.c.1.22", "$JS.ACK.S.c.a.b.c.d.e"] {
            assert_eq!(Delivered::parse(reply), None, "{reply}");
        }
    }
}
