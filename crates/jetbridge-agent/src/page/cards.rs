//! The figures of one section as HTML.

use std::time::SystemTime;

use maud::{Markup, html};

use super::chart;
use super::model::{Bucket, Card, Component, Database, Figures, Handler, Limiter, Template};
use super::view::fact;
use super::words::{ago, bytes, count, span, stamp};

pub(super) fn figures(card: &Card, now: SystemTime) -> Markup {
    match &card.figures {
        Figures::None => html! {},
        Figures::Bucket(it) => bucket(it),
        Figures::Handler(it) => handler(it),
        Figures::Limiter(it) => limiter(it),
        Figures::Databases(them) => html! { @for it in them { (database(it, now)) } },
        Figures::Template(it) => template(it, now),
        Figures::Component(it) => component(it),
    }
}

fn bucket(it: &Bucket) -> Markup {
    let size = match it.bytes_max {
        Some(most) => format!("{} of {}", bytes(it.bytes), bytes(most)),
        None => bytes(it.bytes),
    };
    html! {
        @if let Some(most) = it.bytes_max {
            (meter("Size", it.bytes, most))
        }
        dl.facts {
            (fact("Size", &size))
            (fact("Messages", &count(it.messages)))
            @if it.history > 1 { (fact("History", &it.history.to_string())) }
            @if let Some(age) = it.max_age { (fact("Expires after", &span(age))) }
            @if it.replicas > 1 { (fact("Copies", &it.replicas.to_string())) }
        }
    }
}

fn handler(it: &Handler) -> Markup {
    html! {
        p.words { (it.words) }
        (meter("In flight", it.in_flight, it.concurrency))
        dl.facts {
            (fact("In flight", &format!("{} of {}", it.in_flight, it.concurrency)))
            (fact("Done", &count(it.done)))
            (fact("Failed attempts", &count(it.failed)))
            (fact("Given up", &count(it.dead)))
        }
        @match it.letters {
            Some(0) => p.links { "No dead letters" },
            Some(letters) => p.links {
                a href=(format!("/dead/{}", it.dead_letters)) {
                    (count(letters)) @if letters == 1 { " message in " } @else { " messages in " } (it.dead_letters)
                }
            },
            None => {}
        }
    }
}

fn limiter(it: &Limiter) -> Markup {
    let used = it.remaining.map(|remaining| it.limit.saturating_sub(remaining));
    html! {
        p.words { (it.policy) }
        @if let Some(used) = used {
            (meter("Used", used.into(), it.limit.into()))
        }
        dl.facts {
            @match used {
                Some(used) => { (fact("Used", &format!("{used} of {}", it.limit))) }
                None => { (fact("Used", "not known")) }
            }
            (fact("Waiting", &count(it.waiting)))
            (fact("Allowed", &count(it.allowed)))
            (fact("Denied", &count(it.denied)))
            @if let Some(slots) = it.slots { (fact("Held here", &count(slots))) }
            @if !it.longest_wait.is_zero() { (fact("Longest wait", &span(it.longest_wait))) }
            @if it.without_store > 0 { (fact("Without the store", &count(it.without_store))) }
        }
    }
}

fn database(it: &Database, now: SystemTime) -> Markup {
    html! {
        div.database {
            p.words { (it.path) " → " (it.replica) }
            @if let Some(error) = &it.error { p.reason { (error) } }
            (chart::lag(&it.lags))
            dl.facts {
                (fact("Replica", if it.caught_up { "all shipped" } else { it.state }))
                (fact("Lag", &it.lag.map_or("not known".to_owned(), span)))
                (fact("Transaction", &it.txid))
                (fact("Files", &it.files.to_string()))
            }
            @if let Some((oldest, newest)) = it.window {
                (chart::window((oldest, newest), now))
                p.since {
                    "Can be restored: from "
                    time datetime=(stamp(oldest)) { (ago(oldest, now)) }
                    " to "
                    time datetime=(stamp(newest)) { (ago(newest, now)) }
                }
            }
            @if let Some((at, error)) = &it.verified {
                p.since {
                    "A restore was tried "
                    time datetime=(stamp(*at)) { (ago(*at, now)) }
                    @match error { None => " and was intact", Some(error) => { ": " (error) } }
                }
            }
        }
    }
}

fn template(it: &Template, now: SystemTime) -> Markup {
    html! {
        dl.facts {
            @match it.last_written {
                Some(at) => div {
                    dt { "Written" }
                    dd { time datetime=(stamp(at)) { (ago(at, now)) } }
                },
                None => { (fact("Written", "not since the start")) }
            }
            (fact("Times written", &count(it.written)))
            (fact("Unchanged", &count(it.same)))
            (fact("Failed", &count(it.failed)))
            (fact("Reloads", &count(it.reloads)))
        }
        @if !it.diff.is_empty() {
            details {
                summary { "What the last writing changed" }
                pre.diff tabindex="0" {
                    @for line in it.diff.lines() {
                        @match line.chars().next() {
                            Some('+') => ins { (line) },
                            Some('-') => del { (line) },
                            _ => span { (line) },
                        }
                        "\n"
                    }
                }
            }
        }
    }
}

fn component(it: &Component) -> Markup {
    html! {
        dl.facts {
            (fact("Requests", &count(it.requests_done)))
            (fact("Failed requests", &count(it.requests_failed)))
            (fact("Changes told", &count(it.changes_done)))
            (fact("Failed changes", &count(it.changes_failed)))
            @if it.changes_passed_over > 0 {
                (fact("Passed over", &count(it.changes_passed_over)))
            }
        }
    }
}

fn meter(name: &str, value: u64, most: u64) -> Markup {
    html! {
        meter aria-label=(name) min="0" max=(most.max(1)) value=(value.min(most)) {
            (value) " of " (most)
        }
    }
}
