//! Cursors as numbers, for the dialect that has no other: the store's cursors are text.
//!
//! A number is handed out at random and stands for one text, so that a guest can neither guess
//! one nor count on its meaning. What was not handed out, or long ago, is refused.

use std::collections::VecDeque;

use jetbridge_core::Cursor;

/// Cursors remembered for each store. A listing needs one at a time; this is enough for as many
/// listings at once, each cursor taking up to the size of a key.
const CURSORS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Cursors(VecDeque<(u64, Cursor)>);

impl Cursors {
    pub(crate) fn number(&mut self, cursor: Cursor) -> u64 {
        if self.0.len() >= CURSORS_MAX {
            self.0.pop_front();
        }
        let number = jetbridge_core::random::u64();
        self.0.push_back((number, cursor));
        number
    }

    pub(crate) fn cursor(&self, number: u64) -> Option<Cursor> {
        self.0.iter().rev().find(|(known, _)| *known == number).map(|(_, cursor)| cursor.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_handed_out_lately_is_a_cursor() {
        let mut cursors = Cursors::default();
        let first = cursors.number(Cursor::new("a"));
        assert_eq!(cursors.cursor(first), Some(Cursor::new("a")));
        assert_eq!(cursors.cursor(first.wrapping_add(1)), None);
        for _ in 0..CURSORS_MAX {
            cursors.number(Cursor::new("b"));
        }
        assert_eq!(cursors.cursor(first), None);
        assert_eq!(cursors.0.len(), CURSORS_MAX);
    }
}
