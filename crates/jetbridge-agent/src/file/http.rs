//! `http:` — `{listen: 127.0.0.1:4280, token: ${JETBRIDGE_TOKEN:-}, tls: {…}, tokens: {…}}`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use axum::http::uri::Authority;
use jetbridge::settings::{ByteSize, GoDuration, Node};
use jetbridge_core::{Pattern, Result, Secret};
use serde::Deserialize;

use super::{at, at_node};
use crate::http::{HttpSpec, TlsSpec, TokenSpec};

const ADDRESS_HINT: &str = "write `127.0.0.1:4280`, or a name that resolves, as `localhost:4280`";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    tokens: BTreeMap<String, TokenWritten>,
    #[serde(default)]
    names: Vec<String>,
    tls: Option<TlsWritten>,
    max_body: Option<ByteSize>,
    max_object: Option<ByteSize>,
    timeout: Option<GoDuration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsWritten {
    cert: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct TokenWritten {
    token: String,
    read: Vec<String>,
    write: Vec<String>,
    publish: Vec<String>,
    subscribe: Vec<String>,
    limits: Vec<String>,
}

pub(super) fn read(node: &Node, folder: &Path) -> Result<HttpSpec> {
    let written: Written = node.read()?;
    let token = (!written.token.is_empty()).then(|| Secret::new(written.token));
    let listen = address(&written.listen)
        .map_err(|why| at(node.get("listen").unwrap_or(node), why).hint(ADDRESS_HINT))?;
    let mut spec = HttpSpec::new(listen, token).map_err(|error| at_node(node, &error))?;
    for (name, token) in written.tokens {
        let place = node.get("tokens").and_then(|tokens| tokens.get(&name)).unwrap_or(node);
        let read = scoped(place, name, token)?;
        let secrets = spec.tokens.iter().map(|it| &it.token).chain(&spec.token);
        if secrets.into_iter().any(|known| known.expose() == read.token.expose()) {
            return Err(at(place, format!("the token `{}` is the same as another", read.name)));
        }
        spec.tokens.push(read);
    }
    if spec.token.is_none() && !spec.tokens.is_empty() {
        let words = "`tokens` limit nobody without a `token`: who says nothing may everything";
        return Err(at(node, words.to_owned()).hint("add `token: ${JETBRIDGE_TOKEN}`"));
    }
    let is_name = |name: &str| name.parse::<Authority>().is_ok_and(|it| it.host() == name);
    if let Some(wrong) = written.names.iter().find(|name| !is_name(name)) {
        let words = format!("`names` has `{wrong}`, which is no name of a machine");
        return Err(at(node, words).hint("write it without scheme and port, as `jet.example`"));
    }
    spec.names = written.names;
    if let Some(tls) = written.tls {
        let place = node.get("tls").unwrap_or(node);
        let read = TlsSpec::read(&folder.join(tls.cert), &folder.join(tls.key));
        spec.tls = Some(read.map_err(|error| {
            let file = error.fact("file").unwrap_or_default();
            let words = error.message().unwrap_or_default();
            let placed = at(place, format!("{file}: {words}"));
            let hint = error.hint_text().map(str::to_owned);
            let placed = hint.into_iter().fold(placed, jetbridge_core::Error::hint);
            placed.caused_by(error)
        })?);
    }
    spec.body_bytes_max = written.max_body.map_or(spec.body_bytes_max, |size| size.0);
    spec.object_bytes_max = written.max_object.map(|size| size.0);
    spec.timeout = written.timeout.map_or(spec.timeout, |timeout| timeout.0);
    if spec.timeout.is_zero() {
        return Err(at(node, "`timeout` is more than nothing, such as `30s`".to_owned()));
    }
    Ok(spec)
}

/// Where to listen: an address, or a name that has one. Names mostly have one of either family, and
/// one is enough: that of IPv4, if there is any.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let failed = |why: &dyn Display| format!("`{text}` is nowhere to listen: {why}");
    let found: Vec<SocketAddr> = text.to_socket_addrs().map_err(|error| failed(&error))?.collect();
    let best = found.iter().find(|address| address.is_ipv4()).or(found.first());
    best.copied().ok_or_else(|| failed(&"the name has no address"))
}

fn scoped(node: &Node, name: String, written: TokenWritten) -> Result<TokenSpec> {
    if written.token.is_empty() {
        return Err(at(node, format!("the token `{name}` is empty"))
            .hint("write `token: ${NAME}` and set that variable"));
    }
    let patterns = |texts: Vec<String>| {
        let parsed = texts.iter().map(Pattern::parse).collect::<Result<Vec<_>>>();
        parsed.map_err(|error| at_node(node, &error))
    };
    Ok(TokenSpec {
        name,
        token: Secret::new(written.token),
        read: written.read,
        write: written.write,
        publish: patterns(written.publish)?,
        subscribe: patterns(written.subscribe)?,
        limits: written.limits,
    })
}
