//! `components:` — `{wasm: counter.wasm, links: {default: {bucket: counters}}, route: /count}`.

use std::collections::BTreeMap;
use std::time::Duration;

use jetbridge::Links;
use jetbridge::settings::{ByteSize, GoDuration, Node, Value};
use jetbridge::wasi::host::Limits;
use jetbridge_core::{Error, ErrorKind, Result};
use serde::Deserialize;

use super::templates::Surroundings;
use super::{at, at_node, keep};
use crate::component::ComponentSpec;

/// How long a request or a change may take, unless the file says otherwise.
const TIME_DEFAULT: Duration = Duration::from_secs(30);
/// What `up` answers itself: no component has such a path.
const RESERVED: [&str; 4] = ["/healthz", "/metrics", "/readyz", "/v1"];

type Properties = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    wasm: String,
    #[serde(default)]
    links: BTreeMap<String, Option<Properties>>,
    #[serde(default)]
    provider: Properties,
    #[serde(default)]
    watch: Vec<String>,
    route: Option<String>,
    #[serde(default)]
    limits: WrittenLimits,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLimits {
    memory: Option<ByteSize>,
    time: Option<GoDuration>,
    result: Option<ByteSize>,
}

pub(super) fn read(
    node: &Node,
    around: Surroundings<'_>,
    components: &mut Vec<ComponentSpec>,
    problems: &mut Vec<Error>,
) {
    let Value::List(items) = &node.value else {
        problems.push(at(node, "`components` is a list".to_owned()));
        return;
    };
    for item in items {
        let spec = item
            .read::<Written>()
            .and_then(|written| written.spec(around).map_err(|error| at_node(item, &error)));
        components.extend(keep(spec, problems));
    }
}

impl Written {
    fn spec(self, around: Surroundings<'_>) -> Result<ComponentSpec> {
        if self.route.is_none() && self.watch.is_empty() {
            return Err(bad("a component needs `watch` or `route`: nothing would ever call it"));
        }
        if let Some(route) = &self.route {
            check_route(route)?;
        }
        let limits = self.limits.limits();
        let mut links: BTreeMap<_, Vec<_>> = self
            .links
            .into_iter()
            .map(|(name, properties)| (name, properties.unwrap_or_default().into_iter().collect()))
            .collect();
        if links.is_empty() {
            let (name, properties) = Links::default_link();
            links.insert(name.to_owned(), properties.to_vec());
        }
        // A bucket that is watched needs no more than its name.
        for watched in self.watch.iter().filter(|name| !name.is_empty() && *name != "default") {
            links.entry(watched.clone()).or_default();
        }
        Ok(ComponentSpec {
            name: self.name.unwrap_or_else(|| self.wasm.clone()),
            wasm: around.folder.join(&self.wasm),
            links,
            provider: self.provider.into_iter().collect(),
            watch: self.watch,
            route: self.route,
            limits,
            environment: around.environment.clone(),
        })
    }
}

impl WrittenLimits {
    fn limits(self) -> Limits {
        let bytes = |size: ByteSize| usize::try_from(size.0).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.time = Some(self.time.map_or(TIME_DEFAULT, |time| time.0));
        limits.memory_bytes = self.memory.map_or(limits.memory_bytes, bytes);
        limits.result_bytes = self.result.map_or(limits.result_bytes, bytes);
        limits
    }
}

fn check_route(route: &str) -> Result<()> {
    if !route.starts_with('/') || route.contains(['?', '#', ' ']) {
        return Err(bad(format!("`route: {route}` is no path: it begins with `/`")));
    }
    let is_below = |path: &str| {
        route.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match RESERVED.into_iter().find(|path| is_below(path)) {
        Some(reserved) => Err(bad(format!("`route: {route}`: `up` itself answers `{reserved}`"))),
        None => Ok(()),
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "settings.read").because(message)
}
