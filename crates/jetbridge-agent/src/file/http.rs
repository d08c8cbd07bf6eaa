//! `http:` — `{listen: 127.0.0.1:4280, token: ${JETBRIDGE_TOKEN:-}}`.

use std::net::SocketAddr;

use jetbridge::settings::Node;
use jetbridge_core::{Result, Secret};
use serde::Deserialize;

use super::at_node;
use crate::http::HttpSpec;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: SocketAddr,
    #[serde(default)]
    token: String,
}

pub(super) fn read(node: &Node) -> Result<HttpSpec> {
    let written: Written = node.read()?;
    let token = (!written.token.is_empty()).then(|| Secret::new(written.token));
    HttpSpec::new(written.listen, token).map_err(|error| at_node(node, &error))
}
