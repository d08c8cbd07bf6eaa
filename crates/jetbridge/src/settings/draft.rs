//! Settings as they are being gathered from several sources: each knows who wrote it, so that
//! what contradicts can be named. The sources are layers, and a later layer wins.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use jetbridge_core::{Error, Secret};

use super::environment::Environment;
use super::place::{Place, Problem};
use super::source::{Node, Value};
use super::table::Dialect;
use super::url::{self, ServerList};

/// Everything that any dialect can say.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) servers: Slot<ServerList>,
    pub(super) credentials: Slot<FileOrText>,
    pub(super) nkey: Slot<FileOrText>,
    pub(super) jwt: Slot<Secret<String>>,
    pub(super) seed: Slot<Secret<String>>,
    pub(super) token: Slot<Secret<String>>,
    pub(super) user: Slot<String>,
    pub(super) password: Slot<Secret<String>>,
    pub(super) tls: Slot<bool>,
    pub(super) tls_first: Slot<bool>,
    pub(super) authorities: Slot<Vec<FileOrText>>,
    pub(super) authority_text: Slot<String>,
    pub(super) certificate: Slot<PathBuf>,
    pub(super) certificate_key: Slot<PathBuf>,
    pub(super) insecure: Slot<bool>,
    pub(super) reconnects: Slot<Option<usize>>,
    pub(super) reconnect_wait: Slot<Duration>,
    pub(super) connect_timeout: Slot<Duration>,
    pub(super) request_timeout: Slot<Duration>,
    pub(super) ping_interval: Slot<Duration>,
    pub(super) randomize: Slot<bool>,
    pub(super) name: Slot<String>,
    pub(super) domain: Slot<String>,
    pub(super) api_prefix: Slot<String>,
    pub(super) inbox_prefix: Slot<String>,
    pub(super) bucket: Slot<String>,
    pub(super) auto_create: Slot<bool>,
    pub(super) drain_timeout: Slot<Duration>,
    pub(super) retry_backoff: Slot<f64>,
    pub(super) retry_wait_max: Slot<Duration>,
    pub(super) cache_ttl: Slot<Duration>,
    pub(super) streaming_threshold: Slot<u64>,
    pub(super) audit_logging: Slot<bool>,
    pub(super) conflict_wait: Slot<Duration>,
    pub(super) conflicts_max: Slot<u64>,
    pub(super) timing_margin: Slot<Duration>,
}

impl Draft {
    /// True if anything is said about encryption.
    pub(super) fn names_encryption(&self) -> bool {
        let flags = [&self.tls, &self.tls_first, &self.insecure];
        let files = [&self.certificate, &self.certificate_key];
        flags.iter().any(|flag| flag.value().is_some())
            || files.iter().any(|file| file.value().is_some())
            || self.authorities.value().is_some()
            || self.authority_text.value().is_some()
    }
}

/// A setting that is there or not, and who wrote it.
#[derive(Debug)]
pub(super) struct Slot<T>(Option<Written<T>>);

#[derive(Debug)]
pub(super) struct Written<T> {
    pub(super) value: T,
    pub(super) mention: Mention,
}

/// Who wrote a setting: its name as written, where, and in which layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mention {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) layer: usize,
}

impl Mention {
    /// As it is called in a warning: a variable's name is its place.
    pub(super) fn describe(&self) -> String {
        match &self.place {
            Place::Variable(name) => format!("`{name}`"),
            place => format!("`{}` ({place})", self.name),
        }
    }
}

/// One of two settings that only work together.
pub(super) struct Half<'a> {
    there: &'a Mention,
    missing: &'static str,
    hint: &'static str,
}

impl<'a> Half<'a> {
    /// A half that is there while the other, which we call `missing`, is not.
    pub(super) fn of(
        there: Option<&'a Mention>,
        other: Option<&Mention>,
        missing: &'static str,
        hint: &'static str,
    ) -> Option<Self> {
        there.filter(|_| other.is_none()).map(|there| Self { there, missing, hint })
    }

    pub(super) fn problem(&self, dialect: Dialect) -> Error {
        let message = match &self.there.place {
            // Variables have their own names, and all the same prefix.
            Place::Variable(variable) => {
                let prefix = variable.strip_suffix(&*self.there.name).unwrap_or_default();
                format!("is set without `{prefix}{}`", Dialect::Variables.name_of(self.missing))
            }
            _ => format!("`{}` without `{}`", self.there.name, dialect.name_of(self.missing)),
        };
        Problem::new(message).hint(self.hint).at(&self.there.place)
    }
}

/// A file, or the text that would stand in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FileOrText {
    File(PathBuf),
    Text(Secret<String>),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialEq> Slot<T> {
    /// Writes what `parse` reads. An empty text is as if nothing was written. Two names for one
    /// setting in one layer contradict each other, but of two variables the first one wins, with
    /// a warning: they may be meant for other programs.
    pub(super) fn put<'a>(
        &mut self,
        raw: &Raw<'a>,
        parse: impl FnOnce(&Raw<'a>) -> Result<T, Problem>,
    ) -> Result<Option<String>, Problem> {
        if raw.is_empty() {
            return Ok(None);
        }
        let value = parse(raw)?;
        match &self.0 {
            Some(known) if known.mention.layer == raw.layer && known.value != value => {
                let known = known.mention.describe();
                match raw.place {
                    Place::Variable(name) => Ok(Some(format!(
                        "{known} and `{name}` say different things; {known} is used"
                    ))),
                    _ => Err(Problem::new(format!("{known} says something else"))
                        .hint("both mean the same setting: keep one")),
                }
            }
            Some(known) if known.mention.layer == raw.layer => Ok(None),
            _ => {
                self.0 = Some(Written { value, mention: raw.mention() });
                Ok(None)
            }
        }
    }
}

impl<T> Slot<T> {
    pub(super) fn written(&self) -> Option<&Written<T>> {
        self.0.as_ref()
    }

    pub(super) fn mention(&self) -> Option<&Mention> {
        self.0.as_ref().map(|written| &written.mention)
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.0.as_ref().map(|written| &written.value)
    }

    pub(super) fn take(&mut self) -> Option<T> {
        self.0.take().map(|written| written.value)
    }
}

/// A value as it was written, on its way into a [`Slot`].
pub(super) struct Raw<'a> {
    pub(super) name: &'a str,
    pub(super) node: &'a Node,
    pub(super) place: &'a Place,
    pub(super) layer: usize,
    pub(super) environment: &'a Environment,
}

const CERTIFICATE_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const CREDENTIALS_BEGIN: &str = "-----BEGIN NATS USER JWT-----";

/// Characters of the seed of an nkey: a prefix, 32 bytes and a checksum in base 32.
const SEED_LENGTH: usize = 58;

impl Raw<'_> {
    fn mention(&self) -> Mention {
        Mention { name: self.name.to_owned(), place: self.place.clone(), layer: self.layer }
    }

    fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::List(items) => items.is_empty(),
            Value::Map(_) => false,
            Value::Null => true,
            Value::Scalar(scalar) => scalar.text.trim().is_empty(),
        }
    }

    /// What cannot be had is refused unless it is left empty.
    pub(super) fn refuse(&self, hint: &str) -> Result<Option<String>, Problem> {
        match self.is_empty() {
            true => Ok(None),
            false => Err(Problem::new("is not supported").hint(hint)),
        }
    }

    pub(super) fn parse<T>(&self, parse: fn(&str) -> Result<T, Problem>) -> Result<T, Problem> {
        parse(self.one()?)
    }

    pub(super) fn text(&self) -> Result<String, Problem> {
        Ok(self.one()?.trim().to_owned())
    }

    pub(super) fn secret(&self) -> Result<Secret<String>, Problem> {
        Ok(Secret::new(self.one()?.trim().to_owned()))
    }

    /// Part of a subject: a domain or a prefix.
    pub(super) fn subject_part(&self) -> Result<String, Problem> {
        let text = self.one()?.trim().trim_end_matches('.');
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
        match text.is_empty() || text.contains(is_odd) || text.split('.').any(str::is_empty) {
            true => Err(Problem::new(format!("`{text}` cannot stand in a subject"))
                .hint("write tokens joined by `.`, without spaces, `*` and `>`")),
            false => Ok(text.to_owned()),
        }
    }

    pub(super) fn servers(&self) -> Result<ServerList, Problem> {
        url::parse_servers(&self.many()?.join(","))
    }

    /// The seed of a user's key.
    pub(super) fn seed(&self) -> Result<Secret<String>, Problem> {
        let text = self.one()?.trim();
        match is_seed(text) {
            true => Ok(Secret::new(text.to_owned())),
            false => Err(Problem::new("is not the seed of a user's nkey").hint(SEED_HINT)),
        }
    }

    /// The seed of a user's key, or a file with it.
    pub(super) fn nkey(&self) -> Result<FileOrText, Problem> {
        let text = self.one()?.trim();
        if is_seed(text) {
            return Ok(FileOrText::Text(Secret::new(text.to_owned())));
        }
        if !looks_like_a_path(text) {
            return Err(Problem::new("is neither the seed of a user's nkey nor a file")
                .hint(format!("{SEED_HINT}; write a file of this directory as `./NAME`")));
        }
        self.file(text).map(FileOrText::File)
    }

    /// A creds file, or its text.
    pub(super) fn credentials(&self) -> Result<FileOrText, Problem> {
        let text = self.one()?.trim();
        if text.contains(CREDENTIALS_BEGIN) {
            return Ok(FileOrText::Text(Secret::new(text.to_owned())));
        }
        if !looks_like_a_path(text) {
            return Err(Problem::new("is neither a creds file nor its text")
                .hint("write the path of a creds file; one of this directory as `./NAME`"));
        }
        self.file(text).map(FileOrText::File)
    }

    /// Files of authorities, or their text.
    pub(super) fn authorities(&self) -> Result<Vec<FileOrText>, Problem> {
        self.many()?
            .into_iter()
            .map(|text| match text.contains(CERTIFICATE_BEGIN) {
                true => Ok(FileOrText::Text(Secret::new(real_newlines(text)))),
                false => {
                    let file = self.file(text)?;
                    match std::fs::read_to_string(&file) {
                        Ok(pem) if pem.contains(CERTIFICATE_BEGIN) => Ok(FileOrText::File(file)),
                        _ => Err(Problem::new(format!("`{}` has no certificate", file.display()))
                            .hint("an authority is a PEM file with `BEGIN CERTIFICATE`")),
                    }
                }
            })
            .collect()
    }

    /// Certificates as text: PEM, or PEM or DER in base64.
    pub(super) fn authority_text(&self) -> Result<String, Problem> {
        let text = self.one()?;
        if text.contains(CERTIFICATE_BEGIN) {
            return Ok(real_newlines(text));
        }
        let packed: String = text.split_whitespace().collect();
        let decoded = base64::engine::general_purpose::STANDARD.decode(&packed).ok();
        match decoded.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            Some((_, Ok(pem))) if pem.contains(CERTIFICATE_BEGIN) => Ok(pem.to_owned()),
            // DER begins with a sequence of more than 255 bytes.
            Some(([0x30, 0x82, ..], _)) => {
                Ok(format!("{CERTIFICATE_BEGIN}\n{packed}\n-----END CERTIFICATE-----\n"))
            }
            _ => Err(Problem::new("is not the text of a certificate")
                .hint("write PEM text with `BEGIN CERTIFICATE`, or name a file")),
        }
    }

    /// A file that can be read now.
    pub(super) fn readable(&self) -> Result<PathBuf, Problem> {
        self.file(self.one()?.trim())
    }

    fn file(&self, text: &str) -> Result<PathBuf, Problem> {
        if text.contains("-----BEGIN") || text.contains('\n') {
            return Err(Problem::new("is the text of a file where its path is wanted")
                .hint("put the text into a file and write its path"));
        }
        let path = self.environment.expand_home(text);
        let opened = std::fs::File::open(&path).and_then(|file| file.metadata());
        match opened {
            Ok(metadata) if metadata.is_dir() => {
                Err(Problem::new(format!("`{}` is a directory", path.display())))
            }
            Ok(_) => Ok(path),
            Err(cause) => {
                Err(Problem::new(format!("`{}` cannot be read: {cause}", path.display()))
                    .hint("check the path and its permissions"))
            }
        }
    }

    fn one(&self) -> Result<&str, Problem> {
        self.node.text().ok_or_else(|| {
            Problem::new(format!("is {} where one value is wanted", self.node.kind()))
        })
    }

    fn many(&self) -> Result<Vec<&str>, Problem> {
        let Value::List(items) = &self.node.value else {
            return Ok(vec![self.one()?.trim()]);
        };
        items
            .iter()
            .map(|item| match item.text() {
                Some(text) => Ok(text.trim()),
                None => Err(Problem::new(format!("has {} in its list", item.kind()))),
            })
            .collect()
    }
}

const SEED_HINT: &str = "a seed is 58 characters and begins with `SU`";

fn is_seed(text: &str) -> bool {
    text.len() == SEED_LENGTH
        && text.starts_with("SU")
        && text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
}

/// What has no `/` and no `.` may be a secret in the wrong place, and is not shown; nor is a JWT,
/// whose dots are no file's.
fn looks_like_a_path(text: &str) -> bool {
    !text.contains('\n') && !text.starts_with("eyJ") && text.contains(['/', '.', '~'])
}

/// PEM text that came through a variable often has `\n` for its line ends.
fn real_newlines(text: &str) -> String {
    if text.contains('\n') { text.to_owned() } else { text.replace("\\n", "\n") }
}
