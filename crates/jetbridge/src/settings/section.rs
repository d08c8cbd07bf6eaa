//! The store of a section that may name a server of its own, as a rate-sync store or a Litestream
//! replica does. One that names none uses the file's store, and cannot say how to log in there.

use jetbridge_core::Result;

use super::environment::Environment;
use super::location::StoreUrl;
use super::place::Problem;
use super::read::{NatsSettings, Source, read};
use super::resolve::{Resolved, StoreRequest, nats, resolve};
use super::source::Entry;
use super::table::Dialect;

/// What a section says about its store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SectionStore {
    /// The store it names; `None` if it uses the file's.
    pub own: Option<Resolved>,
    /// What else it says.
    pub settings: NatsSettings,
}

/// Reads a section in `dialect`; names in `also_known` are somebody else's. What the section does
/// not say about its server, the `NATS_*` variables do.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) as for [`read`], and for settings of
/// a connection where no server is named.
pub fn resolve_section(
    dialect: Dialect,
    entries: &[Entry],
    also_known: &[&'static str],
    environment: &Environment,
) -> Result<SectionStore> {
    let server = |entry: &&Entry| dialect.is_server(&entry.name);
    let url = entries.iter().find(server);
    let url = url.and_then(|entry| entry.node.text().map(|text| (entry, text)));
    let Some((entry, text)) = url.filter(|(_, text)| !text.is_empty()) else {
        let settings = without_server(dialect, entries, also_known, environment)?;
        return Ok(SectionStore { own: None, settings });
    };
    let place = entry.place.clone();
    match StoreUrl::parse(text).map_err(|problem| problem.of(entry))? {
        StoreUrl::Servers(_) => {
            let section = Source::new(dialect, entries).also_known(also_known);
            let sources = [Source::variables(environment), section];
            let settings = read(dialect, &sources, environment)?;
            Ok(SectionStore { own: Some(nats(settings.clone(), place)?), settings })
        }
        StoreUrl::Context(_) | StoreUrl::Location(_) => {
            let settings = without_server(dialect, entries, also_known, environment)?;
            let alone = StoreRequest::new().store(Some(text.to_owned()));
            Ok(SectionStore { own: Some(resolve(&alone, environment)?), settings })
        }
    }
}

/// The settings beside the server's URL, none of which may be about a connection.
fn without_server(
    dialect: Dialect,
    entries: &[Entry],
    also_known: &[&'static str],
    environment: &Environment,
) -> Result<NatsSettings> {
    let others: Vec<Entry> =
        entries.iter().filter(|entry| !dialect.is_server(&entry.name)).cloned().collect();
    let source = Source::new(dialect, &others).also_known(also_known);
    let settings = read(dialect, &[source], environment)?;
    let nobodys = read(dialect, &[], environment)?.connect;
    if settings.connect == nobodys {
        return Ok(settings);
    }
    let is_of_connection = |entry: &&Entry| {
        let alone = Source::new(dialect, std::slice::from_ref(*entry)).also_known(also_known);
        // Half a login is refused on its own: it is about the connection all the more.
        read(dialect, &[alone], environment).map_or(true, |it| it.connect != nobodys)
    };
    match others.iter().find(is_of_connection) {
        None => Ok(settings),
        Some(entry) => Err(Problem::new("is for servers of NATS, and none is named here")
            .hint("name the server too: `url`")
            .of(entry)),
    }
}
