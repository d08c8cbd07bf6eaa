//! `${VAR}` and `${VAR:-default}` in values, after parsing: what a variable holds is never taken
//! for syntax.

use std::ops::Range;

use jetbridge_core::Result;

use super::{Node, Scalar, Value};
use crate::settings::environment::Environment;
use crate::settings::place::Problem;

/// Which references to variables are replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Expansion {
    /// `${VAR}` and `${VAR:-default}`; `$${` stands for `${`.
    Braces,
    /// As [`Expansion::Braces`], and `$VAR` and `$PID`, as in Litestream's own files; `$$` stands
    /// for `$`.
    Litestream,
    /// None.
    Off,
}

/// Variables in a default are replaced too, this deep.
const NESTING_MAX: usize = 8;

impl Node {
    /// Replaces references to variables in every value, at any depth; names stay as they are.
    /// `${VAR:-default}` is the default if the variable is unset or empty.
    ///
    /// # Errors
    /// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) naming a variable that is unset
    /// and has no default, with its place.
    pub fn expand(&mut self, environment: &Environment, expansion: Expansion) -> Result<()> {
        match &mut self.value {
            Value::List(items) => {
                items.iter_mut().try_for_each(|item| item.expand(environment, expansion))
            }
            Value::Map(entries) => {
                entries.iter_mut().try_for_each(|entry| entry.node.expand(environment, expansion))
            }
            Value::Null => Ok(()),
            Value::Scalar(Scalar { text, .. }) => {
                if text.contains('$') {
                    *text = expand_text(text, environment, expansion)
                        .map_err(|problem| problem.at(&self.place))?;
                }
                Ok(())
            }
        }
    }
}

/// Replaces references to variables in one text.
pub(in crate::settings) fn expand_text(
    text: &str,
    environment: &Environment,
    expansion: Expansion,
) -> Result<String, Problem> {
    match expansion {
        Expansion::Off => Ok(text.to_owned()),
        Expansion::Braces | Expansion::Litestream => {
            Expander { environment, bare: expansion == Expansion::Litestream }.text(text, 0)
        }
    }
}

struct Expander<'a> {
    environment: &'a Environment,
    bare: bool,
}

impl Expander<'_> {
    fn text(&self, text: &str, depth: usize) -> Result<String, Problem> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            expanded.push_str(&rest[..dollar]);
            rest = &rest[dollar..];
            let taken = if rest.starts_with("$${") || (self.bare && rest.starts_with("$$")) {
                expanded.push('$');
                2
            } else if let Some(end) = reference_end(rest) {
                expanded.push_str(&self.braced(&rest[2..end - 1], depth)?);
                end
            } else if let Some(name) = bare_name(rest).filter(|_| self.bare) {
                expanded.push_str(&self.bare(name)?);
                1 + name.len()
            } else if rest.starts_with("${") {
                return Err(
                    Problem::new("`${` without its `}`").hint("write `$${` for `${` itself")
                );
            } else {
                expanded.push('$');
                1
            };
            rest = &rest[taken..];
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn braced(&self, inner: &str, depth: usize) -> Result<String, Problem> {
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) {
            return Err(Problem::new("what stands in `${}` is not the name of a variable")
                .hint("write `${NAME}` or `${NAME:-default}`, and `$${` for `${` itself"));
        }
        match (self.environment.get_or_empty(name), default) {
            (Some(""), Some(default)) | (None, Some(default)) if depth < NESTING_MAX => {
                self.text(default, depth + 1)
            }
            (Some(value), _) => Ok(value.to_owned()),
            (None, Some(_)) => {
                Err(Problem::new(format!("the default of `${{{name}}}` is too deep")))
            }
            (None, None) => Err(unset(name)),
        }
    }

    fn bare(&self, name: &str) -> Result<String, Problem> {
        match self.environment.get_or_empty(name) {
            Some(value) => Ok(value.to_owned()),
            None if name == "PID" => Ok(std::process::id().to_string()),
            None => Err(Problem::new(format!("the variable `{name}` is not set"))
                .hint(format!("set it, write `${{{name}:-default}}`, or `$$` for `$` itself"))),
        }
    }
}

fn unset(name: &str) -> Problem {
    Problem::new(format!("the variable `{name}` is not set"))
        .hint(format!("set it, or write `${{{name}:-default}}`"))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The name after a `$` without braces.
fn bare_name(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('$')?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end]).filter(|name| is_name(name))
}

/// Where the reference that `text` begins with ends, its `}` included; braces may nest.
fn reference_end(text: &str) -> Option<usize> {
    if !text.starts_with("${") {
        return None;
    }
    let mut depth = 0_usize;
    for (offset, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(offset + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The byte ranges of all `${…}` in `text`.
pub(super) fn references(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text.get(from..)?.find("${")?;
        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
        let end = reference_end(&text[start..line_end]).map_or(start + 2, |length| start + length);
        from = end;
        Some(start..end)
    })
    .filter(|range| range.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::from_iter([("A", "a"), ("EMPTY", ""), ("TRICKY", "x: {y} ${A}"), ("N", "007")])
    }

    fn braces(text: &str) -> Result<String, Problem> {
        expand_text(text, &environment(), Expansion::Braces)
    }

    #[test]
    fn variables_and_defaults() {
        for (text, expanded) in [
            ("${A}", "a"),
            ("x${A}y${A}", "xaya"),
            ("${A:-b}", "a"),
            ("${NONE:-b}", "b"),
            ("${NONE:-}", ""),
            ("${EMPTY:-b}", "b"),
            ("${EMPTY}", ""),
            ("${NONE:-${A}}", "a"),
            ("${NONE:-{}}", "{}"),
            ("${N}", "007"),
            ("${TRICKY}", "x: {y} ${A}"),
            ("$${A}", "${A}"),
            ("$A $ $$ 5$", "$A $ $$ 5$"),
        ] {
            assert_eq!(braces(text).unwrap(), expanded, "{text}");
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        let mut node = crate::settings::parse_yaml("a.yml", "x:\n  - {token: ${NOPE}}\n").unwrap();
        let error = node.expand(&environment(), Expansion::Braces).unwrap_err();
        assert_eq!(error.message(), Some("a.yml:2:13: the variable `NOPE` is not set"));
        assert_eq!(error.hint_text(), Some("set it, or write `${NOPE:-default}`"));
    }

    #[test]
    fn what_is_no_reference_is_said() {
        for (text, message) in [
            ("${", "`${` without its `}`"),
            ("${A", "`${` without its `}`"),
            ("${}", "what stands in `${}` is not the name of a variable"),
            ("${1}", "what stands in `${}` is not the name of a variable"),
            ("${A-b}", "what stands in `${}` is not the name of a variable"),
        ] {
            assert_eq!(braces(text).unwrap_err().message, message, "{text}");
        }
    }

    #[test]
    fn bare_names_are_litestreams_own() {
        let litestream = |text: &str| expand_text(text, &environment(), Expansion::Litestream);
        assert_eq!(
            litestream("$A/${A}/$A_x$").unwrap_err().message,
            "the variable `A_x` is not set"
        );
        assert_eq!(litestream("$A/b $5 $").unwrap(), "a/b $5 $");
        assert_eq!(litestream("pa$$word $${A}").unwrap(), "pa$word ${A}");
        assert_eq!(litestream("$PID").unwrap(), std::process::id().to_string());
        assert_eq!(expand_text("${A}", &environment(), Expansion::Off).unwrap(), "${A}");
    }

    #[test]
    fn defaults_do_not_nest_without_end() {
        let deep = format!("{}x{}", "${NONE:-".repeat(20), "}".repeat(20));
        assert!(braces(&deep).is_err());
    }
}
