//! Keys as subjects of one bucket, and back.
//!
//! Usually key text `k` of bucket `b` is the subject `$KV.b.k`. A mirror keeps the subjects of
//! the bucket it mirrors and is written there; a bucket that is fed from others without a
//! transform keeps theirs beside its own. A key that another client stored under text that no
//! NATS client should write (`a#b`) is listed as that text and remembered, so that it can be read
//! and deleted under the name it was listed by.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use jetbridge_core::{Error, ErrorKind, Key, KeyEncoding, Result, Scope, codec};

use crate::wire::StreamConfig;

/// Foreign keys remembered for one bucket.
const FOREIGN_MAX: usize = 4096;

/// Where a bucket's keys are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keyspace {
    /// Stems that keys are read under; the first is that of the writes.
    stems: Vec<String>,
}

impl Keyspace {
    /// The keys of a bucket that is neither mirror nor fed from others.
    pub(crate) fn plain(bucket: &str) -> Self {
        Self { stems: vec![stem(bucket)] }
    }

    /// The keys of a bucket as its stream is configured.
    pub(crate) fn of(bucket: &str, config: &StreamConfig) -> Self {
        let origin = |source: &serde_json::Value| {
            let name = source.get("name")?.as_str()?.strip_prefix("KV_")?;
            Some(stem(name))
        };
        if let Some(stem) = config.mirror.as_ref().and_then(origin) {
            return Self { stems: vec![stem] };
        }
        let mut stems = vec![stem(bucket)];
        for source in &config.sources {
            let transformed = source
                .get("subject_transforms")
                .and_then(|it| it.as_array())
                .is_some_and(|it| !it.is_empty());
            if !transformed {
                stems.extend(origin(source).filter(|stem| !stems.contains(stem)));
            }
        }
        Self { stems }
    }

    /// Where keys are read, each ending with a dot.
    pub(crate) fn stems(&self) -> &[String] {
        &self.stems
    }

    /// The subject that `text` is written to.
    pub(crate) fn write(&self, text: &str) -> String {
        [&self.stems[0], text].concat()
    }

    /// The subjects that `text` may be read under.
    pub(crate) fn read(&self, text: &str) -> impl Iterator<Item = String> {
        self.stems.iter().map(move |stem| [stem, text].concat())
    }

    /// The only subject that `text` may be read under, if there is but one.
    pub(crate) fn read_one(&self, text: &str) -> Option<String> {
        (self.stems.len() == 1).then(|| self.write(text))
    }

    /// The key text of a subject.
    pub(crate) fn text<'a>(&self, subject: &'a str) -> Option<&'a str> {
        self.stems.iter().find_map(|stem| subject.strip_prefix(stem.as_str()))
    }

    /// Filters that together deliver at least what is in `scope`; `pattern` is made of key text.
    fn filters(&self, pattern: &str) -> Vec<String> {
        self.read(pattern).collect()
    }
}

fn stem(bucket: &str) -> String {
    format!("$KV.{bucket}.")
}

/// How keys are written, and the foreign ones seen so far.
#[derive(Debug)]
pub(crate) struct Names {
    encoding: KeyEncoding,
    foreign: Mutex<HashMap<Key, Box<str>>>,
    /// Whether there are any; most buckets never hold one.
    any_foreign: AtomicBool,
}

impl Names {
    pub(crate) fn new(encoding: KeyEncoding) -> Self {
        Self { encoding, foreign: Mutex::default(), any_foreign: AtomicBool::new(false) }
    }

    /// The text that `key` is stored under.
    pub(crate) fn text(&self, key: &Key, operation: &'static str) -> Result<Box<str>> {
        if self.any_foreign.load(Ordering::Acquire) {
            let known = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(text) = known.get(key) {
                return Ok(text.clone());
            }
        }
        match self.encoding {
            KeyEncoding::Raw if codec::is_legal(key.as_str()) => Ok(key.as_str().into()),
            KeyEncoding::Raw => Err(Error::new(ErrorKind::InvalidInput, operation)
                .because("the bucket is open with raw keys, and this is no legal NATS key")
                .with("key", key)
                .hint("a NATS key holds letters, digits and `-/_=.`, without empty tokens")),
            _ => Ok(codec::encode(key.as_str()).into()),
        }
    }

    /// The key that stored text stands for. Text that no key is stored under by this crate is
    /// remembered.
    pub(crate) fn key(&self, text: &str) -> Result<Key> {
        let key = match self.encoding {
            KeyEncoding::Raw => Key::parse(text)?,
            _ => Key::parse(codec::decode(text))?,
        };
        if !codec::is_legal(text) {
            let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
            if foreign.len() < FOREIGN_MAX {
                foreign.insert(key.clone(), text.into());
                self.any_foreign.store(true, Ordering::Release);
            }
        }
        Ok(key)
    }

    /// Subject filters of `keyspace` that together deliver at least the keys in `scope`; what
    /// they deliver beyond it is for [`Scope::contains`] to leave out.
    pub(crate) fn filters(
        &self,
        keyspace: &Keyspace,
        scope: &Scope,
        operation: &'static str,
    ) -> Result<Vec<String>> {
        Ok(match scope {
            Scope::One(key) => keyspace.filters(&self.text(key, operation)?),
            Scope::Prefix(prefix) => keyspace.filters(&self.prefix_pattern(prefix)),
            Scope::Matching(pattern) => keyspace.filters(pattern.as_str()),
            Scope::Many(keys) => {
                let mut filters = Vec::with_capacity(keys.len());
                for key in keys {
                    filters.extend(keyspace.filters(&self.text(key, operation)?));
                }
                filters.sort_unstable();
                filters.dedup();
                filters
            }
            _ => keyspace.filters(">"),
        })
    }

    fn prefix_pattern(&self, prefix: &str) -> String {
        // Raw text is not escaped, so its whole tokens are those before the last dot.
        let tokens = match self.encoding {
            KeyEncoding::Raw => prefix
                .rsplit_once('.')
                .map(|(tokens, _)| tokens)
                .filter(|tokens| codec::is_legal(tokens))
                .unwrap_or_default(),
            _ => codec::prefix_tokens(prefix),
        };
        if tokens.is_empty() { ">".to_owned() } else { format!("{tokens}.>") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    #[test]
    fn a_mirror_keeps_the_subjects_of_its_origin() {
        let mut config = StreamConfig::new("KV_m", Vec::new());
        config.mirror = Some(json!({ "name": "KV_b" }));
        let keyspace = Keyspace::of("m", &config);
        assert_eq!(keyspace.write("k"), "$KV.b.k");
        assert_eq!(keyspace.text("$KV.b.k"), Some("k"));
    }

    #[test]
    fn sources_are_read_under_their_own_subjects_unless_transformed() {
        let mut config = StreamConfig::new("KV_b", vec!["$KV.b.>".to_owned()]);
        config.sources = vec![
            json!({ "name": "KV_one" }),
            json!({ "name": "KV_two", "subject_transforms": [{ "src": "a", "dest": "b" }] }),
        ];
        let keyspace = Keyspace::of("b", &config);
        let subjects: Vec<String> = keyspace.read("k").collect();
        assert_eq!(subjects, ["$KV.b.k", "$KV.one.k"]);
        assert_eq!(keyspace.write("k"), "$KV.b.k");
    }

    #[test]
    fn a_foreign_key_is_found_again_under_its_listed_name() {
        let names = Names::new(KeyEncoding::Escaped);
        assert_eq!(&*names.text(&key("a#b"), "kv.get").unwrap(), "a=23b");
        let listed = names.key("a#b").unwrap();
        assert_eq!(listed.as_str(), "a#b");
        assert_eq!(&*names.text(&listed, "kv.get").unwrap(), "a#b");
    }

    #[test]
    fn filters_deliver_at_least_the_scope() {
        let names = Names::new(KeyEncoding::Escaped);
        let filters =
            |scope| names.filters(&Keyspace::plain("b"), &scope, "kv.keys").unwrap().join(" ");
        assert_eq!(filters(Scope::All), "$KV.b.>");
        assert_eq!(filters(Scope::prefix("app.db.po")), "$KV.b.app.db.>");
        assert_eq!(filters(Scope::prefix("user:")), "$KV.b.>");
        assert_eq!(filters(Scope::One(key("a b"))), "$KV.b.a=20b");
        assert_eq!(filters(Scope::Many(vec![key("b"), key("a"), key("b")])), "$KV.b.a $KV.b.b");
    }

    #[test]
    fn raw_keys_must_be_legal() {
        let names = Names::new(KeyEncoding::Raw);
        let refused = names.text(&key("a b"), "kv.put").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert_eq!(names.key("user=3A1").unwrap().as_str(), "user=3A1");
    }
}
