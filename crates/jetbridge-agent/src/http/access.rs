//! Who asks, and what they may: tokens, their scopes, and the buckets that the files grant.
//!
//! A bucket that no file names cannot be asked for, whoever asks; nor can one by way of its
//! subjects, which is why subjects that stores keep for themselves are nobody's.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetbridge_core::{
    Backend, BucketKind, BucketName, Digest, Kv, Objects, Open, Pattern, Result, Secret, Subject,
};
use subtle::{Choice, ConstantTimeEq as _};
use tokio::sync::watch;

use super::refusal::Refusal;
use crate::bucket::BucketSection;

/// What a request does to what it names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    Read,
    Write,
}

/// What a caller must be allowed for an operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Needs {
    /// Nothing: whoever watches the process.
    Nothing,
    /// The whole token.
    Whole,
    /// A bucket, which the path names.
    Bucket(BucketKind, Way),
    /// Subjects, which the path names: to send to, or to hear.
    Subject(Way),
    /// A limiter, which the path names.
    Limiter,
}

/// How far a bucket of the file is reachable over HTTP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "these three can be written")]
pub enum Reach {
    /// Not at all.
    None,
    /// To read.
    Read,
    /// To read and write.
    #[default]
    Write,
}

/// A token that may only what it says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct TokenSpec {
    /// What the file calls it; the log and answers do too.
    pub name: String,
    /// What a caller must say after `Authorization: Bearer`.
    pub token: Secret<String>,
    /// Buckets it may read: names, or `NAME*` for all that begin so.
    pub read: Vec<String>,
    /// Buckets it may write.
    pub write: Vec<String>,
    /// Subjects it may publish to and ask.
    pub publish: Vec<Pattern>,
    /// Subjects it may hear.
    pub subscribe: Vec<Pattern>,
    /// Limiters it may ask, by their ids.
    pub limits: Vec<String>,
}

/// Somebody who is known.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// May everything that the files grant.
    Whole,
    /// May what its token says.
    Scoped(Arc<TokenSpec>),
}

/// The tokens of the file, as digests: what is compared says nothing about what was said.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    whole: Option<Digest>,
    scoped: Vec<(Digest, Arc<TokenSpec>)>,
}

impl Tokens {
    pub(crate) fn new(whole: Option<&Secret<String>>, scoped: &[TokenSpec]) -> Self {
        let digest = |token: &Secret<String>| Digest::of(token.expose().as_bytes());
        let scoped = scoped.iter().map(|spec| (digest(&spec.token), Arc::new(spec.clone())));
        Self { whole: whole.map(digest), scoped: scoped.collect() }
    }

    /// True if whoever reaches the address may ask.
    pub(crate) fn is_open(&self) -> bool {
        self.whole.is_none()
    }

    /// Who says what `headers` say. Every token is looked at, so that the time this takes tells
    /// neither a token nor how many there are before it.
    pub(crate) fn caller(&self, headers: &HeaderMap, shown: Shown) -> Result<Caller, Refusal> {
        let Some(whole) = &self.whole else { return Ok(Caller::Whole) };
        let said = match Said::read(headers) {
            Some(Said::Bearer(token)) => token,
            Some(Said::Password(token)) if shown == Shown::AsPasswordToo => token,
            _ => return Err(Refusal::stranger(shown)),
        };
        let said = Digest::of(&said);
        let same = |token: &Digest| -> Choice { token.as_bytes().ct_eq(said.as_bytes()) };
        let is_whole = same(whole);
        let mut known = None;
        for (token, spec) in &self.scoped {
            if bool::from(same(token)) {
                known = Some(Arc::clone(spec));
            }
        }
        if is_whole.into() {
            return Ok(Caller::Whole);
        }
        known.map(Caller::Scoped).ok_or_else(|| Refusal::stranger(shown))
    }
}

/// How a token may be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shown {
    /// As programs do.
    AsBearer,
    /// Also as the password of any name. Browsers send that by themselves, whichever page asks: it
    /// is for what only looks, and for what is sure of the page.
    AsPasswordToo,
}

/// What `Authorization` says.
#[derive(Debug, Eq, PartialEq)]
enum Said {
    Bearer(Vec<u8>),
    Password(Vec<u8>),
}

impl Said {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let said = headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, said) = said.split_at(said.iter().position(|byte| *byte == b' ')?);
        let said = said.trim_ascii();
        match scheme {
            _ if scheme.eq_ignore_ascii_case(b"Bearer") => Some(Self::Bearer(said.to_vec())),
            _ if scheme.eq_ignore_ascii_case(b"Basic") => {
                let said = STANDARD.decode(said).ok()?;
                let colon = said.iter().position(|byte| *byte == b':')?;
                Some(Self::Password(said[colon + 1..].to_vec()))
            }
            _ => None,
        }
    }
}

/// True if a browser may have sent the token by itself.
pub(crate) fn is_password(headers: &HeaderMap) -> bool {
    matches!(Said::read(headers), Some(Said::Password(_)))
}

impl Caller {
    /// Refuses a bucket that the caller's token does not cover.
    pub(crate) fn bucket(&self, bucket: &BucketName, way: Way) -> Result<(), Refusal> {
        let Self::Scoped(token) = self else { return Ok(()) };
        let (names, word) = match way {
            Way::Read => (&token.read, "read"),
            Way::Write => (&token.write, "write"),
        };
        if names.iter().any(|name| covers(name, bucket.as_str())) {
            return Ok(());
        }
        Err(Refusal::forbidden(format!("the token `{}` may not {word} `{bucket}`", token.name))
            .hint(format!("add `{bucket}` to the token's `{word}:`")))
    }

    /// Refuses a limiter that the caller's token does not cover; keys of it are behind a colon.
    pub(crate) fn limiter(&self, id: &str) -> Result<(), Refusal> {
        let Self::Scoped(token) = self else { return Ok(()) };
        let is = |known: &String| {
            id.strip_prefix(&**known).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        if token.limits.iter().any(is) {
            return Ok(());
        }
        let id = id.escape_debug();
        Err(Refusal::forbidden(format!("the token `{}` may not ask `{id}`", token.name))
            .hint("add the limiter to the token's `limits:`"))
    }

    /// Refuses a subject that is the store's own, or that the caller's token does not cover.
    pub(crate) fn publish(&self, subject: &Subject) -> Result<(), Refusal> {
        if is_reserved(subject.as_str()) {
            return Err(reserved(subject.as_str()));
        }
        let Self::Scoped(token) = self else { return Ok(()) };
        if token.publish.iter().any(|pattern| pattern.matches(subject.as_str())) {
            return Ok(());
        }
        Err(Refusal::forbidden(format!(
            "the token `{}` may not publish to `{subject}`",
            token.name
        ))
        .hint("add the subject to the token's `publish:`"))
    }

    /// Refuses subjects that are the store's own, or that the caller's token does not cover.
    pub(crate) fn subscribe(&self, pattern: &Pattern) -> Result<(), Refusal> {
        if is_reserved(pattern.as_str()) {
            return Err(reserved(pattern.as_str()));
        }
        let Self::Scoped(token) = self else { return Ok(()) };
        if token.subscribe.iter().any(|granted| within(pattern.as_str(), granted.as_str())) {
            return Ok(());
        }
        Err(Refusal::forbidden(format!("the token `{}` may not hear `{pattern}`", token.name))
            .hint("add the subjects to the token's `subscribe:`"))
    }
}

/// True of subjects that stores and clients keep for themselves: buckets, JetStream, answers.
/// A wildcard in front may match them: what comes by it is looked at again.
pub(crate) fn is_reserved(subject: &str) -> bool {
    subject.starts_with('$') || subject.starts_with('_')
}

fn reserved(subject: &str) -> Refusal {
    Refusal::forbidden(format!("`{subject}` is kept for the store itself"))
        .hint("subjects that begin with `$` or `_` cannot be used over HTTP")
}

/// True if `name` is meant by `pattern`: that name, or what begins with what stands before `*`.
fn covers(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// True if every subject of `asked` is one of `granted`.
fn within(asked: &str, granted: &str) -> bool {
    let (mut asked, mut granted) = (asked.split('.'), granted.split('.'));
    loop {
        match (asked.next(), granted.next()) {
            (None, None) => return true,
            (Some(_), Some(">")) => return true,
            (Some(">"), _) | (None, _) | (_, None) => return false,
            (Some(_), Some("*")) => {}
            (Some(one), Some(other)) if one == other => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// The buckets that the files grant, and those that are open. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grants {
    granted: Arc<RwLock<Granted>>,
    /// Heard by what runs for as long as it is granted.
    declared: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Granted {
    reach: BTreeMap<(&'static str, BucketName), Reach>,
    kv: BTreeMap<BucketName, Arc<dyn Kv>>,
    objects: BTreeMap<BucketName, Arc<dyn Objects>>,
}

impl Grants {
    /// Grants these and no others.
    pub(crate) fn declare(&self, buckets: &[BucketSection]) {
        let reach = buckets.iter().map(|it| ((it.kind.as_str(), it.name.clone()), it.http));
        let reach = reach.collect();
        *self.write() = Granted { reach, ..Granted::default() };
        self.declared.send_replace(());
    }

    /// Resolves, to the refusal, once the files do not grant the bucket in that way any more.
    pub(crate) async fn withdrawn(self, kind: BucketKind, bucket: BucketName, way: Way) -> Refusal {
        let mut declared = self.declared.subscribe();
        loop {
            if let Err(refusal) = self.check(kind, &bucket, way) {
                return refusal;
            }
            // The sender is ours: it is never gone.
            declared.changed().await.ok();
        }
    }

    /// Refuses a bucket that no file grants in that way.
    pub(crate) fn check(
        &self,
        kind: BucketKind,
        bucket: &BucketName,
        way: Way,
    ) -> Result<(), Refusal> {
        let granted = self.read();
        match (granted.reach.get(&(kind.as_str(), bucket.clone())), way) {
            (Some(Reach::Write), _) | (Some(Reach::Read), Way::Read) => Ok(()),
            (Some(Reach::Read), Way::Write) => {
                Err(Refusal::forbidden(format!("`{bucket}` can only be read over HTTP"))
                    .hint("its entry in `buckets:` says `http: read`"))
            }
            (Some(Reach::None) | None, _) => {
                Err(Refusal::absent(format!("the files grant no {kind} bucket `{bucket}`"))
                    .hint("name it in `buckets:`, without `http: none`"))
            }
        }
    }

    /// The bucket of keys, opened once.
    pub(crate) async fn kv(
        &self,
        backend: &dyn Backend,
        bucket: &BucketName,
    ) -> Result<Arc<dyn Kv>> {
        let open = self.read().kv.get(bucket).cloned();
        if let Some(kv) = open {
            return Ok(kv);
        }
        let kv = backend.kv(bucket, Open::existing()).await?;
        let mut granted = self.write();
        if granted.reach.contains_key(&(BucketKind::Kv.as_str(), bucket.clone())) {
            granted.kv.insert(bucket.clone(), Arc::clone(&kv));
        }
        Ok(kv)
    }

    /// The bucket of objects, opened once.
    pub(crate) async fn objects(
        &self,
        backend: &dyn Backend,
        bucket: &BucketName,
    ) -> Result<Arc<dyn Objects>> {
        let open = self.read().objects.get(bucket).cloned();
        if let Some(objects) = open {
            return Ok(objects);
        }
        let objects = backend.objects(bucket, Open::existing()).await?;
        let mut granted = self.write();
        if granted.reach.contains_key(&(BucketKind::Object.as_str(), bucket.clone())) {
            granted.objects.insert(bucket.clone(), Arc::clone(&objects));
        }
        Ok(objects)
    }

    /// Opens the bucket anew when it is next asked for: it is not what it was.
    pub(crate) fn forget(&self, bucket: &BucketName) {
        let mut granted = self.write();
        granted.kv.remove(bucket);
        granted.objects.remove(bucket);
    }

    fn read(&self) -> RwLockReadGuard<'_, Granted> {
        self.granted.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Granted> {
        self.granted.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(said: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, said.parse().unwrap());
        headers
    }

    #[test]
    fn a_caller_is_who_its_token_says() {
        let reader = TokenSpec {
            name: "reader".to_owned(),
            token: Secret::new("r3ad".to_owned()),
            read: vec!["app-*".to_owned(), "config".to_owned()],
            limits: vec!["api".to_owned()],
            ..TokenSpec::default()
        };
        let whole = Secret::new("s3cr3t".to_owned());
        let tokens = Tokens::new(Some(&whole), &[reader]);
        let caller = |said: &str| tokens.caller(&headers(said), Shown::AsBearer);
        assert!(matches!(caller("Bearer s3cr3t"), Ok(Caller::Whole)));
        for wrong in ["", "Bearer", "Bearer ", "Bearer s3cr3", "Bearer s3cr3tt", "Bearer r3a"] {
            assert!(caller(wrong).is_err(), "{wrong}");
        }
        assert!(tokens.caller(&HeaderMap::new(), Shown::AsPasswordToo).is_err());
        let reader = caller("Bearer r3ad").unwrap();
        let may = |name: &str, way| reader.bucket(&BucketName::parse(name).unwrap(), way).is_ok();
        assert!(may("app-1", Way::Read) && may("config", Way::Read));
        assert!(!may("config2", Way::Read) && !may("ap", Way::Read));
        assert!(!may("config", Way::Write));
        assert!(reader.limiter("api").is_ok() && reader.limiter("api:user:1").is_ok());
        assert!(reader.limiter("apis").is_err());
        assert!(reader.publish(&Subject::parse("a").unwrap()).is_err());
    }

    #[test]
    fn the_token_comes_as_a_bearer_or_as_a_password() {
        let tokens = Tokens::new(Some(&Secret::new("s3:cr3t".to_owned())), &[]);
        let knows = |said: &str, shown| tokens.caller(&headers(said), shown).is_ok();
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for said in ["Bearer s3:cr3t", "bearer s3:cr3t", &basic("me:s3:cr3t"), &basic(":s3:cr3t")] {
            assert!(knows(said, Shown::AsPasswordToo), "{said}");
            assert_eq!(knows(said, Shown::AsBearer), !is_password(&headers(said)), "{said}");
        }
        for wrong in ["Bearer s3", "Basic !", "Basic", "s3:cr3t", &basic("s3:cr3t"), &basic("x")] {
            assert!(!knows(wrong, Shown::AsPasswordToo), "{wrong}");
        }
    }

    #[test]
    fn a_store_s_own_subjects_are_nobodys() {
        for subject in ["$KV.b.k", "$JS.API.STREAM.PURGE.KV_b", "_INBOX.x"] {
            assert!(Caller::Whole.publish(&Subject::parse(subject).unwrap()).is_err(), "{subject}");
            let pattern = Pattern::parse(subject).unwrap();
            assert!(Caller::Whole.subscribe(&pattern).is_err(), "{subject}");
        }
        assert!(Caller::Whole.subscribe(&Pattern::parse(">").unwrap()).is_ok());
    }

    #[test]
    fn what_is_asked_must_be_within_what_is_granted() {
        for (asked, granted, is) in [
            ("a.b", "a.b", true),
            ("a.b", "a.*", true),
            ("a.b.c", "a.>", true),
            ("a.>", "a.>", true),
            ("a.*", "a.>", true),
            ("a.>", "a.*", false),
            ("a", "a.>", false),
            ("*.b", "a.b", false),
            ("a.*", "a.b", false),
            (">", "*", false),
            (">", ">", true),
            ("a.b.c", "a.b", false),
        ] {
            assert_eq!(within(asked, granted), is, "{asked} in {granted}");
        }
    }
}
