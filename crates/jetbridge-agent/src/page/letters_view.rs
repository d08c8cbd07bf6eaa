//! Dead letters as HTML.

use std::time::SystemTime;

use bytes::Bytes;
use jetbridge_core::StreamName;
use maud::{Markup, html};

use super::letters::Letter;
use super::view::fact;
use super::words::{ago, bytes, count, stamp};

/// Bytes of a payload that are shown.
const SHOWN_BYTES_MAX: usize = 4096;

/// What a sending has come to.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    Nothing,
    Done(u64),
    Failed(String),
}

pub(super) fn letters(
    stream: &StreamName,
    letters: &[Letter],
    sent: &Sent,
    now: SystemTime,
) -> Markup {
    html! {
        h1 { "Dead letters in " (stream) }
        p { a href="/" { "← all sections" } }
        @match sent {
            Sent::Nothing => {}
            Sent::Done(sequence) => {
                p.overall role="status" { "Letter " (sequence) " was sent again." }
            }
            Sent::Failed(why) => {
                section.alarm role="alert" { h2 { "It was not sent" } p { (why) } }
            }
        }
        @if letters.is_empty() {
            p.empty { "There are none." }
        } @else {
            p.hint {
                "The newest first. Sending one again puts its message back where it came from; the \
                 letter stays."
            }
        }
        ul.letters { @for it in letters { (letter(stream, it, now)) } }
    }
}

fn letter(stream: &StreamName, it: &Letter, now: SystemTime) -> Markup {
    let known = |name: &'static str| it.fact(name).map(|value| (name, value));
    let facts: Vec<(&str, &str)> =
        ["Handler", "Attempt", "Stream", "Sequence"].into_iter().filter_map(known).collect();
    let own: Vec<(&str, &str)> =
        it.message.headers.iter().filter(|(name, _)| !name.starts_with("Jetbridge-")).collect();
    html! {
        li.card id=(format!("letter-{}", it.sequence)) {
            div.head {
                h3 { (it.subject().unwrap_or("subject not kept")) }
                span.number { "#" (it.sequence) }
            }
            @if let Some(reason) = it.fact("Reason") { p.reason { (reason) } }
            dl.facts {
                div {
                    dt { "Given up" }
                    dd { time datetime=(stamp(it.stored)) { (ago(it.stored, now)) } }
                }
                @for (name, value) in facts { (fact(name, value)) }
            }
            @if !own.is_empty() {
                details {
                    summary { (count(own.len() as u64)) " headers" }
                    dl.facts { @for (name, value) in own { (fact(name, value)) } }
                }
            }
            (payload(&it.message.payload))
            form method="post" action=(format!("/dead/{stream}/{}", it.sequence)) {
                p.links {
                    @if it.subject().is_some() {
                        button type="submit" { "Send again" }
                    } @else {
                        "Where it was is not known: it cannot be sent again here."
                    }
                    @if let Some(at) = it.again {
                        " sent again "
                        time datetime=(stamp(at)) { (ago(at, now)) }
                    }
                }
            }
        }
    }
}

fn payload(payload: &Bytes) -> Markup {
    let size = bytes(payload.len() as u64);
    let shown = &payload[..payload.len().min(SHOWN_BYTES_MAX)];
    let text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        // The cut may go through a character.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
        }
        Err(_binary) => None,
    };
    html! {
        @match text {
            Some("") => p.since { "No payload" },
            Some(text) => {
                pre tabindex="0" aria-label="Payload" { (text) }
                @if shown.len() < payload.len() {
                    p.since { "The first " (bytes(shown.len() as u64)) " of " (size) }
                }
            }
            None => p.since { (size) " that are no text" },
        }
    }
}
