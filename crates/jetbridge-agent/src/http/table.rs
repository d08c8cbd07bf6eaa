//! What an operation is, and which one a request means.
//!
//! The table of operations is the one place that says what can be asked: the router, the checks
//! of who may ask and of what parameters there are, and the OpenAPI document are all read from it.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::future::BoxFuture;
use percent_encoding::percent_decode_str;

use super::access::Needs;
use super::call::Call;
use super::refusal::Refusal;

/// What can be asked.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Its name in the document.
    pub(crate) id: &'static str,
    pub(crate) method: Method,
    /// The path, with `{parameters}`: the first is a word, the last all that is left.
    pub(crate) path: &'static str,
    /// What it does, in a sentence.
    pub(crate) summary: &'static str,
    pub(crate) needs: Needs,
    /// Behind the `?`.
    pub(crate) query: &'static [Parameter],
    /// Header fields that mean something here.
    pub(crate) headers: &'static [Parameter],
    pub(crate) body: Body,
    /// What is answered when all is well, and the refusals that are its own.
    pub(crate) answers: &'static [Answer],
    /// It takes as long as what it moves, or as the client listens.
    pub(crate) is_long: bool,
    pub(crate) run: Run,
}

/// How an operation is done.
pub(crate) type Run = fn(Call) -> BoxFuture<'static, Answered>;
/// What an operation comes to.
pub(crate) type Answered = Result<Response, Refusal>;

/// A parameter, all of them optional.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) summary: &'static str,
    pub(crate) shape: Shape,
}

/// What a parameter looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Any text.
    Text,
    /// A duration, as `90s` or `1h30m`.
    Duration,
    /// A number that is not negative.
    Natural,
    /// A number of 1 to [`PAGE_MAX`].
    Page,
    /// A number.
    Integer,
    /// `1`, or left out.
    Flag,
    /// A name of letters, digits, `-` and `_`.
    Word,
    /// `*`, or revisions in quotes.
    Tags,
    /// What an event has as its id, or a revision or sequence alone.
    EventId,
}

/// Keys in a page at most: an answer of about 10 MiB.
pub(crate) const PAGE_MAX: u64 = 10_000;

/// What is sent along.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Body {
    /// Nothing.
    Nothing,
    /// Bytes of any kind.
    Bytes,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) summary: &'static str,
    pub(crate) content: Content,
}

/// What an answer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// Nothing.
    Nothing,
    /// Bytes as they were stored.
    Bytes,
    /// Bytes as they were stored, or JSON of the schema of that name if that was asked for.
    BytesOrJson(&'static str),
    /// Text for people or programs.
    Text,
    /// JSON of the schema of that name.
    Json(&'static str),
    /// Server-sent events whose data is JSON of the schema of that name.
    Events(&'static str),
}

/// The operations, ready to be looked up.
#[derive(Debug)]
pub(crate) struct Table(Vec<(Template, Operation)>);

/// What a request means.
#[derive(Debug)]
pub(crate) enum Meant<'a> {
    /// This, with these parameters of its path.
    This(&'a Operation, BTreeMap<&'static str, String>),
    /// There is something of that path, but not for that method: these are there.
    OtherMethods(Vec<&'a Method>),
    /// Nothing here.
    Nothing,
}

impl Table {
    pub(crate) fn new(operations: Vec<Operation>) -> Self {
        let templates = operations.into_iter().map(|it| (Template::parse(it.path), it));
        Self(templates.collect())
    }

    pub(crate) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.0.iter().map(|(_, operation)| operation)
    }

    /// The operation that `method` and the raw `path` mean. What stands in the path is decoded
    /// once, behind the looking up, so that any name can be written.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Meant<'_>, Refusal> {
        let asked = if *method == Method::HEAD { &Method::GET } else { method };
        let mut others = Vec::new();
        for (template, operation) in &self.0 {
            let Some(found) = template.matches(path) else { continue };
            if operation.method != *asked {
                others.push(&operation.method);
                continue;
            }
            let mut parameters = BTreeMap::new();
            for (name, raw) in found {
                let text = percent_decode_str(raw).decode_utf8();
                let text = text.map_err(|_bytes| {
                    Refusal::bad(format!("`{name}` in the path is not UTF-8 when decoded"))
                })?;
                parameters.insert(name, text.into_owned());
            }
            return Ok(Meant::This(operation, parameters));
        }
        Ok(if others.is_empty() { Meant::Nothing } else { Meant::OtherMethods(others) })
    }
}

/// A path in pieces.
#[derive(Debug)]
struct Template {
    /// What stands before each parameter, and its name.
    pieces: Vec<(&'static str, &'static str)>,
    /// What stands behind the last.
    end: &'static str,
}

impl Template {
    fn parse(path: &'static str) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), path);
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
            pieces.push((before, name));
            rest = behind;
        }
        Self { pieces, end: rest }
    }

    /// The raw parameters, if `path` is one of these.
    fn matches<'a>(&self, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
        let (mut found, mut rest) = (Vec::with_capacity(self.pieces.len()), path);
        for (i, (before, name)) in self.pieces.iter().enumerate() {
            rest = rest.strip_prefix(before)?;
            let is_last = i + 1 == self.pieces.len();
            let value = match is_last && *name != "bucket" {
                true => rest.strip_suffix(self.end)?,
                false => &rest[..rest.find(['/', ':']).unwrap_or(rest.len())],
            };
            if value.is_empty() {
                return None;
            }
            found.push((*name, value));
            rest = &rest[value.len()..];
        }
        (rest == self.end).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(template: &'static str, path: &str, found: Option<&[(&str, &str)]>) {
        let matched = Template::parse(template).matches(path);
        assert_eq!(matched.as_deref(), found, "{template} {path}");
    }

    #[test]
    fn a_path_is_taken_apart() {
        let key = "/v1/kv/{bucket}/{key}";
        check(key, "/v1/kv/b/a", Some(&[("bucket", "b"), ("key", "a")]));
        check(key, "/v1/kv/b//a/../c:x", Some(&[("bucket", "b"), ("key", "/a/../c:x")]));
        check(key, "/v1/kv/b/", None);
        check(key, "/v1/kv//a", None);
        let verb = "/v1/kv/{bucket}/{key}:increment";
        check(verb, "/v1/kv/b/a:increment", Some(&[("bucket", "b"), ("key", "a")]));
        check(verb, "/v1/kv/b/a%3Aincrement", None);
        check(verb, "/v1/kv/b/:increment", None);
        check("/v1/kv/{bucket}", "/v1/kv/b", Some(&[("bucket", "b")]));
        check("/v1/kv/{bucket}", "/v1/kv/b:watch", None);
        check("/v1/kv/{bucket}:watch", "/v1/kv/b:watch", Some(&[("bucket", "b")]));
        check("/v1/limits/{id}/acquire", "/v1/limits/a:b/c/acquire", Some(&[("id", "a:b/c")]));
        check("/healthz", "/healthz", Some(&[]));
        check("/healthz", "/healthz/", None);
    }
}
