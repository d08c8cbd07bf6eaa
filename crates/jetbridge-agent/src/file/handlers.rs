//! `handlers:` — `{subject: "orders.>", stream: ORDERS, durable: mailer, run: [./send-mail]}`.

use std::path::Path;
use std::time::Duration;

use jetbridge::settings::{GoDuration, Node, Value, parse_duration};
use jetbridge_core::{
    ConsumerName, Error, ErrorKind, GroupName, Pattern, Result, Secret, StreamName,
};
use serde::Deserialize;

use super::{at, at_node, keep};
use crate::handler::{
    ATTEMPTS_DEFAULT, CONCURRENCY_DEFAULT, CONCURRENCY_MAX, DEAD_LETTERS_DEFAULT, HandlerSpec,
    Order, Source, TIMEOUT_DEFAULT, Target,
};

/// Waits between attempts, if the file does not say.
const BACKOFF_DEFAULT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    subject: String,
    queue: Option<String>,
    stream: Option<String>,
    durable: Option<String>,
    run: Option<Command>,
    url: Option<String>,
    concurrency: Option<usize>,
    order: Option<String>,
    timeout: Option<GoDuration>,
    attempts: Option<u32>,
    backoff: Option<String>,
    dead_letters: Option<String>,
}

/// A list of words, or a program alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Command {
    Words(Vec<String>),
    Program(String),
}

pub(super) fn read(
    node: &Node,
    folder: &Path,
    handlers: &mut Vec<HandlerSpec>,
    problems: &mut Vec<Error>,
) {
    let Value::List(items) = &node.value else {
        problems.push(at(node, "`handlers` is a list".to_owned()));
        return;
    };
    for item in items {
        let spec = item
            .read::<Written>()
            .and_then(|written| written.spec(folder).map_err(|error| at_node(item, &error)));
        handlers.extend(keep(spec, problems));
    }
}

impl Written {
    fn spec(self, folder: &Path) -> Result<HandlerSpec> {
        let subject = Pattern::parse(&self.subject)?;
        let target = self.target(folder)?;
        let source = self.source()?;
        let concurrency = self.concurrency.unwrap_or(CONCURRENCY_DEFAULT);
        if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
            return Err(bad(format!("`concurrency` is 1 to {CONCURRENCY_MAX}, not {concurrency}")));
        }
        let attempts = self.attempts.unwrap_or(ATTEMPTS_DEFAULT);
        if attempts == 0 {
            return Err(bad("`attempts` is at least 1"));
        }
        Ok(HandlerSpec {
            name: self.name.unwrap_or_else(|| name_of(&source, &subject)),
            subject,
            source,
            target,
            concurrency,
            order: self.order.as_deref().map(read_order).transpose()?.unwrap_or_default(),
            timeout: self.timeout.map_or(TIMEOUT_DEFAULT, |timeout| timeout.0),
            attempts,
            backoff: match &self.backoff {
                Some(text) => read_backoff(text)?,
                None => BACKOFF_DEFAULT,
            },
            dead_letters: StreamName::parse(
                self.dead_letters.as_deref().unwrap_or(DEAD_LETTERS_DEFAULT),
            )?,
        })
    }

    fn target(&self, folder: &Path) -> Result<Target> {
        let command = self.run.as_ref().map(|run| match run {
            Command::Words(words) => words.clone(),
            Command::Program(program) => vec![program.clone()],
        });
        match (command, &self.url) {
            (Some(command), None) if command.is_empty() => {
                Err(bad("`run` is a program and its arguments"))
            }
            (Some(command), None) => Ok(Target::Run { command, directory: folder.to_owned() }),
            (None, Some(url)) if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Target::Url(Secret::new(url.clone())))
            }
            (None, Some(_)) => Err(bad("`url` begins with `http://` or `https://`")),
            (None, None) | (Some(_), Some(_)) => Err(bad("a handler has either `run` or `url`")),
        }
    }

    fn source(&self) -> Result<Source> {
        let queue = self.queue.as_deref().map(GroupName::parse).transpose()?;
        let Some(stream) = self.stream.as_deref().map(StreamName::parse).transpose()? else {
            if self.durable.is_some() {
                return Err(bad("`durable` needs `stream`: plain messages are not kept"));
            }
            return Ok(Source::Subject { queue });
        };
        let durable = self.durable.as_deref().or(self.queue.as_deref()).or(self.name.as_deref());
        let durable = durable.ok_or_else(|| {
            bad("a handler with `stream` needs `durable`")
                .hint("under that name the stream remembers what was done")
        })?;
        Ok(Source::Stream { stream, durable: ConsumerName::parse(durable)? })
    }
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, "settings.read").because(message)
}

/// What a handler without a `name` is called.
fn name_of(source: &Source, subject: &Pattern) -> String {
    match source {
        Source::Stream { durable, .. } => durable.to_string(),
        Source::Subject { queue: Some(queue) } => queue.to_string(),
        Source::Subject { queue: None } => subject.to_string(),
    }
}

/// `none`, `subject`, `token:2` or `header:Customer`.
fn read_order(text: &str) -> Result<Order> {
    match text.split_once(':') {
        None if text == "none" => return Ok(Order::Free),
        None if text == "subject" => return Ok(Order::Subject),
        Some(("header", name)) if !name.trim().is_empty() => {
            return Ok(Order::Header(name.trim().to_owned()));
        }
        Some(("token", place)) => {
            if let Some(place) = place.trim().parse().ok().filter(|place| *place > 0) {
                return Ok(Order::Token(place));
            }
        }
        _ => {}
    }
    Err(bad("this is no order").hint("write `none`, `subject`, `token:2` or `header:NAME`"))
}

/// `1s..1m`, or one duration for all waits.
fn read_backoff(text: &str) -> Result<(Duration, Duration)> {
    let (first, most) = text.split_once("..").unwrap_or((text, text));
    let (first, most) = (parse_duration(first)?, parse_duration(most)?);
    if first > most {
        return Err(bad("the first wait of `backoff` is longer than the longest"));
    }
    Ok((first, most))
}
