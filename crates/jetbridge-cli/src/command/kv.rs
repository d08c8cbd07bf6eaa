//! `kv`: keys and values.

mod entry;
mod expiry;
mod list;
mod number;
mod watch;

use std::sync::Arc;

use jetbridge_core::{
    BucketKind, BucketName, BucketSpec, Error, ErrorKind, Key, KeyEncoding, Kv, Open, Pattern,
    Result, Scope, codec,
};

use super::{Invocation, bucket};
use crate::args::kv::{Add, Choice, Del, Kv as Args, Rm, Word};
use crate::report::Status;

/// Does what the word behind `kv` says.
pub(super) async fn run(args: Args, on: &Invocation<'_>) -> Result<Status> {
    let kv = Words { on, raw_keys: args.raw_keys };
    match args.word {
        Word::Add(args) => {
            let name = args.bucket.clone();
            bucket::add(BucketKind::Kv, &name, |spec| settings(*args, spec), on).await
        }
        Word::Edit(args) => {
            let name = args.bucket.clone();
            bucket::edit(BucketKind::Kv, &name, |spec| settings(*args, spec), on).await
        }
        Word::Ls(args) => match args.bucket {
            Some(bucket) => kv.list(&bucket).await,
            None => bucket::list(BucketKind::Kv, &args, on).await,
        },
        Word::Info(args) => bucket::info(BucketKind::Kv, &args.bucket, on).await,
        Word::Rm(args) => kv.remove(args).await,
        Word::Put(args) => kv.put(args).await,
        Word::Create(args) => kv.put(args.if_absent()).await,
        Word::Update(args) => kv.put(args.into_put()).await,
        Word::Get(args) => kv.get(args).await,
        Word::Del(args) => kv.delete(args).await,
        Word::Purge(args) => kv.delete(Del { history: true, ..args }).await,
        Word::Revert(args) => kv.revert(args).await,
        Word::Incr(args) => kv.add(&args, args.by).await,
        Word::Decr(args) => kv.subtract(&args).await,
        Word::Expire(args) => kv.expire(args).await,
        Word::Ttl(args) => kv.ttl(args).await,
        Word::Count(args) => kv.count(args).await,
        Word::Clear(args) => kv.clear(args).await,
        Word::Keys(args) => kv.keys(args).await,
        Word::History(args) => kv.history(args).await,
        Word::Watch(args) => kv.watch(args).await,
    }
}

/// The words that work on the keys of a bucket.
struct Words<'a> {
    on: &'a Invocation<'a>,
    raw_keys: bool,
}

impl Words<'_> {
    async fn open(&self, bucket: &BucketName) -> Result<Arc<dyn Kv>> {
        let open = if self.raw_keys { Open::existing().raw_keys() } else { Open::existing() };
        self.on.store.kv(bucket, open).await
    }

    fn absent(&self, bucket: &BucketName, key: &Key) -> Status {
        self.on.absent("key", key.as_str(), bucket.as_str())
    }

    fn scope(&self, choice: &Choice) -> Result<Scope> {
        let encoding = if self.raw_keys { KeyEncoding::Raw } else { KeyEncoding::Escaped };
        scope(choice, encoding)
    }

    /// A bucket, or keys of it, as the `nats` CLI has it.
    async fn remove(&self, args: Rm) -> Result<Status> {
        if args.keys.is_empty() {
            let missing = if args.force { bucket::Missing::IsFine } else { bucket::Missing::Fails };
            return bucket::remove(BucketKind::Kv, &args.bucket, missing, self.on).await;
        }
        let Rm { bucket, keys, force } = args;
        self.delete(Del { bucket, keys, revision: None, history: false, force }).await
    }
}

fn settings(args: Add, spec: &mut BucketSpec) {
    if let Some(history) = args.history {
        spec.history = history;
    }
    if let Some(size) = args.max_value_size {
        spec.max_value_bytes = size.0;
    }
    bucket::apply(args.settings, spec);
}

/// Which keys are meant. A pattern is written in the keys' own text; what it is compared with is
/// the stored one.
fn scope(choice: &Choice, encoding: KeyEncoding) -> Result<Scope> {
    let Some(text) = choice.pattern.as_deref() else {
        return Ok(Scope::prefix(choice.prefix.as_deref().unwrap_or_default()));
    };
    let wild = |token: &str| matches!(token, "*" | ">");
    if text == ">" {
        return Ok(Scope::All);
    }
    if text.split('.').any(wild) {
        let stored: Vec<_> = text
            .split('.')
            .map(|token| match encoding {
                KeyEncoding::Escaped if !wild(token) => codec::encode(token),
                _ => token.into(),
            })
            .collect();
        return Pattern::parse(stored.join(".")).map(Scope::Matching);
    }
    match text.strip_suffix('*') {
        Some(prefix) => Err(Error::new(ErrorKind::InvalidInput, "pattern.parse")
            .because("`*` stands for a whole token between dots")
            .with("pattern", format!("{text:?}"))
            .hint(format!("for the keys that begin with it, write --prefix '{prefix}'"))),
        None => Key::parse(text).map(Scope::One),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Scope> {
        let choice = Choice { pattern: Some(text.to_owned()), prefix: None };
        scope(&choice, KeyEncoding::Escaped)
    }

    #[test]
    fn a_pattern_is_a_key_or_whole_tokens() {
        let matching = |text: &str| Scope::Matching(Pattern::parse(text).unwrap());
        assert_eq!(of(">").unwrap(), Scope::All);
        assert_eq!(of("a.*").unwrap(), matching("a.*"));
        assert_eq!(of("user:1.>").unwrap(), matching("user=3A1.>"));
        assert_eq!(of("user:1").unwrap(), Scope::One(Key::parse("user:1").unwrap()));
        assert_eq!(of("a b").unwrap(), Scope::One(Key::parse("a b").unwrap()));
        let error = of("user:*").unwrap_err();
        assert_eq!(
            error.hint_text(),
            Some("for the keys that begin with it, write --prefix 'user:'")
        );
        assert!(of("a.>.b").is_err());
    }

    #[test]
    fn without_a_pattern_the_prefix_decides() {
        let by = |prefix: Option<&str>| {
            let choice = Choice { pattern: None, prefix: prefix.map(str::to_owned) };
            scope(&choice, KeyEncoding::Escaped).unwrap()
        };
        assert_eq!(by(None), Scope::All);
        assert_eq!(by(Some("a:")), Scope::Prefix("a:".into()));
    }
}
