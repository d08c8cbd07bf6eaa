//! The only reader of environment variables. It is a value, so that tests bring their own and
//! nothing below the settings can look around it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A set of environment variables. `Debug` shows their names, never their values.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of this process. One whose name or value is not UTF-8 is as if unset.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable; `None` if it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_or_empty(name).filter(|value| !value.is_empty())
    }

    /// As [`Environment::get`], but an empty variable is `Some("")`.
    pub fn get_or_empty(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The names of all variables, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// `path` with a leading `~/` replaced by the home directory, if that is known.
    pub fn expand_home(&self, path: &str) -> PathBuf {
        match (path.strip_prefix('~'), self.get("HOME")) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                PathBuf::from(format!("{home}{rest}"))
            }
            _ => PathBuf::from(path),
        }
    }

    /// Where what can be made again is kept: `$XDG_CACHE_HOME/jetbridge`, else
    /// `~/.cache/jetbridge`; `None` if neither is known.
    pub fn cache_directory(&self) -> Option<PathBuf> {
        let base = match self.get("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => self.expand_home("~/.cache"),
        };
        base.is_absolute().then(|| base.join("jetbridge"))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self { variables: pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect() }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Environment;

    #[test]
    fn an_empty_variable_is_unset_and_values_are_not_shown() {
        let environment = Environment::from_iter([("EMPTY", ""), ("NATS_TOKEN", "s3cr3t")]);
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.get_or_empty("EMPTY"), Some(""));
        assert_eq!(environment.get("NATS_TOKEN"), Some("s3cr3t"));
        assert_eq!(format!("{environment:?}"), r#"{"EMPTY", "NATS_TOKEN"}"#);
    }

    #[test]
    fn only_a_leading_tilde_is_the_home_directory() {
        let environment = Environment::from_iter([("HOME", "/home/ada")]);
        for (path, expanded) in
            [("~/x", "/home/ada/x"), ("~", "/home/ada"), ("~bob/x", "~bob/x"), ("/a~/b", "/a~/b")]
        {
            assert_eq!(environment.expand_home(path).to_str(), Some(expanded), "{path}");
        }
        assert_eq!(Environment::default().expand_home("~/x").to_str(), Some("~/x"));
        assert_eq!(environment.cache_directory(), Some("/home/ada/.cache/jetbridge".into()));
        assert_eq!(Environment::default().cache_directory(), None);
    }
}
