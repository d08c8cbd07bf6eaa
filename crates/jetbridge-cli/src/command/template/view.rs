//! What `template` prints besides documents.

use jetbridge::template::{Change, Diagnostic, Difference, Explanation, Failure, StoreRef};
use serde::Serialize;
use serde_json::{Value, json};

use crate::format;
use crate::printer::{Row, Text, View};

/// Everything that is wrong, with its places.
#[derive(Serialize)]
pub(super) struct Refused {
    errors: Vec<String>,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    snippets: Vec<String>,
}

impl Refused {
    pub(super) fn of(failure: &Failure) -> Self {
        Self {
            errors: failure.diagnostics().iter().map(ToString::to_string).collect(),
            text: failure.to_string(),
            snippets: failure.diagnostics().iter().map(Diagnostic::snippet).collect(),
        }
    }

    pub(super) fn input(text: String) -> Self {
        Self { errors: vec![text.clone()], text, snippets: Vec::new() }
    }
}

impl View for Refused {
    fn text(&self, out: &mut Text) {
        out.line(self.text.trim_end());
        let snippets = self.snippets.iter().filter(|snippet| !snippet.is_empty());
        for snippet in snippets {
            out.line("");
            out.bytes(snippet.as_bytes());
        }
    }
}

/// What differs.
#[derive(Serialize)]
pub(super) struct Differences {
    differences: Vec<Value>,
    #[serde(skip)]
    text: String,
}

impl Differences {
    pub(super) fn of(found: &[Difference]) -> Self {
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        Self { differences: found.iter().map(difference).collect(), text: texts.join("\n") }
    }
}

fn difference(found: &Difference) -> Value {
    let path = &found.path;
    match &found.change {
        Change::Added(new) => json!({ "path": path, "change": "added", "to": new }),
        Change::Removed(old) => json!({ "path": path, "change": "removed", "from": old }),
        Change::Value(old, new) => {
            json!({ "path": path, "change": "value", "from": old, "to": new })
        }
        Change::Type(_, old, new) => {
            json!({ "path": path, "change": "type", "from": old, "to": new })
        }
        Change::Order(old, new) => {
            json!({ "path": path, "change": "order", "from": old, "to": new })
        }
        other => json!({ "path": path, "change": format!("{other:?}") }),
    }
}

impl View for Differences {
    fn text(&self, out: &mut Text) {
        out.bytes(self.text.as_bytes());
    }
}

/// One read of a template.
#[derive(Serialize)]
pub(super) struct Line {
    path: String,
    kind: Option<String>,
    bucket: Option<String>,
    name: Option<String>,
    server: Option<String>,
    /// Another environment may read something else.
    computed: bool,
}

impl Line {
    pub(super) fn of(found: &StoreRef) -> Self {
        let value = found.value.as_ref();
        Self {
            path: found.path.clone(),
            kind: value.map(|value| value.kind.to_string()),
            bucket: value.map(|value| value.bucket.clone()),
            name: value.map(|value| value.name.clone()),
            server: value.map(|value| value.server.to_string()),
            computed: found.computed,
        }
    }
}

impl Row for Line {
    const TITLES: &'static [&'static str] = &["PATH", "KIND", "BUCKET", "NAME", "SERVER", "KNOWN"];

    fn cells(&self) -> Vec<String> {
        let cell = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        let known = match (self.computed, &self.bucket) {
            (false, _) => "always",
            (true, Some(_)) => "computed",
            (true, None) => "when it runs",
        };
        vec![
            format::shown(&self.path).to_string(),
            cell(&self.kind),
            cell(&self.bucket),
            format::shown(&cell(&self.name)).to_string(),
            cell(&self.server),
            known.to_owned(),
        ]
    }
}

/// Permissions, by server.
#[derive(Serialize)]
pub(super) struct Grants {
    /// The server and its block.
    pub(super) blocks: Vec<(String, String)>,
    /// Paths whose reads are not covered.
    pub(super) unknown: Vec<String>,
}

impl View for Grants {
    fn text(&self, out: &mut Text) {
        for (server, block) in &self.blocks {
            out.line(format_args!("# {server}"));
            out.line(block);
        }
        for path in &self.unknown {
            out.line(format_args!("# not covered: what {path} reads shows when it runs"));
        }
    }
}

/// Where a value comes from.
#[derive(Serialize)]
pub(super) struct Explained {
    path: String,
    value: String,
    from: Option<String>,
    overrode: Vec<String>,
    operator: Option<Operator>,
    references: Vec<String>,
    reads: Vec<ReadValue>,
}

#[derive(Serialize)]
struct Operator {
    path: String,
    text: String,
}

#[derive(Serialize)]
struct ReadValue {
    kind: String,
    bucket: String,
    name: String,
    server: String,
    revision: Option<u64>,
    written: Option<String>,
}

impl Explained {
    pub(super) fn of(found: &Explanation) -> Self {
        let reads = found.reads.iter().map(|read| ReadValue {
            kind: read.kind.to_string(),
            bucket: read.bucket.clone(),
            name: read.name.clone(),
            server: read.server.to_string(),
            revision: read.version.map(|(revision, _)| revision),
            written: read.version.map(|(_, written)| format::time(written)),
        });
        let operator = found.operator.clone().map(|(path, text)| Operator { path, text });
        Self {
            path: found.path.clone(),
            value: found.value.clone(),
            from: found.place.as_ref().map(ToString::to_string),
            overrode: found.overrode.iter().map(ToString::to_string).collect(),
            operator,
            references: found.references.clone(),
            reads: reads.collect(),
        }
    }
}

impl View for Explained {
    fn text(&self, out: &mut Text) {
        out.field("path", &self.path);
        let mut lines = self.value.lines();
        out.field("value", lines.next().unwrap_or_default());
        lines.for_each(|line| out.field("", line));
        if let Some(from) = &self.from {
            out.field("from", from);
        }
        for place in self.overrode.iter().rev() {
            out.field("overrode", place);
        }
        if let Some(operator) = &self.operator {
            let text = operator.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let of = if operator.path == self.path { "" } else { operator.path.as_str() };
            out.field(
                "operator",
                format_args!("{text}{}{of}", if of.is_empty() { "" } else { " at " }),
            );
        }
        for reference in &self.references {
            out.field("reads", reference);
        }
        for read in &self.reads {
            let version = match (&read.revision, &read.written) {
                (Some(revision), Some(written)) => format!("revision {revision} of {written}"),
                _ => "which is not there".to_owned(),
            };
            let (kind, bucket, name) = (&read.kind, &read.bucket, &read.name);
            out.field(
                "reads",
                format_args!("{kind} {bucket}/{name} of {}, {version}", read.server),
            );
        }
    }
}
