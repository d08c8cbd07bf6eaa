//! The table: everything that can be asked over HTTP.

use axum::http::{Method, StatusCode};
use futures_util::FutureExt as _;
use jetbridge_core::BucketKind;

use super::access::{Needs, Way};
use super::table::{Answer, Body, Content, Operation, Parameter, Run, Shape, Table};
use super::{bus, events, kv, object, openapi, process};
use crate::limit;

/// Everything that can be asked.
pub(crate) fn table() -> Table {
    let mut operations = process_operations();
    operations.extend(kv_operations());
    operations.extend(object_operations());
    operations.extend(bus_operations());
    operations.extend(limit::operations());
    Table::new(operations)
}

const OK: StatusCode = StatusCode::OK;
const TTL: Parameter =
    Parameter { name: "ttl", summary: "Expires after this long.", shape: Shape::Duration };
const PREFIX: Parameter =
    Parameter { name: "prefix", summary: "Only what begins so.", shape: Shape::Text };
const IF_MATCH: Parameter = Parameter {
    name: "If-Match",
    summary: "Only if one of these revisions is there, in quotes; `*`: only if any is.",
    shape: Shape::Tags,
};
const UNKNOWN: Parameter = Parameter {
    name: "If-None-Match",
    summary: "304 if one of these revisions is there.",
    shape: Shape::Tags,
};
const ABSENT: Parameter = Parameter {
    name: "If-None-Match",
    summary: "Only if none of these revisions is there; `*`: only if there is nothing.",
    shape: Shape::Tags,
};

fn process_operations() -> Vec<Operation> {
    vec![
        Operation {
            run: process::healthz,
            ..plain("healthz", Method::GET, "/healthz", "Whether the process turns.")
        },
        Operation {
            answers: const {
                &[
                    answer(OK, "Every section does its work.", Content::Text),
                    answer(StatusCode::SERVICE_UNAVAILABLE, "What does not.", Content::Text),
                ]
            },
            run: process::readyz,
            ..plain("readyz", Method::GET, "/readyz", "Whether every section does its work.")
        },
        Operation {
            needs: Needs::Whole,
            run: process::metrics,
            ..plain("metrics", Method::GET, "/metrics", "Figures for Prometheus.")
        },
        Operation {
            needs: Needs::Whole,
            answers: const { &[answer(OK, "Store and sections.", Content::Json("Status"))] },
            run: process::status,
            ..plain("status", Method::GET, "/v1/status", "The state of everything.")
        },
        Operation {
            answers: const { &[answer(OK, "This document.", Content::Json("Document"))] },
            run: |call| openapi::document(call).boxed(),
            ..plain("openapi", Method::GET, "/v1/openapi.json", "What can be asked.")
        },
    ]
}

fn kv_operations() -> Vec<Operation> {
    const KEY: &str = "/v1/kv/{bucket}/{key}";
    let (read, write) =
        (Needs::Bucket(BucketKind::Kv, Way::Read), Needs::Bucket(BucketKind::Kv, Way::Write));
    vec![
        Operation {
            needs: read,
            query: const { &[PREFIX, LIMIT, CURSOR] },
            answers: const { &[answer(OK, "A page of keys.", Content::Json("Keys"))] },
            run: |call| kv::list(call).boxed(),
            ..plain("kvList", Method::GET, "/v1/kv/{bucket}", "Lists keys, page by page.")
        },
        Operation {
            needs: read,
            query: const { &[PREFIX, AFTER, KEYS_ONLY] },
            headers: const { &[LAST_EVENT_ID] },
            answers: const { &[answer(OK, "Changes as they happen.", Content::Events("Change"))] },
            is_long: true,
            run: |call| events::watch(call).boxed(),
            ..plain("kvWatch", Method::GET, "/v1/kv/{bucket}:watch", "Follows changes.")
        },
        Operation {
            needs: write,
            query: const { &[BY] },
            answers: const { &[answer(OK, "The sum.", Content::Json("Sum"))] },
            run: |call| kv::increment(call).boxed(),
            ..plain(
                "kvIncrement",
                Method::POST,
                "/v1/kv/{bucket}/{key}:increment",
                "Adds to a number.",
            )
        },
        Operation {
            needs: read,
            query: const { &[REVISION, HISTORY] },
            headers: const { &[IF_MATCH, UNKNOWN] },
            answers: const {
                &[
                    answer(OK, "The value, or its changes.", Content::BytesOrJson("History")),
                    answer(StatusCode::NOT_MODIFIED, "The revision is known.", Content::Nothing),
                ]
            },
            run: |call| kv::get(call).boxed(),
            ..plain("kvGet", Method::GET, KEY, "Reads a value.")
        },
        Operation {
            needs: write,
            query: const { &[TTL] },
            headers: const { &[IF_MATCH, ABSENT] },
            body: Body::Bytes,
            answers: const { &[answer(OK, "It is written.", Content::Json("Written"))] },
            run: |call| kv::put(call).boxed(),
            ..plain("kvPut", Method::PUT, KEY, "Writes a value, if the condition holds.")
        },
        Operation {
            needs: write,
            query: const { &[PURGE] },
            headers: const { &[IF_MATCH, ABSENT] },
            answers: const { &[GONE] },
            run: |call| kv::delete(call).boxed(),
            ..plain("kvDelete", Method::DELETE, KEY, "Deletes a key, if the condition holds.")
        },
    ]
}

fn object_operations() -> Vec<Operation> {
    const OBJECT: &str = "/v1/objects/{bucket}/{name}";
    let kind = BucketKind::Object;
    let (read, write) = (Needs::Bucket(kind, Way::Read), Needs::Bucket(kind, Way::Write));
    vec![
        Operation {
            needs: read,
            query: const { &[PREFIX] },
            answers: const { &[answer(OK, "The objects.", Content::Json("Objects"))] },
            run: |call| object::list(call).boxed(),
            ..plain("objectList", Method::GET, "/v1/objects/{bucket}", "Lists objects.")
        },
        Operation {
            needs: read,
            headers: const { &[IF_MATCH, UNKNOWN, RANGE] },
            answers: const {
                &[
                    answer(OK, "All of it.", Content::Bytes),
                    answer(StatusCode::PARTIAL_CONTENT, "The range of it.", Content::Bytes),
                    answer(StatusCode::NOT_MODIFIED, "The revision is known.", Content::Nothing),
                ]
            },
            is_long: true,
            run: |call| object::get(call).boxed(),
            ..plain("objectGet", Method::GET, OBJECT, "Reads an object, or a range of it.")
        },
        Operation {
            needs: write,
            headers: const { &[IF_MATCH, ABSENT] },
            body: Body::Bytes,
            answers: const { &[answer(OK, "It is stored.", Content::Json("Object"))] },
            is_long: true,
            run: |call| object::put(call).boxed(),
            ..plain("objectPut", Method::PUT, OBJECT, "Stores an object, whole or not at all.")
        },
        Operation {
            needs: write,
            headers: const { &[IF_MATCH, ABSENT] },
            answers: const { &[GONE] },
            run: |call| object::delete(call).boxed(),
            ..plain("objectDelete", Method::DELETE, OBJECT, "Deletes an object.")
        },
    ]
}

fn bus_operations() -> Vec<Operation> {
    vec![
        Operation {
            needs: Needs::Subject(Way::Write),
            query: const { &[JETSTREAM, ID, STREAM, EXPECT_LAST] },
            body: Body::Bytes,
            answers: const {
                &[
                    answer(OK, "A stream has it.", Content::Json("Appended")),
                    answer(StatusCode::ACCEPTED, "It is sent.", Content::Nothing),
                ]
            },
            run: |call| bus::publish(call).boxed(),
            ..plain("publish", Method::POST, "/v1/publish/{subject}", "Sends a message.")
        },
        Operation {
            needs: Needs::Subject(Way::Write),
            query: const { &[TIMEOUT] },
            body: Body::Bytes,
            answers: const { &[answer(OK, "What was answered.", Content::Bytes)] },
            run: |call| bus::request(call).boxed(),
            ..plain("request", Method::POST, "/v1/request/{subject}", "Asks, and waits.")
        },
        Operation {
            needs: Needs::Subject(Way::Read),
            query: const { &[STREAM, AFTER] },
            headers: const { &[LAST_EVENT_ID] },
            answers: const { &[answer(OK, "Messages as they come.", Content::Events("Message"))] },
            is_long: true,
            run: |call| events::subscribe(call).boxed(),
            ..plain("subscribe", Method::GET, "/v1/subscribe/{pattern}", "Hears messages.")
        },
    ]
}

const GONE: Answer = answer(StatusCode::NO_CONTENT, "It is not there any more.", Content::Nothing);
const RANGE: Parameter =
    Parameter { name: "Range", summary: "`bytes=2-5`, `2-` or `-3`.", shape: Shape::Text };
const JETSTREAM: Parameter =
    Parameter { name: "jetstream", summary: "Wait until a stream has it.", shape: Shape::Flag };
const ID: Parameter =
    Parameter { name: "id", summary: "The same id is kept once.", shape: Shape::Text };
const STREAM: Parameter = Parameter { name: "stream", summary: "The stream.", shape: Shape::Word };
const EXPECT_LAST: Parameter = Parameter {
    name: "expect_last",
    summary: "Only if this is the subject's last sequence.",
    shape: Shape::Natural,
};
const TIMEOUT: Parameter =
    Parameter { name: "timeout", summary: "How long to wait.", shape: Shape::Duration };
const LIMIT: Parameter =
    Parameter { name: "limit", summary: "Keys in the page, 1 to 10000.", shape: Shape::Page };
const CURSOR: Parameter =
    Parameter { name: "cursor", summary: "`next` of the page before.", shape: Shape::Text };
const AFTER: Parameter = Parameter {
    name: "after",
    summary: "Only behind this event or number.",
    shape: Shape::EventId,
};
const KEYS_ONLY: Parameter =
    Parameter { name: "keys_only", summary: "Leave values out.", shape: Shape::Flag };
const LAST_EVENT_ID: Parameter = Parameter {
    name: "Last-Event-ID",
    summary: "The id of the last event that was seen: go on behind it.",
    shape: Shape::EventId,
};
const BY: Parameter =
    Parameter { name: "by", summary: "How much, 1 if left out.", shape: Shape::Integer };
const REVISION: Parameter =
    Parameter { name: "revision", summary: "The value of that write.", shape: Shape::Natural };
const HISTORY: Parameter =
    Parameter { name: "history", summary: "All that is stored of it.", shape: Shape::Flag };
const PURGE: Parameter =
    Parameter { name: "purge", summary: "Forget its history too.", shape: Shape::Flag };

const fn answer(status: StatusCode, summary: &'static str, content: Content) -> Answer {
    Answer { status, summary, content }
}

/// An operation that takes nothing and answers with text, to be changed where it is different.
fn plain(id: &'static str, method: Method, path: &'static str, summary: &'static str) -> Operation {
    const RUN: Run = process::healthz;
    Operation {
        id,
        method,
        path,
        summary,
        needs: Needs::Nothing,
        query: &[],
        headers: &[],
        body: Body::Nothing,
        answers: const { &[answer(StatusCode::OK, "What was asked for.", Content::Text)] },
        is_long: false,
        run: RUN,
    }
}
