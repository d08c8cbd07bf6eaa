//! `If-Match` and `If-None-Match`: an `ETag` is a revision in quotes.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use jetbridge_core::{ErrorKind, Expect, Revision};

use super::refusal::Refusal;

/// What a request says about revisions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Tags {
    /// `*`.
    Any,
    /// These; what is no revision of ours is none of them.
    These(Vec<Revision>),
}

impl Tags {
    fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Refusal> {
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
                let quoted = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"');
                // A comma in quotes is part of a tag.
                let (tag, behind) =
                    quoted.and_then(|tag| tag.split_once('"')).ok_or_else(|| bad(name))?;
                tags.extend(tag.parse().map(Revision));
                rest = behind.trim_start();
                if !rest.is_empty() && !rest.starts_with(',') {
                    return Err(bad(name));
                }
                rest = rest.trim_start_matches([' ', '\t', ',']);
            }
        }
        Ok(is_there.then_some(Self::These(tags)))
    }

    fn contains(&self, revision: Revision) -> bool {
        match self {
            Self::Any => true,
            Self::These(revisions) => revisions.contains(&revision),
        }
    }
}

fn bad(name: &HeaderName) -> Refusal {
    Refusal::bad(format!("`{name}` is `*`, or revisions in quotes such as `\"7\"`"))
}

/// The condition of a write, as far as it can be said without looking.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Condition {
    /// This one.
    Is(Expect),
    /// The present revision must be one of these.
    OneOf(Tags),
}

/// The condition that the request sets for its write.
pub(super) fn of_write(headers: &HeaderMap) -> Result<Condition, Refusal> {
    let matching = Tags::read(headers, &IF_MATCH)?;
    match (matching, Tags::read(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok(Condition::Is(Expect::Any)),
        (None, Some(Tags::Any)) => Ok(Condition::Is(Expect::Absent)),
        (Some(Tags::These(revisions)), None) if revisions.len() == 1 => {
            Ok(Condition::Is(Expect::Exactly(revisions[0])))
        }
        (Some(tags), None) => Ok(Condition::OneOf(tags)),
        (None, Some(_)) => Err(Refusal::bad("a write takes `If-None-Match: *` and no other")),
        // There is something, or there is not: both can never hold.
        (Some(_), Some(_)) => Err(Refusal::new(
            StatusCode::PRECONDITION_FAILED,
            ErrorKind::Conflict,
            "`If-Match` and `If-None-Match` exclude each other in a write",
        )
        .hint("send one of them")),
    }
}

impl Condition {
    /// What to expect where `present` is the live revision.
    pub(super) fn over(&self, present: Option<Revision>) -> Result<Expect, Refusal> {
        match (self, present) {
            (Self::Is(expect), _) => Ok(*expect),
            (Self::OneOf(tags), Some(present)) if tags.contains(present) => {
                Ok(Expect::Exactly(present))
            }
            (Self::OneOf(_), present) => Err(failed(present)),
        }
    }

    /// True if the live revision must be known to say what to expect.
    pub(super) fn must_look(&self) -> bool {
        matches!(self, Self::OneOf(_))
    }
}

/// 412: what is there is not what the request is about.
pub(super) fn failed(present: Option<Revision>) -> Refusal {
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
    Tags::read(headers, &IF_MATCH)?;
    Tags::read(headers, &IF_NONE_MATCH)?;
    Ok(())
}

/// What a read comes to, by its conditions: 412 or 304, or nothing.
pub(super) fn of_read(
    headers: &HeaderMap,
    present: Revision,
) -> Result<Option<StatusCode>, Refusal> {
    if let Some(tags) = Tags::read(headers, &IF_MATCH)?
        && !tags.contains(present)
    {
        return Err(failed(Some(present)));
    }
    let known = Tags::read(headers, &IF_NONE_MATCH)?.is_some_and(|tags| tags.contains(present));
    Ok(known.then_some(StatusCode::NOT_MODIFIED))
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

    #[test]
    fn conditions_are_read() {
        let of = |pairs: &[(HeaderName, &str)]| of_write(&headers(pairs)).ok();
        assert_eq!(of(&[]), Some(Condition::Is(Expect::Any)));
        assert_eq!(of(&[(IF_NONE_MATCH, "*")]), Some(Condition::Is(Expect::Absent)));
        let seven = Some(Condition::Is(Expect::Exactly(Revision(7))));
        assert_eq!(of(&[(IF_MATCH, "\"7\"")]), seven);
        assert_eq!(of(&[(IF_MATCH, "7")]), None);
        assert_eq!(of(&[(IF_NONE_MATCH, "\"7\"")]), None);
        assert_eq!(of(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")]), None);
        let some = of(&[(IF_MATCH, "\"7\", \"9\"")]).unwrap();
        assert_eq!(some.over(Some(Revision(9))).ok(), Some(Expect::Exactly(Revision(9))));
        assert!(some.over(Some(Revision(8))).is_err() && some.over(None).is_err());
        let comma = of(&[(IF_MATCH, "W/\"a,b\",\"9\" , \"8\"")]).unwrap();
        assert!(comma.over(Some(Revision(9))).is_ok() && comma.over(Some(Revision(7))).is_err());
        assert_eq!(of(&[(IF_MATCH, "\"7\" \"8\"")]), None);
        assert_eq!(of(&[(IF_MATCH, "\"7")]), None);
        let foreign = of(&[(IF_MATCH, "\"abc\"")]).unwrap();
        assert!(foreign.over(Some(Revision(1))).is_err());
        let any = of(&[(IF_MATCH, "*")]).unwrap();
        assert!(any.over(Some(Revision(1))).is_ok() && any.over(None).is_err());
    }
}
