//! The steps of a sequence, and how chance chooses them.

use std::fmt::Debug;

use crate::dice::Dice;

/// Few keys, so that steps meet; some that no subject or path can hold.
pub(super) const KEYS: [&str; 6] = ["a", "a.b", "a.c", "b", "user:1", "a..b*"];
/// Prefixes of some of them, of all, and of none.
const PREFIXES: [&str; 5] = ["", "a", "a.", "user:", "none"];
/// Numbers, the ends of their range, and what is no number.
const VALUES: [&str; 8] = ["0", "7", "-3", "", "text", "9223372036854775807", "1 ", "grün\0"];

/// What revision a condition names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Guess {
    /// The live one.
    Present,
    /// One that was written, but is not the live one.
    Stale,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Create(&'static str, &'static str),
    Delete(&'static str, Option<Guess>),
    Expire(&'static str, &'static str),
    Forget(&'static str),
    Get(&'static str),
    GetMany,
    GetOld(&'static str),
    History(&'static str),
    Increment(&'static str, i64),
    List(&'static str),
    Look,
    LookAfter(&'static str),
    Pages(usize),
    Purge(&'static str),
    Put(&'static str, &'static str),
    Reopen,
    Update(&'static str, &'static str, Guess),
}

type Choose = fn(&mut Dice) -> Step;

/// How many of a hundred steps are which; the rest are plain puts.
const WEIGHTS: [(usize, Choose); 16] = [
    (8, |dice| Step::Create(one(dice, &KEYS), one(dice, &VALUES))),
    (8, |dice| Step::Delete(one(dice, &KEYS), None)),
    (4, |dice| Step::Delete(one(dice, &KEYS), Some(guess(dice)))),
    (1, |dice| Step::Expire(one(dice, &KEYS), one(dice, &VALUES))),
    (3, |dice| Step::Forget(one(dice, &KEYS))),
    (10, |dice| Step::Get(one(dice, &KEYS))),
    (4, |_| Step::GetMany),
    (4, |dice| Step::GetOld(one(dice, &KEYS))),
    (6, |dice| Step::History(one(dice, &KEYS))),
    (10, |dice| Step::Increment(one(dice, &KEYS), one(dice, &[1, -1, 0, 40, i64::MAX]))),
    (5, |dice| Step::List(one(dice, &PREFIXES))),
    (2, |_| Step::Look),
    (2, |dice| Step::LookAfter(one(dice, &KEYS))),
    (2, |dice| Step::Pages(dice.below(7) + 1)),
    (1, |dice| Step::Purge(one(dice, &PREFIXES))),
    (12, |dice| Step::Update(one(dice, &KEYS), one(dice, &VALUES), guess(dice))),
];

impl Step {
    pub(super) fn choose(dice: &mut Dice) -> Self {
        let mut left = dice.below(100);
        for (weight, make) in WEIGHTS {
            if left < weight {
                return make(dice);
            }
            left -= weight;
        }
        if left == 0 {
            return Self::Reopen;
        }
        Self::Put(one(dice, &KEYS), one(dice, &VALUES))
    }
}

fn one<T: Copy + Debug>(dice: &mut Dice, of: &[T]) -> T {
    of[dice.below(of.len())]
}

fn guess(dice: &mut Dice) -> Guess {
    if dice.hits(700) { Guess::Present } else { Guess::Stale }
}
