//! A store's place as a value: what every way of writing it comes down to.

use std::fmt::{self, Display};
use std::path::PathBuf;

use jetbridge_local::Durability;
use jetbridge_nats::{Auth, ConnectOptions};

use super::place::{Problem, nearest};
use super::url::{self, ServerList, UrlLogin};

/// Where a store is. `Display` is the URL without secrets.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Location {
    /// The embedded store, in a directory.
    Local {
        /// The directory; made if missing.
        directory: PathBuf,
        /// When an acknowledged write is on the disk.
        durability: Durability,
    },
    /// This process: gone with it.
    Memory,
    /// A NATS account.
    Nats(Box<ConnectOptions>),
}

impl Location {
    /// The embedded store in `directory`, as durable as by default.
    pub fn local(directory: impl Into<PathBuf>) -> Self {
        Self::Local { directory: directory.into(), durability: Durability::default() }
    }
}

impl Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { directory, durability } => {
                write!(f, "local:{}", directory.display())?;
                if *durability == Durability::Full { f.write_str("?sync=full") } else { Ok(()) }
            }
            Self::Memory => f.write_str("memory:"),
            Self::Nats(options) => f.write_str(&options.servers.join(",")),
        }
    }
}

/// A store URL taken apart; what is still to be looked up is named, not read.
#[derive(Debug, PartialEq)]
pub(super) enum StoreUrl {
    /// A context of the `nats` CLI; `None` is the selected one.
    Context(Option<String>),
    Location(Location),
    Servers(ServerList),
}

/// The schemes of stores, as written.
const SCHEMES: &[&str] = &["context:", "local:", "memory:", "nats://", "tls://", "ws://", "wss://"];

impl StoreUrl {
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("context:") {
            return Ok(Self::Context(Some(name.to_owned()).filter(|name| !name.is_empty())));
        }
        if let Some(rest) = text.strip_prefix("local:") {
            return parse_local(rest).map(Self::Location);
        }
        // YAML would take `store: memory:` for a map.
        if matches!(text, "memory" | "memory:" | "memory://") {
            return Ok(Self::Location(Location::Memory));
        }
        if text.contains("://") || has_port(text) {
            let list = url::parse_servers(text).map_err(|problem| like_a_store(problem, text))?;
            return match list.path {
                Some(_) => Err(Problem::new(format!(
                    "`{}`: a store of NATS has no path",
                    url::redact(text)
                ))
                .hint("leave out what follows the server; buckets are named where they are used")),
                None => Ok(Self::Servers(list)),
            };
        }
        Err(no_scheme(text))
    }
}

/// `host:port`, alone or first in a list.
fn has_port(text: &str) -> bool {
    let first = text.split([',', '/', '?']).next().unwrap_or(text);
    let address = first.rsplit_once('@').map_or(first, |(_, address)| address);
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A scheme that no server has may be meant for another kind of store.
fn like_a_store(problem: Problem, text: &str) -> Problem {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    match nearest(&format!("{scheme}:"), ["context:", "local:", "memory:"]) {
        Some("memory:") => problem.hint("did you mean `memory:`?"),
        Some("local:") => problem.hint("did you mean `local:DIR`?"),
        Some("context:") => problem.hint("did you mean `context:NAME`?"),
        _ => problem,
    }
}

fn no_scheme(text: &str) -> Problem {
    let shown = url::redact(text);
    if text.is_empty() {
        return Problem::new("the store is empty").hint(FORMS_HINT);
    }
    let problem = Problem::new(format!("`{shown}` does not say what kind of store it is"));
    match nearest(text, SCHEMES.iter().copied()) {
        Some(scheme) => problem.hint(format!("did you mean `{scheme}`?")),
        None if text.contains('@') => problem.hint(FORMS_HINT),
        None => problem.hint(format!(
            "write `local:{shown}` for a directory, `nats://{shown}` for a server, \
             `context:{shown}` for a context of the nats CLI"
        )),
    }
}

const FORMS_HINT: &str = "a store is `nats://host:4222`, `context:NAME`, `local:DIR` or `memory:`";

fn parse_local(rest: &str) -> Result<Location, Problem> {
    let (directory, query) = rest.split_once('?').unwrap_or((rest, ""));
    if directory.is_empty() {
        return Err(Problem::new("`local:` names no directory").hint("write `local:./data`"));
    }
    if let Some(path) = directory.strip_prefix("//").filter(|path| !path.starts_with('/')) {
        return Err(Problem::new(format!("`local:{directory}` reads like a host"))
            .hint(format!("write `local:{path}` or `local:/{path}`")));
    }
    let directory = match directory.strip_prefix("///") {
        Some(path) => format!("/{path}"),
        None => directory.to_owned(),
    };
    let mut durability = Durability::default();
    for (name, value) in url::parse_query(query)? {
        durability = match (name.as_str(), value.as_str()) {
            ("sync", "full") => Durability::Full,
            ("sync", "normal") => Durability::Process,
            ("sync", _) => {
                return Err(Problem::new(format!("`sync={value}` of `local:{directory}`"))
                    .hint("`sync` is `full` or `normal`"));
            }
            _ => {
                return Err(Problem::new(format!(
                    "unknown option `{name}` of `local:{directory}`"
                ))
                .hint("the only option is `sync`: `?sync=full`"));
            }
        };
    }
    Ok(Location::Local { directory: PathBuf::from(directory), durability })
}

impl UrlLogin {
    pub(super) fn into_auth(self) -> Auth {
        match self {
            Self::Token(token) => Auth::Token(token),
            Self::UserPassword { user, password } => Auth::UserPassword { user, password },
        }
    }

    /// What the login is called in a warning.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Token(_) => "the token of the URL",
            Self::UserPassword { .. } => "the user and password of the URL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str) -> Location {
        match StoreUrl::parse(text).unwrap() {
            StoreUrl::Location(location) => location,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn stores_of_this_machine() {
        assert_eq!(location("memory:"), Location::Memory);
        assert_eq!(location("memory"), Location::Memory);
        assert_eq!(location("local:./data"), Location::local("./data"));
        assert_eq!(location("local:/var/lib/jetbridge"), Location::local("/var/lib/jetbridge"));
        assert_eq!(location("local:///var/data"), Location::local("/var/data"));
        assert_eq!(location("local:data?sync=normal"), Location::local("data"));
        let full = Location::Local { directory: "data".into(), durability: Durability::Full };
        assert_eq!(location("local:data?sync=full"), full);
        assert_eq!(full.to_string(), "local:data?sync=full");
        assert_eq!(location("local:data").to_string(), "local:data");
        assert_eq!(Location::Memory.to_string(), "memory:");
    }

    #[test]
    fn contexts_and_servers() {
        let context = |name: &str| StoreUrl::Context(Some(name.into()));
        assert_eq!(StoreUrl::parse("context:prod").unwrap(), context("prod"));
        assert_eq!(StoreUrl::parse("context:").unwrap(), StoreUrl::Context(None));
        for text in ["nats://a", "a:4222", "u:p@a:4222", "a:4222,b", "tls://a?tls_first=true"] {
            assert!(matches!(StoreUrl::parse(text), Ok(StoreUrl::Servers(_))), "{text}");
        }
    }

    #[test]
    fn an_unclear_store_says_how_to_write_it() {
        for (text, message, hint) in [
            ("", "the store is empty", FORMS_HINT),
            (
                "data",
                "`data` does not say what kind of store it is",
                "write `local:data` for a directory, `nats://data` for a server, \
                 `context:data` for a context of the nats CLI",
            ),
            ("memry:", "`memry:` does not say what kind of store it is", "did you mean `memory:`?"),
            (
                "lokal://x",
                "`lokal://x`: `lokal` is not a scheme of NATS servers",
                "did you mean `local:DIR`?",
            ),
            ("local:", "`local:` names no directory", "write `local:./data`"),
            (
                "local://data",
                "`local://data` reads like a host",
                "write `local:data` or `local:/data`",
            ),
            ("local:d?sync=on", "`sync=on` of `local:d`", "`sync` is `full` or `normal`"),
            (
                "local:d?fsync=1",
                "unknown option `fsync` of `local:d`",
                "the only option is `sync`: `?sync=full`",
            ),
            (
                "nats://t@a/b",
                "`nats://***@a/b`: a store of NATS has no path",
                "leave out what follows the server; buckets are named where they are used",
            ),
            ("secret@host", "`***@host` does not say what kind of store it is", FORMS_HINT),
        ] {
            let problem = StoreUrl::parse(text).unwrap_err();
            assert_eq!((problem.message.as_str(), problem.hint.as_deref()), (message, Some(hint)));
        }
    }
}
