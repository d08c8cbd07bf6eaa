//! `wasi`: components, what they are linked to, and what they may use up.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::parse;

#[derive(Args, Debug)]
pub(crate) struct Wasi {
    #[command(subcommand)]
    pub(crate) word: Word,
}

impl Wasi {
    /// True for what goes on until somebody ends it.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.word, Word::Serve(_))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Run a component that is a command, and end as it ends
    Run(Run),
    /// Let a component answer HTTP, until told to stop
    Serve(Serve),
    /// Say which dialects a component speaks, what it is for, and what it needs
    Inspect(Guest),
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) guest: Guest,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// The component's arguments, after `--`
    #[arg(last = true, value_name = "ARG")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) guest: Guest,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Where to listen; port 0 takes a free one
    #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
}

/// A component, and what it finds behind the identifiers that it opens.
#[derive(Args)]
pub(crate) struct Guest {
    /// The file of the component
    pub(crate) component: PathBuf,
    /// What is behind an identifier that the component opens, one property at a time, in
    /// wasmCloud's words: `default:bucket=counters`; `${VAR}` in a value is the variable's
    /// [default: the bucket `default` of the store]
    #[arg(long = "link", value_name = "NAME:KEY=VALUE", value_parser = parse_link)]
    pub(crate) links: Vec<Property>,
    /// A property of every link that does not set it itself
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::fact)]
    pub(crate) provider: Vec<(String, String)>,
}

#[derive(Args, Debug)]
pub(crate) struct Limits {
    /// Bytes of memory, for each run or request
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse::size_limit)]
    pub(crate) max_memory: parse::Limit<u64>,
    /// How long a run or a request may take [default: no limit; to serve, 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse::span_limit)]
    pub(crate) max_time: Option<parse::Limit<Duration>>,
    /// Bytes of one answer of a store
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse::size_limit)]
    pub(crate) max_result: parse::Limit<u64>,
}

/// A link's name and one of its properties; a name alone is a link to the bucket of that name.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Property {
    pub(crate) link: String,
    pub(crate) property: Option<(String, String)>,
}

/// Without the properties, some of which log in.
impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("component", &self.component)
            .field("links", &self.links)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.property.as_ref().map(|(name, _)| name);
        f.debug_struct("Property").field("link", &self.link).field("name", &name).finish()
    }
}

fn parse_link(raw: &str) -> Result<Property, String> {
    let (link, property) = match raw.split_once(':') {
        None if raw.contains('=') => {
            return Err("say of which link: `NAME:KEY=VALUE`, or `default:KEY=VALUE`".to_owned());
        }
        None => (raw, None),
        Some((link, property)) => (link, Some(parse::fact(property)?)),
    };
    Ok(Property { link: link.to_owned(), property })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_a_name_and_a_property() {
        let property = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        for (raw, link, wanted) in [
            ("default:bucket=b", "default", property("bucket", "b")),
            (":CLUSTER_URI=nats://h:4222", "", property("CLUSTER_URI", "nats://h:4222")),
            ("counters", "counters", None),
        ] {
            let parsed = parse_link(raw).unwrap();
            assert_eq!((parsed.link.as_str(), parsed.property), (link, wanted), "{raw}");
        }
        assert!(parse_link("bucket=b").is_err());
        assert!(parse_link("a:b").is_err());
    }
}
