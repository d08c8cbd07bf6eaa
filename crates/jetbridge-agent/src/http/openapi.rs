//! The OpenAPI document, read from the table of operations.

use std::collections::BTreeMap;

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use super::access::Needs;
use super::call::Call;
use super::table::{Answer, Answered, Body, Content, Operation, PAGE_MAX, Parameter, Shape, Table};

pub(super) async fn document(call: Call) -> Answered {
    Ok(Json(of(&call.api.table)).into_response())
}

/// Names of buckets and streams.
const WORD: &str = "^[A-Za-z0-9_-]{1,128}$";

/// The document of `table`.
pub(crate) fn of(table: &Table) -> Value {
    let mut paths: BTreeMap<&str, Value> = BTreeMap::new();
    for operation in table.operations() {
        let method = operation.method.as_str().to_lowercase();
        paths.entry(operation.path).or_insert_with(|| json!({}))[method] =
            operation_json(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Jetbridge",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Settings, state, messages, files and limits of `jetbridge up`.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    })
}

fn operation_json(operation: &Operation) -> Value {
    let mut answers = serde_json::Map::new();
    for answer in operation.answers {
        answers.insert(answer.status.as_str().to_owned(), answer_json(answer));
    }
    let refusal = json!({
        "description": "A refusal: what, why, and what to do about it.",
        "content": {"application/json": {"schema": reference("Refusal")}},
    });
    answers.insert("default".to_owned(), refusal);
    let path = operation.path.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let path = path.map(|(name, _)| {
        json!({"name": name, "in": "path", "required": true, "schema": path_schema(name)})
    });
    let query = operation.query.iter().map(|it| parameter_json(it, "query"));
    let headers = operation.headers.iter().map(|it| parameter_json(it, "header"));
    let mut json = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": path.chain(query).chain(headers).collect::<Vec<_>>(),
        "responses": answers,
        "security": match operation.needs {
            Needs::Nothing => json!([]),
            Needs::Whole => json!([{"token": []}, {"password": []}, {}]),
            _ => json!([{"token": []}, {}]),
        },
    });
    if operation.body == Body::Bytes {
        json["requestBody"] = json!({"content": {"application/octet-stream": {}}});
    }
    json
}

fn path_schema(name: &str) -> Value {
    match name {
        "bucket" => json!({"type": "string", "pattern": WORD}),
        _ => json!({"type": "string", "minLength": 1}),
    }
}

fn parameter_json(parameter: &Parameter, place: &str) -> Value {
    let schema = match parameter.shape {
        Shape::Text => json!({"type": "string"}),
        Shape::Duration => json!({"type": "string", "pattern": "^[1-9][0-9]{0,4}(ms|s|m|h)$"}),
        Shape::Natural => json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
        Shape::Page => json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX}),
        Shape::Integer => {
            json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX})
        }
        Shape::Word => json!({"type": "string", "pattern": WORD}),
        Shape::Flag => json!({"type": "string", "enum": ["1"]}),
        Shape::EventId => {
            json!({"type": "string", "pattern": "^([0-9a-f]{1,16}-)?[0-9]{1,19}$"})
        }
        Shape::Tags => {
            let tag = r#"(W/)?"[!#-~]*""#;
            json!({"type": "string", "pattern": format!("^([*]|{tag}(, *{tag})*)$")})
        }
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": false,
        "description": parameter.summary,
        "schema": schema,
    })
}

fn answer_json(answer: &Answer) -> Value {
    let mut json = json!({"description": answer.summary});
    let (media, schema) = match answer.content {
        Content::Nothing => return json,
        Content::Bytes => ("application/octet-stream", json!({})),
        Content::BytesOrJson(name) => {
            json["content"] = json!({
                "application/octet-stream": {"schema": {}},
                "application/json": {"schema": reference(name)},
            });
            return json;
        }
        Content::Text => ("text/plain", json!({"type": "string"})),
        Content::Json(name) => ("application/json", reference(name)),
        Content::Events(name) => {
            json["x-event-data"] = reference(name);
            ("text/event-stream", json!({"type": "string"}))
        }
    };
    json["content"] = json!({media: {"schema": schema}});
    json
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object of these properties, the first `required` of which are always there.
fn object(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn schemas() -> Value {
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
    json!({
        "Appended": object(
            json!({"stream": text, "sequence": number, "duplicate": {"type": "boolean"}}),
            &["stream", "sequence", "duplicate"],
        ),
        "Message": object(
            json!({
                "subject": text, "headers": {"type": "array"}, "payload": text,
                "payload_base64": text, "sequence": number, "stored_unix_ms": number,
            }),
            &["subject", "headers"],
        ),
        "Object": object_schema(),
        "Objects": object(
            json!({
                "objects": {"type": "array", "items": object_schema()},
                "more": {"type": "boolean"},
            }),
            &["objects", "more"],
        ),
        "Change": object(
            json!({
                "type": {"enum": ["put", "delete"]}, "key": text, "revision": number,
                "written_unix_ms": number, "expires_unix_ms": number,
                "value": text, "value_base64": text,
            }),
            &["type", "key", "revision", "written_unix_ms"],
        ),
        "Decision": object(
            json!({
                "allowed": {"type": "boolean"}, "limit": number, "remaining": number,
                "retry_after_ms": number, "reset_after_ms": number, "source": text,
                "permit": text, "kind": text, "message": text,
            }),
            &["allowed", "limit", "remaining", "retry_after_ms", "reset_after_ms", "source"],
        ),
        "Document": {"type": "object"},
        "History": object(
            json!({"changes": {"type": "array", "items": reference("Change")}}),
            &["changes"],
        ),
        "Keys": object(
            json!({
                "keys": {"type": "array", "items": text},
                "next": {"type": ["string", "null"]},
            }),
            &["keys", "next"],
        ),
        "Refusal": object(
            json!({
                "kind": text, "message": text, "hint": text,
                "outcome": {"enum": ["unknown"]}, "revision": number,
            }),
            &["kind", "message"],
        ),
        "Released": object(json!({"released": {"const": true}}), &["released"]),
        "Status": object(
            json!({"version": text, "ready": {"type": "boolean"}, "sections": {"type": "array"}}),
            &["version", "ready", "sections"],
        ),
        "Sum": object(json!({"value": number}), &["value"]),
        "Written": object(json!({"revision": number}), &["revision"]),
    })
}

fn object_schema() -> Value {
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer"}));
    let or_null = json!({"type": ["string", "null"]});
    object(
        json!({
            "name": text, "size": number, "revision": number, "digest": or_null,
            "content_type": or_null, "modified_unix_ms": number,
        }),
        &["name", "size", "revision", "modified_unix_ms"],
    )
}
