//! The server that a template's call names: `(( nats "…" SERVER ))` and `(( nats@TARGET "…" ))`.
//! Their keys are graft's, and so are the defaults; a store of this machine may stand there too.

use std::collections::BTreeMap;

use jetbridge_core::Result;

use super::context::read_context;
use super::environment::Environment;
use super::location::StoreUrl;
use super::place::{Place, Problem};
use super::read::{Source, read, target_variable};
use super::resolve::{Resolved, StoreRequest, nats, resolve};
use super::source::{Entry, Node};
use super::table::Dialect;

/// What errors call the place of a call's settings: the caller knows its line.
const CALL: &str = "the server of the call";

/// The store that a call's settings name: a `url` and whatever else the connection needs, over
/// the `NATS_*` variables. Without `url` they change the store that `request` finds.
///
/// ```
/// use jetbridge::settings::{Environment, StoreRequest, resolve_call};
///
/// let call = [("url", "secure-nats:4222"), ("tls", "true")];
/// let call = call.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
/// let found = resolve_call(&call, &StoreRequest::new(), &Environment::default())?;
/// assert_eq!(found.location.to_string(), "nats://secure-nats:4222");
/// # Ok::<(), jetbridge::Error>(())
/// ```
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) for an unknown key, a bad value, or
/// settings of servers for a store of this machine.
pub fn resolve_call(
    call: &BTreeMap<String, String>,
    request: &StoreRequest,
    environment: &Environment,
) -> Result<Resolved> {
    let place = Place::argument(CALL);
    let entry = |(name, text): (&String, &String)| Entry {
        name: name.clone(),
        place: place.clone(),
        node: Node::scalar(text, place.clone()),
    };
    let (urls, others): (Vec<Entry>, Vec<Entry>) =
        call.iter().map(entry).partition(|entry| entry.name.eq_ignore_ascii_case("url"));
    let others = Source::new(Dialect::Graft, &others);
    let Some(url) = urls.first().and_then(|entry| entry.node.text()) else {
        return resolve(&request.clone().refined(others), environment);
    };
    match StoreUrl::parse(url).map_err(|problem| problem.at(&place))? {
        StoreUrl::Servers(_) => {
            let url = Source::url(Dialect::Graft, url, &place);
            let sources = [Source::variables(environment), url, others];
            nats(read(Dialect::Graft, &sources, environment)?, place)
        }
        // What the URL says is found as if it stood alone, and the rest is put over it.
        StoreUrl::Context(_) | StoreUrl::Location(_) => {
            let alone = StoreRequest::new().store(Some(url.to_owned()));
            let refined = if others.is_empty() { alone } else { alone.refined(others) };
            resolve(&refined, environment)
        }
    }
}

/// The store that `@target` names: `NATS_<TARGET>_URL` and the other variables of that target,
/// and no others.
///
/// # Errors
/// [`InvalidInput`](jetbridge_core::ErrorKind::InvalidInput) if the variable of the URL is not
/// set, which the error names, or one of them cannot be read.
pub fn resolve_target(target: &str, environment: &Environment) -> Result<Resolved> {
    let variable = target_variable(target);
    let place = Place::variable(variable.clone());
    let source = Source::target(target, environment);
    if let Some(url) = environment.get(&variable) {
        match StoreUrl::parse(url).map_err(|problem| problem.at(&place))? {
            StoreUrl::Location(location) => return Ok(Resolved::quiet(location, place)),
            StoreUrl::Context(name) => {
                let settings = read_context(name.as_deref(), &place, None, environment)?;
                return nats(settings, place);
            }
            StoreUrl::Servers(_) => {}
        }
    }
    let settings = read(Dialect::Graft, &[source], environment)?;
    if settings.server_place.is_none() {
        return Err(Problem::new(format!(
            "NATS target '{target}' configuration incomplete (expected {variable} environment \
             variable)"
        ))
        .hint(format!("set {variable} to the URL of its server"))
        .into_error(None));
    }
    nats(settings, place)
}
