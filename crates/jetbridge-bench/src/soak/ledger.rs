//! What was asked, what was acknowledged, and what was found wanting.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Outcome;

/// Problems of a section that are told in words; the rest are counted.
const TOLD_MAX: usize = 10;

/// Clones share the book.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    sections: BTreeMap<&'static str, Section>,
    problems: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Debug, Default)]
struct Section {
    names: BTreeMap<String, Numbers>,
    note: Option<String>,
}

/// The writes to one name, numbered from 1 by the one who writes them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// How many were tried; the number of the last.
    pub(super) tried: u64,
    /// How many were acknowledged.
    pub(super) acknowledged: u64,
    /// The number of the last that was.
    pub(super) last: u64,
}

impl Ledger {
    /// A write to `name` is tried; its number.
    pub(super) fn try_next(&self, section: &'static str, name: &str) -> u64 {
        let mut book = self.lock();
        let names = &mut book.sections.entry(section).or_default().names;
        let numbers = names.entry(name.to_owned()).or_default();
        numbers.tried += 1;
        numbers.tried
    }

    /// That write was acknowledged.
    pub(super) fn acknowledged(&self, section: &'static str, name: &str, number: u64) {
        let mut book = self.lock();
        let names = &mut book.sections.entry(section).or_default().names;
        let numbers = names.entry(name.to_owned()).or_default();
        numbers.acknowledged += 1;
        numbers.last = number;
    }

    /// Everything of a section.
    pub(super) fn all(&self, section: &'static str) -> Vec<(String, Numbers)> {
        let book = self.lock();
        let names = book.sections.get(section).into_iter().flat_map(|section| &section.names);
        names.map(|(name, numbers)| (name.clone(), *numbers)).collect()
    }

    /// `found` must be the last acknowledged write, or a later one that was tried.
    pub(super) fn check(&self, section: &'static str, name: &str, found: Option<u64>) {
        let book = self.lock();
        let numbers = book.sections.get(section).and_then(|it| it.names.get(name).copied());
        drop(book);
        let Numbers { tried, last, .. } = numbers.unwrap_or_default();
        let found = found.unwrap_or_default();
        if !(last..=tried).contains(&found) {
            let words = format!("{name}: write {found} is there, {last} was acknowledged");
            self.problem(section, words);
        }
    }

    /// `found` must be at least what was acknowledged, and at most what was tried.
    pub(super) fn check_sum(&self, section: &'static str, found: u64) {
        let all = self.all(section);
        let least: u64 = all.iter().map(|(_, numbers)| numbers.acknowledged).sum();
        let most: u64 = all.iter().map(|(_, numbers)| numbers.tried).sum();
        if !(least..=most).contains(&found) {
            self.problem(section, format!("counted {found}, acknowledged {least} of {most}"));
        }
    }

    pub(super) fn problem(&self, section: &'static str, words: String) {
        self.lock().problems.entry(section).or_default().push(words);
    }

    /// Says something beside the figures of a section.
    pub(super) fn note(&self, section: &'static str, words: String) {
        self.lock().sections.entry(section).or_default().note = Some(words);
    }

    /// An error if there were problems, or a section had nothing to do.
    pub(super) fn verdict(&self) -> Outcome {
        let book = self.lock();
        for (section, problems) in &book.problems {
            for problem in problems.iter().take(TOLD_MAX) {
                println!("{section}: {problem}");
            }
            if problems.len() > TOLD_MAX {
                println!("{section}: and {} more", problems.len() - TOLD_MAX);
            }
        }
        let is_idle =
            |section: &Section| section.names.values().all(|numbers| numbers.acknowledged == 0);
        let idle = book.sections.iter().find(|(_, section)| is_idle(section));
        if let Some((section, _)) = idle {
            return Err(format!("nothing of {section} was ever acknowledged").into());
        }
        match book.problems.values().map(Vec::len).sum::<usize>() {
            0 => {
                println!("nothing that was acknowledged is lost");
                Ok(())
            }
            problems => Err(format!("{problems} problems").into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let book = self.lock();
        writeln!(f, "| section | asked | acknowledged | problems | |\n|---|---|---|---|---|")?;
        for (name, section) in &book.sections {
            let sum = |of: fn(&Numbers) -> u64| section.names.values().map(of).sum::<u64>();
            let (asked, acknowledged) = (sum(|it| it.tried), sum(|it| it.acknowledged));
            let problems = book.problems.get(name).map_or(0, Vec::len);
            let note = section.note.as_deref().unwrap_or_default();
            writeln!(f, "| {name} | {asked} | {acknowledged} | {problems} | {note} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three writes to `k`, of which the second is the last that was acknowledged.
    fn written() -> Ledger {
        let ledger = Ledger::default();
        for number in 1..=3 {
            assert_eq!(ledger.try_next("kv", "k"), number);
            if number < 3 {
                ledger.acknowledged("kv", "k", number);
            }
        }
        ledger
    }

    #[test]
    fn what_was_acknowledged_or_tried_later_may_be_there() {
        for (found, is_lost) in [(None, true), (Some(1), true), (Some(2), false), (Some(3), false)]
        {
            let ledger = written();
            ledger.check("kv", "k", found);
            assert_eq!(ledger.verdict().is_err(), is_lost, "{found:?}");
        }
        let ledger = written();
        ledger.check("kv", "k", Some(4));
        assert!(ledger.verdict().is_err(), "nobody wrote that");
    }

    #[test]
    fn a_sum_lies_between_what_was_acknowledged_and_what_was_tried() {
        for (found, is_wrong) in [(1, true), (2, false), (3, false), (4, true)] {
            let ledger = written();
            ledger.check_sum("kv", found);
            assert_eq!(ledger.verdict().is_err(), is_wrong, "{found}");
        }
    }

    #[test]
    fn a_section_that_never_worked_is_no_success() {
        let ledger = written();
        ledger.try_next("limits", "api");
        assert!(ledger.verdict().is_err());
    }
}
