//! The page of all sections as HTML.

use jetbridge_core::ConnectionState;
use maud::{Markup, html};

use super::cards;
use super::model::{Card, Page, Store};
use super::words::{ago, slug, span, stamp};
use crate::board::State;

/// The kinds, in the order in which they are shown, and what they are called.
const KINDS: [(&str, &str); 8] = [
    ("database", "Databases"),
    ("handler", "Handlers"),
    ("template", "Templates"),
    ("limiter", "Limits"),
    ("component", "Components"),
    ("bucket", "Buckets"),
    ("store", "Stores of limits"),
    ("control", "Control"),
];

/// What changes while somebody looks.
pub(super) fn live(page: &Page) -> Markup {
    let degraded: Vec<&Card> = page.cards.iter().filter(|card| is_degraded(card)).collect();
    html! {
        (summary(page, degraded.len()))
        @if let Some(error) = &page.files_error {
            section.alarm #files aria-labelledby="files-title" {
                h2 #files-title { "The files were not taken" }
                p { (error) }
                p.hint { "Everything runs as before. Mend the files, or see `jetbridge check`." }
            }
        }
        @if !degraded.is_empty() {
            section.alarm #attention aria-labelledby="attention-title" {
                h2 #attention-title { "Needs attention" }
                ul {
                    @for card in degraded {
                        li {
                            a href=(format!("#{}", slug(card.id.kind, &card.id.name))) {
                                (card.id)
                            }
                            @if let State::Degraded { reason } = &card.status.state {
                                ": " (reason)
                            }
                        }
                    }
                }
            }
        }
        @for (kind, title) in KINDS {
            @let cards: Vec<&Card> = page.cards.iter().filter(|it| it.id.kind == kind).collect();
            @if !cards.is_empty() {
                section.group aria-labelledby=(format!("{kind}-title")) {
                    h2 id=(format!("{kind}-title")) {
                        (title) " " span.number { (cards.len()) }
                    }
                    ul.cards { @for card in cards { (self::card(card, page)) } }
                }
            }
        }
        @if page.cards.is_empty() {
            p.empty { "The files name no sections yet. `jetbridge up --init` writes an example." }
        }
    }
}

fn is_degraded(card: &Card) -> bool {
    matches!(card.status.state, State::Degraded { .. })
}

fn summary(page: &Page, degraded: usize) -> Markup {
    let (mark, words) = match (&page.connection, page.ready) {
        (ConnectionState::Connected, true) => ("running", "Everything runs".to_owned()),
        (ConnectionState::Connected, false) if degraded > 0 => {
            let are = if degraded == 1 { "section is" } else { "sections are" };
            ("degraded", format!("{degraded} {are} degraded"))
        }
        (ConnectionState::Connected, false) => ("starting", "Starting".to_owned()),
        (ConnectionState::Reconnecting { .. }, _) => {
            ("degraded", "The store cannot be reached".to_owned())
        }
        _ => ("stopped", "Closed".to_owned()),
    };
    html! {
        section.summary #summary aria-label="Summary" {
            p.overall role="status" { (pill(mark)) strong { (words) } }
            dl.facts {
                @match &page.store {
                    Store::Answers { backend, location, version, round_trip, facts } => {
                        (fact("Store", &format!("{backend} {version}")))
                        (fact("Where", location))
                        (fact("Round trip", &coarse(*round_trip)))
                        @for (name, value) in facts { (fact(&name.replace('_', " "), value)) }
                    }
                    Store::Silent(why) => { (fact("Store", why)) }
                }
                (fact("Connection", &connection_words(&page.connection)))
                (fact("Up", &span(page.up)))
                (fact("Sections", &page.cards.len().to_string()))
            }
        }
    }
}

/// Powers of two of milliseconds: what trembles below that is not worth a change of the page.
fn coarse(time: std::time::Duration) -> String {
    let limits = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
    match limits.iter().find(|limit| time.as_millis() < **limit) {
        Some(limit) => format!("under {limit} ms"),
        None => span(time),
    }
}

fn connection_words(state: &ConnectionState) -> String {
    match state {
        ConnectionState::Connected => "connected".to_owned(),
        ConnectionState::Reconnecting { reason } => format!("reconnecting: {reason}"),
        _ => "closed".to_owned(),
    }
}

/// One name and its value.
pub(super) fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// The word for a state, which the sheet gives a shape and a colour.
pub(super) fn pill(state: &str) -> Markup {
    html! { span class=(format!("pill {state}")) { (state) } }
}

fn card(card: &Card, page: &Page) -> Markup {
    let (id, status) = (&card.id, &card.status);
    html! {
        li.card id=(slug(id.kind, &id.name)) {
            div.head {
                h3 { (id.name) }
                (pill(status.state.as_str()))
            }
            @if let State::Degraded { reason } = &status.state {
                p.reason { (reason) }
            }
            (cards::figures(card, page.now))
            @if !status.notes.is_empty() && !matches!(card.figures, super::model::Figures::Databases(_)) {
                ul.notes { @for note in &status.notes { li { (note) } } }
            }
            p.since {
                (status.state.as_str()) " since "
                time datetime=(stamp(status.since)) { (ago(status.since, page.now)) }
            }
        }
    }
}
