//! Which of many patterns stand for a subject: a tree by tokens.
//!
//! A subject of n tokens visits at most the nodes whose path matches, each once, so a lookup
//! among thousands of patterns costs about as much as among three. The tree knows nothing of
//! what it holds.

use std::collections::HashMap;

use jetbridge_core::Pattern;

/// Values under patterns.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    /// Values of the patterns that end here.
    here: Vec<T>,
    /// Values of the patterns that go on with `>`.
    rest: Vec<T>,
    /// What goes on with `*`.
    any: Option<Box<Self>>,
    /// What goes on with a literal token.
    literal: HashMap<Box<str>, Self>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { here: Vec::new(), rest: Vec::new(), any: None, literal: HashMap::new() }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> Trie<T> {
    /// Adds `value` under `pattern`.
    pub(crate) fn insert(&mut self, pattern: &Pattern, value: T) {
        let mut node = &mut self.root;
        for token in pattern.tokens() {
            node = match token {
                ">" => return node.rest.push(value),
                "*" => node.any.get_or_insert_default(),
                // Two lookups on the way to a new node, but no copy on the way to an old one.
                token if node.literal.contains_key(token) => match node.literal.get_mut(token) {
                    Some(next) => next,
                    None => return,
                },
                token => node.literal.entry(token.into()).or_default(),
            };
        }
        node.here.push(value);
    }

    /// Removes the values under `pattern` that `gone` says are.
    pub(crate) fn remove(&mut self, pattern: &Pattern, mut gone: impl FnMut(&T) -> bool) {
        let tokens: Vec<&str> = pattern.tokens().collect();
        self.root.remove(&tokens, &mut gone);
    }

    /// Shows `visit` every value whose pattern stands for `subject`.
    pub(crate) fn each<'a>(&'a self, subject: &str, mut visit: impl FnMut(&'a T)) {
        self.root.each(subject, &mut visit);
    }

    /// True if there is no value.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

impl<T> Node<T> {
    fn each<'a>(&'a self, subject: &str, visit: &mut impl FnMut(&'a T)) {
        self.rest.iter().for_each(&mut *visit);
        let (token, rest) = match subject.split_once('.') {
            Some((token, rest)) => (token, Some(rest)),
            None => (subject, None),
        };
        for next in self.any.as_deref().into_iter().chain(self.literal.get(token)) {
            match rest {
                Some(rest) => next.each(rest, visit),
                None => next.here.iter().for_each(&mut *visit),
            }
        }
    }

    fn remove(&mut self, tokens: &[&str], gone: &mut impl FnMut(&T) -> bool) {
        match tokens {
            [] => self.here.retain(|value| !gone(value)),
            [">"] => self.rest.retain(|value| !gone(value)),
            ["*", rest @ ..] => {
                if let Some(next) = &mut self.any {
                    next.remove(rest, gone);
                    self.any.take_if(|next| next.is_empty());
                }
            }
            [token, rest @ ..] => {
                if let Some(next) = self.literal.get_mut(*token) {
                    next.remove(rest, gone);
                    if next.is_empty() {
                        self.literal.remove(*token);
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.rest.is_empty()
            && self.any.is_none()
            && self.literal.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: [&str; 9] = [">", "*", "a", "a.*", "a.>", "a.b", "*.b", "a.b.c", "*.*.>"];

    fn filled() -> Trie<&'static str> {
        let mut trie = Trie::default();
        for pattern in PATTERNS {
            trie.insert(&Pattern::parse(pattern).unwrap(), pattern);
        }
        trie
    }

    fn found(trie: &Trie<&'static str>, subject: &str) -> Vec<&'static str> {
        let mut found = Vec::new();
        trie.each(subject, |pattern| found.push(*pattern));
        found.sort_unstable();
        found
    }

    #[test]
    fn finds_what_the_patterns_themselves_say() {
        let trie = filled();
        for subject in ["a", "b", "a.b", "a.c", "c.b", "a.b.c", "x.y.z.w"] {
            let mut expected: Vec<_> = PATTERNS
                .into_iter()
                .filter(|pattern| Pattern::parse(pattern).unwrap().matches(subject))
                .collect();
            expected.sort_unstable();
            assert_eq!(found(&trie, subject), expected, "{subject}");
        }
    }

    #[test]
    fn removing_leaves_the_others_and_in_the_end_nothing() {
        let mut trie = filled();
        trie.insert(&Pattern::parse("a.b").unwrap(), "twin");
        trie.remove(&Pattern::parse("a.b").unwrap(), |value| *value == "a.b");
        assert_eq!(found(&trie, "a.b"), ["*.b", ">", "a.*", "a.>", "twin"]);
        for pattern in PATTERNS {
            trie.remove(&Pattern::parse(pattern).unwrap(), |_| true);
        }
        assert!(trie.is_empty(), "{trie:?}");
    }
}
