//! `If-Match` and `If-None-Match`, as RFC 9110 §13 has them: an `ETag` is a revision in quotes.
//!
//! What is not there has no revision, so no tag is ever its: `"0"` least of all, which stores
//! would take for "nothing".

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jetbridge_core::{ErrorKind, Expect, Revision};

use super::refusal::Refusal;

/// What a request says about revisions.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Tags {
    /// `*`.
    Any,
    /// These; what is no revision of ours is none of them.
    These(Vec<Revision>),
}

/// How tags are compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Compared {
    /// A tag that calls itself weak is no tag of ours.
    Strongly,
    /// `W/"7"` is `"7"`.
    Weakly,
}

impl Tags {
    /// What `If-Match` says.
    fn wanted(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        Self::read(headers, &IF_MATCH, Compared::Strongly)
    }

    /// What `If-None-Match` says.
    fn unwanted(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        Self::read(headers, &IF_NONE_MATCH, Compared::Weakly)
    }

    fn read(
        headers: &HeaderMap,
        name: &HeaderName,
        compared: Compared,
    ) -> Result<Option<Self>, Refusal> {
        let mut tags = Vec::new();
        let mut is_there = false;
        for value in headers.get_all(name) {
            is_there = true;
            let text = value.to_str().map_err(|_bytes| bad(name))?;
            if text.trim() == "*" {
                return Ok(Some(Self::Any));
            }
            let mut rest = text.trim_matches([' ', '\t', ',']);
            while !rest.is_empty() {
                let (is_weak, quoted) = match rest.strip_prefix("W/") {
                    Some(quoted) => (true, quoted),
                    None => (false, rest),
                };
                // A comma in quotes is part of a tag.
                let quoted = quoted.strip_prefix('"');
                let (tag, behind) =
                    quoted.and_then(|tag| tag.split_once('"')).ok_or_else(|| bad(name))?;
                if !is_weak || compared == Compared::Weakly {
                    tags.extend(revision(tag));
                }
                rest = behind.trim_start();
                if !rest.is_empty() && !rest.starts_with(',') {
                    return Err(bad(name));
                }
                rest = rest.trim_start_matches([' ', '\t', ',']);
            }
        }
        Ok(is_there.then_some(Self::These(tags)))
    }

    /// True if what is there, if anything, is one of these.
    fn hold(&self, present: Option<Revision>) -> bool {
        match (self, present) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(revisions), Some(present)) => revisions.contains(&present),
        }
    }
}

/// The revision that `tag` stands for, if it is written as we write it.
fn revision(tag: &str) -> Option<Revision> {
    let number: u64 = tag.parse().ok()?;
    (number != 0 && number.to_string() == tag).then_some(Revision(number))
}

fn bad(name: &HeaderName) -> Refusal {
    Refusal::bad(format!("`{name}` is `*`, or revisions in quotes such as `\"7\"`"))
}

/// The condition of a write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Condition {
    wanted: Option<Tags>,
    unwanted: Option<Tags>,
}

/// The condition that the request sets for its write.
pub(super) fn of_write(headers: &HeaderMap) -> Result<Condition, Refusal> {
    Ok(Condition { wanted: Tags::wanted(headers)?, unwanted: Tags::unwanted(headers)? })
}

impl Condition {
    /// What to expect, where that can be said without looking.
    fn at_once(&self) -> Option<Expect> {
        match (&self.wanted, &self.unwanted) {
            (None, None) => Some(Expect::Any),
            (None, Some(Tags::Any)) => Some(Expect::Absent),
            (Some(Tags::These(revisions)), None) => match &**revisions {
                [only] => Some(Expect::Exactly(*only)),
                _ => None,
            },
            _ => None,
        }
    }

    /// True if the live revision must be known to say what to expect.
    pub(super) fn must_look(&self) -> bool {
        self.at_once().is_none()
    }

    /// As [`Condition::must_look`], for a deletion: a store deletes nothing that must be absent.
    pub(super) fn must_look_to_delete(&self) -> bool {
        matches!(self.at_once(), None | Some(Expect::Absent))
    }

    /// What to expect where `present` is the live revision, which counts if it had to be known.
    /// Both fields must hold, `If-Match` first.
    pub(super) fn over(&self, present: Option<Revision>) -> Result<Expect, Refusal> {
        if let Some(expect) = self.at_once() {
            return Ok(expect);
        }
        let is_wanted = self.wanted.as_ref().is_none_or(|tags| tags.hold(present));
        if !is_wanted || self.unwanted.as_ref().is_some_and(|tags| tags.hold(present)) {
            return Err(failed(present));
        }
        Ok(present.map_or(Expect::Absent, Expect::Exactly))
    }

    /// As [`Condition::over`], for a deletion: nothing if there is nothing to delete.
    pub(super) fn over_deletion(
        &self,
        present: Option<Revision>,
    ) -> Result<Option<Expect>, Refusal> {
        match (self.over(present)?, present) {
            (Expect::Absent, Some(_)) => Err(failed(present)),
            (Expect::Absent, None) => Ok(None),
            (expect, _) => Ok(Some(expect)),
        }
    }
}

/// 412: what is there is not what the request is about.
fn failed(present: Option<Revision>) -> Refusal {
    let message = match present {
        Some(revision) => format!("the present revision is {revision}"),
        None => "there is nothing under that name".to_owned(),
    };
    Refusal::new(StatusCode::PRECONDITION_FAILED, ErrorKind::Conflict, message)
        .over(present)
        .hint("read it again, and decide again")
}

/// Refuses conditions of a read that say nothing.
pub(super) fn check_read(headers: &HeaderMap) -> Result<(), Refusal> {
    of_write(headers).map(drop)
}

/// What a read comes to, by its conditions: 412 or 304, or nothing.
pub(super) fn of_read(
    headers: &HeaderMap,
    present: Revision,
) -> Result<Option<StatusCode>, Refusal> {
    if Tags::wanted(headers)?.is_some_and(|tags| !tags.hold(Some(present))) {
        return Err(failed(Some(present)));
    }
    let is_known = Tags::unwanted(headers)?.is_some_and(|tags| tags.hold(Some(present)));
    Ok(is_known.then_some(StatusCode::NOT_MODIFIED))
}

/// `"7"`.
pub(super) fn etag(revision: Revision) -> HeaderValue {
    let text = format!("\"{revision}\"");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        pairs.collect()
    }

    /// What to expect over revision 7, 9 and nothing; `None` is 412.
    #[track_caller]
    fn check(pairs: &[(HeaderName, &str)], expected: [Option<Expect>; 3]) {
        let condition = of_write(&headers(pairs)).unwrap();
        let present = [Some(Revision(7)), Some(Revision(9)), None];
        assert_eq!(present.map(|it| condition.over(it).ok()), expected, "{pairs:?}");
    }

    #[test]
    fn conditions_are_read() {
        let (any, absent) = (Some(Expect::Any), Some(Expect::Absent));
        let exactly = |revision| Some(Expect::Exactly(Revision(revision)));
        let (seven, nine) = (exactly(7), exactly(9));
        check(&[], [any, any, any]);
        // The store itself decides where it can.
        check(&[(IF_NONE_MATCH, "*")], [absent, absent, absent]);
        check(&[(IF_MATCH, "\"7\"")], [seven, seven, seven]);
        check(&[(IF_MATCH, "*")], [seven, nine, None]);
        check(&[(IF_MATCH, "\"7\", \"9\"")], [seven, nine, None]);
        check(&[(IF_MATCH, "\"8\",,\"a,b\" , \"9\"")], [None, nine, None]);
        for none in ["W/\"7\"", "\"abc\"", "\"0\"", "\"07\"", "\"+7\"", "\"\"", ""] {
            check(&[(IF_MATCH, none)], [None, None, None]);
            let not_weak = none.trim_start_matches("W/");
            if not_weak == none {
                check(&[(IF_NONE_MATCH, none)], [seven, nine, absent]);
            }
        }
        check(&[(IF_NONE_MATCH, "W/\"7\", \"8\"")], [None, nine, absent]);
        check(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")], [None, None, None]);
        check(&[(IF_MATCH, "\"7\""), (IF_NONE_MATCH, "\"9\"")], [seven, None, None]);
        for wrong in ["7", "\"7", "\"7\" \"8\"", "*, \"7\"", "w/\"7\""] {
            assert!(of_write(&headers(&[(IF_MATCH, wrong)])).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_deletion_of_what_must_be_absent_is_none() {
        let absent = of_write(&headers(&[(IF_NONE_MATCH, "*")])).unwrap();
        assert!(absent.must_look_to_delete() && !absent.must_look());
        assert_eq!(absent.over_deletion(None).ok(), Some(None));
        assert!(absent.over_deletion(Some(Revision(7))).is_err());
    }
}
