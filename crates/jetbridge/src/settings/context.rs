//! Contexts of the `nats` CLI, read from where that CLI keeps them:
//! `$XDG_CONFIG_HOME/nats/context/NAME.json`, else `~/.config/nats/context/NAME.json`, the
//! selected one being named in `context.txt` beside that directory.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use jetbridge_core::{Error, ErrorKind, Result};

use super::environment::Environment;
use super::place::{Place, Problem, nearest};
use super::read::{NatsSettings, Source, read};
use super::source::{Entry, Expansion, Node, Value, expand_text, parse_yaml};
use super::table::Dialect;

/// Reads the context called `name`, or the selected one. A context is complete: no `NATS_*`
/// variable changes it, but `refinement` does. `place` is who asked for it.
pub(super) fn read_context(
    name: Option<&str>,
    place: &Place,
    refinement: Option<&Source>,
    environment: &Environment,
) -> Result<NatsSettings> {
    let directory = directory(environment).map_err(|problem| problem.at(place))?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => selected(&directory).map_err(|problem| problem.at(place))?,
    };
    if name.is_empty() || name.contains("..") || name.contains(['/', '\\']) {
        return Err(Problem::new(format!("`{name}` is not the name of a context")).at(place));
    }
    let path = directory.join("context").join(format!("{name}.json"));
    let file = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|cause| {
        match cause.kind() == std::io::ErrorKind::NotFound {
            true => unknown(&name, &directory).at(place),
            false => Error::new(ErrorKind::InvalidInput, "settings.read")
                .because(format!("{place}: {file} cannot be read"))
                .caused_by(cause),
        }
    })?;
    let mut root = parse_yaml(&file, &text)?;
    if let Value::Map(entries) = &mut root.value {
        entries.iter_mut().try_for_each(|entry| look_up(entry, environment))?;
    }
    let source = Source::new(Dialect::Context, root.entries());
    let sources: Vec<Source> = std::iter::once(source).chain(refinement.cloned()).collect();
    let mut settings = read(Dialect::Context, &sources, environment)?;
    settings.server_place.get_or_insert(Place::file(file, 1, 1));
    Ok(settings)
}

fn directory(environment: &Environment) -> Result<PathBuf, Problem> {
    let base = match (environment.get("XDG_CONFIG_HOME"), environment.get("HOME")) {
        (Some(config), _) => PathBuf::from(config),
        (None, Some(home)) => Path::new(home).join(".config"),
        (None, None) => {
            return Err(Problem::new("there is no directory with contexts of the nats CLI")
                .hint("set HOME or XDG_CONFIG_HOME"));
        }
    };
    Ok(base.join("nats"))
}

fn selected(directory: &Path) -> Result<String, Problem> {
    let name = std::fs::read_to_string(directory.join("context.txt")).unwrap_or_default();
    match name.trim() {
        "" => Err(Problem::new("no context of the nats CLI is selected")
            .hint("name one, `context:NAME`, or select one with `nats context select`")),
        name => Ok(name.to_owned()),
    }
}

fn unknown(name: &str, directory: &Path) -> Problem {
    let known = known(directory);
    let names = || known.iter().map(String::as_str);
    let problem = Problem::new(format!("there is no context `{name}` in {}", directory.display()));
    match nearest(name, names()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => problem.hint("`nats context add` makes one"),
        None => problem.hint(format!("there are {}", names().collect::<Vec<_>>().join(", "))),
    }
}

fn known(directory: &Path) -> Vec<String> {
    let files = std::fs::read_dir(directory.join("context"));
    let mut names: Vec<String> = files
        .into_iter()
        .flatten()
        .filter_map(|file| file.ok()?.file_name().into_string().ok())
        .filter_map(|file| Some(file.strip_suffix(".json")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Files whose paths may begin with `~` or hold variables, as the nats CLI has it.
const PATHS: &[&str] = &["creds", "nkey", "cert", "key", "ca"];
/// Values that may be a reference: `env://NAME`, `file://PATH` or `data:;base64,…`.
const REFERENCES: &[&str] = &["creds", "nkey", "password", "token", "user_jwt", "user_seed"];

fn look_up(entry: &mut Entry, environment: &Environment) -> Result<()> {
    let Some(text) = entry.node.text() else { return Ok(()) };
    let mut text = text.to_owned();
    if REFERENCES.contains(&entry.name.as_str()) {
        text = dereference(&text, environment).map_err(|problem| problem.of(entry))?;
    }
    if PATHS.contains(&entry.name.as_str()) && !text.contains('\n') {
        let path = text.strip_prefix("file://").unwrap_or(&text);
        text = expand_text(path, environment, Expansion::Litestream)
            .map_err(|problem| problem.of(entry))?;
    }
    entry.node = Node::scalar(text, entry.node.place.clone());
    Ok(())
}

fn dereference(text: &str, environment: &Environment) -> Result<String, Problem> {
    if let Some(name) = text.strip_prefix("env://") {
        return match environment.get(name) {
            Some(value) => Ok(value.to_owned()),
            None => Err(Problem::new(format!("the variable `{name}` is not set"))),
        };
    }
    if let Some((_, packed)) = text.strip_prefix("data:").and_then(|it| it.split_once(";base64,")) {
        let bytes = base64::engine::general_purpose::STANDARD.decode(packed.trim()).ok();
        return bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Problem::new("what follows `;base64,` is not a text in base64"));
    }
    match text.split_once("://") {
        Some((scheme @ ("op" | "nsc"), _)) => {
            Err(Problem::new(format!("`{scheme}://` references are not supported"))
                .hint("name a file, or write `env://NAME` and set the variable"))
        }
        _ => Ok(text.to_owned()),
    }
}
