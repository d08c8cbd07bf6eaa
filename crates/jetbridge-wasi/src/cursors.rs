//! Cursors as numbers, for the dialect that has no other: the store's cursors are text.
//!
//! A number is handed out at random and stands for one place in one store, so that a guest can
//! neither guess one nor count on its meaning. What was not handed out, or long ago, is refused.
//! Each component has numbers of its own, which the listings of others do not use up.

use std::collections::VecDeque;

use jetbridge_core::Cursor;

/// Places remembered for each component. A listing needs one at a time; this is enough for as many
/// listings at once, each place taking up to the size of a key.
const CURSORS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Cursors(VecDeque<Place>);

#[derive(Debug)]
struct Place {
    number: u64,
    store: u64,
    cursor: Cursor,
}

impl Cursors {
    /// The number of a place, which is the same each time: listings that go the same way need no
    /// more numbers than one.
    pub(crate) fn number(&mut self, store: u64, cursor: Cursor) -> u64 {
        let known = self.0.iter().position(|it| it.store == store && it.cursor == cursor);
        let known = known.and_then(|at| self.0.remove(at)).map(|place| place.number);
        let number = known.unwrap_or_else(jetbridge_core::random::u64);
        if self.0.len() >= CURSORS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Place { number, store, cursor });
        number
    }

    pub(crate) fn cursor(&self, store: u64, number: u64) -> Option<Cursor> {
        let mut places = self.0.iter().rev();
        let place = places.find(|it| it.number == number && it.store == store)?;
        Some(place.cursor.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_handed_out_lately_is_a_cursor_of_its_store() {
        let mut cursors = Cursors::default();
        let first = cursors.number(1, Cursor::new("a"));
        assert_eq!(cursors.cursor(1, first), Some(Cursor::new("a")));
        assert_eq!(cursors.cursor(2, first), None, "another store's");
        assert_eq!(cursors.cursor(1, first.wrapping_add(1)), None);
        assert_eq!(cursors.number(1, Cursor::new("a")), first, "a place has one number");
        assert_ne!(cursors.number(2, Cursor::new("a")), first);
        for at in 0..CURSORS_MAX {
            cursors.number(1, Cursor::new(&at.to_string()));
        }
        assert_eq!(cursors.cursor(1, first), None);
        assert_eq!(cursors.0.len(), CURSORS_MAX);
    }
}
