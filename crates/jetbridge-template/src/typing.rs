//! What the bytes of a store become in a document.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::fetch::{Found, Kind, Request};
use crate::parse;
use crate::scalar;
use crate::tree::{Node, Value};

/// By `as KIND`.
pub(crate) fn cast(found: &Found, kind: &str) -> Result<Node, String> {
    let bytes = &found.bytes;
    if kind == "base64" {
        return Ok(Node::text(STANDARD.encode(bytes)));
    }
    let text = text(bytes)?;
    match kind {
        "yaml" | "json" => tree(text).map_err(|why| found.unreadable(why)),
        "string" => Ok(Node::text(text)),
        "int" => match scalar::number(text.trim()) {
            Some(Value::Int(n)) => Ok(Node::new(Value::Int(n))),
            _ => Err("the value is not an integer".to_owned()),
        },
        "bool" => match scalar::resolve(text.trim()) {
            Value::Bool(b) => Ok(Node::new(Value::Bool(b))),
            _ => Err("the value is not a boolean".to_owned()),
        },
        _ => Err(format!("`as {kind}` is not known; yaml, json, int, bool, string, base64 are")),
    }
}

/// A value of a bucket of keys is text unless it is YAML of several lines; an object is what its
/// content type says, else its name, else whether it is text.
pub(crate) fn natural(request: &Request, found: &Found) -> Result<Node, String> {
    let bytes = &found.bytes;
    if request.kind == Kind::Kv {
        let text = text(bytes)?;
        if text.trim().contains('\n')
            && let Ok(node) = tree(text)
            && (node.as_map().is_some_and(|map| !map.is_empty()) || node.as_list().is_some())
        {
            return Ok(node);
        }
        return Ok(Node::text(text));
    }
    let content = found.content_type.as_deref().unwrap_or_default();
    let content = content.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let name = request.name.to_ascii_lowercase();
    match content.as_str() {
        "text/yaml" | "text/x-yaml" | "application/x-yaml" | "application/yaml" => {
            tree(text(bytes)?)
                .map_err(|why| format!("failed to parse YAML: {}", found.unreadable(why)))
        }
        "application/json" | "text/json" => tree(text(bytes)?)
            .map_err(|why| format!("failed to parse JSON: {}", found.unreadable(why))),
        "" if [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end)) => {
            let text = text(bytes)?;
            Ok(tree(text).unwrap_or_else(|_not_yaml| Node::text(text)))
        }
        _ if content.is_empty() || content.starts_with("text/") => match text(bytes) {
            Ok(text) => Ok(Node::text(text)),
            Err(_binary) => Ok(Node::text(STANDARD.encode(bytes))),
        },
        _ => Ok(Node::text(STANDARD.encode(bytes))),
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes)
        .map_err(|_binary| "the value is not text; read it `as base64`".to_owned())
}

fn tree(text: &str) -> Result<Node, String> {
    let documents =
        parse::parse("value", 0, text.as_bytes()).map_err(|diagnostic| diagnostic.message)?;
    match <[Node; 1]>::try_from(documents) {
        Ok([node]) => Ok(node),
        Err(documents) => Err(format!("it holds {} documents, not one", documents.len())),
    }
}
