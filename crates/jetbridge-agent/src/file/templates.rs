//! `templates:` — `{from: [base.yml, prod.yml], to: app.yml, check: [app, --check, "{}"]}`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jetbridge::settings::{Environment, GoDuration, Node, Value, parse_duration};
use jetbridge::template::{
    Missing, Options, Reload, ReloadSignal, RenderSpec, Streams, Style, Wait,
};
use jetbridge_core::{BucketName, Error, ErrorKind, Result};
use serde::Deserialize;

use super::{at, at_node, keep};
use crate::template::TemplateSpec;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    from: Words,
    to: String,
    mode: Option<String>,
    backup: Option<usize>,
    check: Option<Words>,
    reload: Option<WrittenReload>,
    timeout: Option<GoDuration>,
    wait: Option<String>,
    missing: Option<WrittenMissing>,
    style: Option<WrittenStyle>,
    #[serde(default)]
    secret: Vec<String>,
    #[serde(default)]
    prune: Vec<String>,
    #[serde(default)]
    cherry_pick: Vec<String>,
    #[serde(default)]
    fallback_append: bool,
    #[serde(default)]
    go_patch: bool,
    #[serde(default)]
    multi_doc: bool,
}

/// A list of words, or one alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<String>),
    One(String),
}

impl Words {
    fn list(self) -> Vec<String> {
        match self {
            Self::Many(words) => words,
            Self::One(word) => vec![word],
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenReload {
    Words(Words),
    Signal { signal: String, pid_file: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenMissing {
    Error,
    Null,
    Keep,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenStyle {
    Lossless,
    Graft,
}

/// What a template gets from where it is written.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Where relative paths begin.
    pub(super) folder: &'a Path,
    /// The variables that templates see.
    pub(super) environment: &'a Environment,
}

pub(super) fn read(
    node: &Node,
    around: Surroundings<'_>,
    templates: &mut Vec<TemplateSpec>,
    problems: &mut Vec<Error>,
) {
    let Value::List(items) = &node.value else {
        problems.push(at(node, "`templates` is a list".to_owned()));
        return;
    };
    for item in items {
        let spec = item
            .read::<Written>()
            .and_then(|written| written.spec(around).map_err(|error| at_node(item, &error)));
        templates.extend(keep(spec, problems).map(|mut spec| {
            // To YAML the word without quotes is no text.
            if item.entry("missing").is_some_and(|it| matches!(it.node.value, Value::Null)) {
                spec.render.options.missing = Missing::Null;
            }
            spec
        }));
    }
}

impl Written {
    fn spec(self, around: Surroundings<'_>) -> Result<TemplateSpec> {
        for bucket in &self.secret {
            BucketName::parse(bucket)?;
        }
        let options = self.options(around);
        let place = |path: &str| around.folder.join(path);
        let from: Vec<PathBuf> = self.from.list().iter().map(|path| place(path)).collect();
        if from.is_empty() {
            return Err(bad("`from` names no file"));
        }
        let mut render = RenderSpec::new(from, place(&self.to));
        if render.from.contains(&render.to) {
            return Err(bad("`to` is one of `from`: a template is never written over"));
        }
        render.options = options;
        render.mode = self.mode.as_deref().map(read_mode).transpose()?;
        render.backups = self.backup.unwrap_or(0);
        render.check = self.check.map(|words| command("check", words)).transpose()?;
        render.reload = match self.reload {
            None => None,
            Some(WrittenReload::Words(words)) => Some(Reload::Command(command("reload", words)?)),
            Some(WrittenReload::Signal { signal, pid_file }) => Some(Reload::Signal {
                signal: ReloadSignal::parse(&signal)?,
                pid_file: place(&pid_file),
            }),
        };
        if let Some(timeout) = self.timeout {
            render.command_timeout = timeout.0;
        }
        around.folder.clone_into(&mut render.directory);
        render.wait = self.wait.as_deref().map(read_wait).transpose()?.unwrap_or(WAIT_DEFAULT);
        let name = self.name.unwrap_or(self.to);
        Ok(TemplateSpec { name, render, secret: self.secret.into_iter().collect() })
    }

    fn options(&self, around: Surroundings<'_>) -> Options {
        let mut options = Options::default();
        options.prune.clone_from(&self.prune);
        options.cherry_pick.clone_from(&self.cherry_pick);
        options.fallback_append = self.fallback_append;
        options.go_patch = self.go_patch;
        options.streams = if self.multi_doc { Streams::Merge } else { Streams::Refuse };
        options.style = match self.style {
            Some(WrittenStyle::Graft) => Style::Graft,
            Some(WrittenStyle::Lossless) | None => Style::Lossless,
        };
        options.missing = match self.missing {
            Some(WrittenMissing::Null) => Missing::Null,
            Some(WrittenMissing::Keep) => Missing::Keep,
            Some(WrittenMissing::Error) | None => Missing::Error,
        };
        let environment = around.environment;
        options.env = environment
            .names()
            .filter_map(|name| Some((name.to_owned(), environment.get(name)?.to_owned())))
            .collect();
        options.file_base = Some(around.folder.to_owned());
        options
    }
}

/// How long changes are gathered, if the file does not say: several keys that are written one
/// after the other make one file.
const WAIT_DEFAULT: Wait = Wait { min: Duration::from_millis(200), max: Duration::from_secs(5) };

fn command(name: &str, words: Words) -> Result<Vec<String>> {
    let words = words.list();
    if words.iter().all(String::is_empty) {
        return Err(bad(format!("`{name}` is a program and its arguments")));
    }
    Ok(words)
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "settings.read").because(message)
}

/// `"0640"`.
fn read_mode(text: &str) -> Result<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| bad("`mode` is written in octal, as \"0640\""))
}

/// `200ms..5s`, or one duration for both.
fn read_wait(text: &str) -> Result<Wait> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let wait = Wait { min: parse_duration(min)?, max: parse_duration(max)? };
    if wait.min > wait.max {
        return Err(bad("the first time of `wait` is longer than the second"));
    }
    Ok(wait)
}
