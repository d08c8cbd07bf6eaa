//! What there is to copy, and what was.

use jetbridge::copy::{CopyReport, Part};
use serde::Serialize;

use crate::format;
use crate::printer::{Row, Text, View};

/// A bucket or stream of the source.
#[derive(Serialize)]
pub(crate) struct PartView {
    kind: &'static str,
    name: String,
    messages: u64,
    bytes: u64,
}

impl From<&Part> for PartView {
    fn from(part: &Part) -> Self {
        Self {
            kind: part.kind(),
            name: part.name().to_owned(),
            messages: part.messages(),
            bytes: part.bytes(),
        }
    }
}

impl Row for PartView {
    const TITLES: &'static [&'static str] = &["KIND", "NAME", "MESSAGES", "SIZE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.kind.to_owned(),
            self.name.clone(),
            self.messages.to_string(),
            format::size(self.bytes),
        ]
    }
}

/// What became of a bucket or stream.
#[derive(Serialize)]
pub(crate) struct Copied {
    kind: &'static str,
    name: String,
    copied: u64,
    copied_bytes: u64,
    unchanged: u64,
    kept: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept_names: Vec<String>,
    verified: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<String>,
}

impl Copied {
    pub(crate) fn new(part: &Part, report: CopyReport) -> Self {
        Self {
            kind: part.kind(),
            name: part.name().to_owned(),
            copied: report.copied,
            copied_bytes: report.bytes,
            unchanged: report.unchanged,
            kept: report.kept,
            kept_names: report.kept_names,
            verified: report.verified,
            remarks: report.remarks,
        }
    }
}

impl View for Copied {
    fn text(&self, out: &mut Text) {
        let (size, same) = (format::size(self.copied_bytes), self.unchanged);
        let ends = if self.verified { "the same" } else { "NOT the same" };
        out.line(format_args!(
            "{} {}: {} copied ({size}), {same} there already; both are {ends}",
            self.kind, self.name, self.copied
        ));
        if self.kept > 0 {
            let shown = self.kept_names.iter().map(|name| format::shown(name));
            let names = shown.collect::<Vec<_>>().join(", ");
            let more = if self.kept > self.kept_names.len() as u64 { ", …" } else { "" };
            out.line(format_args!(
                "  but for {} newer in the destination: {names}{more}",
                self.kept
            ));
        }
        for remark in &self.remarks {
            out.line(format_args!("  {remark}"));
        }
    }
}
