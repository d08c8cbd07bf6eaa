//! Pages of states that are written down, not made to happen.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use jetbridge_core::{ConnectionState, Headers, Message, StreamName, Subject};

use super::letters::Letter;
use super::letters_view::{self, Sent};
use super::model::{
    Bucket, Card, Component, Database, Figures, Handler, Limiter, Page, Store, Template,
};
use super::view::live;
use crate::board::{SectionId, SectionStatus, State};

/// What somebody writes who wants to be more than text.
const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;'";

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn card(kind: &'static str, name: &str, state: State, figures: Figures) -> Card {
    let status = SectionStatus { state, since: at(940), notes: vec![EVIL.to_owned()] };
    Card { id: SectionId::new(kind, name), status, figures }
}

/// Wherever somebody may write, something evil.
fn of_the_store() -> Vec<Card> {
    let (evil, degraded) = (|| EVIL.to_owned(), State::Degraded { reason: EVIL.to_owned() });
    vec![
        card(
            "bucket",
            "config (kv)",
            State::Running,
            Figures::Bucket(Bucket {
                bytes: 1536,
                bytes_max: Some(2048),
                messages: 12_345,
                history: 5,
                max_age: Some(Duration::from_secs(7200)),
                replicas: 3,
            }),
        ),
        card(
            "handler",
            EVIL,
            degraded,
            Figures::Handler(Handler {
                words: evil(),
                in_flight: 3,
                concurrency: 4,
                done: 70,
                failed: 8,
                dead: 2,
                dead_letters: StreamName::parse("DEAD").unwrap(),
                letters: Some(2),
            }),
        ),
        card(
            "limiter",
            "api",
            State::Running,
            Figures::Limiter(Limiter {
                policy: "5 in 1 s".to_owned(),
                limit: 5,
                remaining: Some(2),
                waiting: 6,
                allowed: 90,
                denied: 11,
                without_store: 1,
                slots: Some(4),
                longest_wait: Duration::from_millis(250),
            }),
        ),
    ]
}

fn of_files() -> Vec<Card> {
    let evil = || EVIL.to_owned();
    vec![
        card(
            "database",
            "app.db",
            State::Running,
            Figures::Databases(vec![Database {
                path: evil(),
                replica: evil(),
                state: "replicating",
                txid: "000000000000002a".to_owned(),
                caught_up: true,
                lag: Some(Duration::from_secs(3)),
                lags: vec![Some(0.0), None, Some(5.0), Some(3.0)],
                window: Some((at(100), at(990))),
                files: 17,
                error: Some(evil()),
                verified: Some((at(880), Some(evil()))),
            }]),
        ),
        card(
            "template",
            "app.yml",
            State::Running,
            Figures::Template(Template {
                written: 2,
                same: 3,
                failed: 1,
                reloads: 2,
                last_written: Some(at(970)),
                diff: format!("-a: 1\n+a: {EVIL}\n b: ***\n"),
            }),
        ),
        card(
            "component",
            "hits",
            State::Starting,
            Figures::Component(Component {
                requests_done: 1000,
                requests_failed: 1,
                changes_done: 2,
                changes_failed: 3,
                changes_passed_over: 4,
            }),
        ),
    ]
}

/// One of everything.
fn everything() -> Page {
    let evil = || EVIL.to_owned();
    Page {
        now: at(1000),
        up: Duration::from_secs(600),
        ready: false,
        connection: ConnectionState::Reconnecting { reason: evil() },
        store: Store::Answers {
            backend: "nats",
            location: evil(),
            version: evil(),
            round_trip: Duration::from_micros(300),
            facts: vec![("server", evil())],
        },
        files_error: Some(evil()),
        cards: of_the_store().into_iter().chain(of_files()).collect(),
    }
}

fn is_harmless(html: &str) {
    // In attributes and in text alike, what was written begins no element and ends no attribute.
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    assert!(html.contains("&lt;script&gt;"), "it is shown as what it is: {html}");
    assert!(html.contains("&amp;amp;"), "{html}");
}

#[test]
fn whatever_was_written_is_text() {
    is_harmless(&live(&everything()).into_string());
    let mut silent = everything();
    silent.store = Store::Silent(EVIL.to_owned());
    is_harmless(&live(&silent).into_string());
}

#[test]
fn every_figure_is_there() {
    let html = live(&everything()).into_string();
    for words in [
        "The store cannot be reached",
        "under 1 ms",
        "1.5 KiB of 2.0 KiB",
        "12\u{202f}345",
        "3 of 4",
        "href=\"/dead/DEAD\"",
        "2 messages in DEAD",
        "<dt>Waiting</dt><dd>6</dd>",
        "<dt>Used</dt><dd>3 of 5</dd>",
        "Lag over the last 10 min: 3 s now, 5 s at most",
        "Can be restored: states from 15 min ago to 10 s ago",
        "A restore was tried ",
        "What the last writing changed",
        "<del>-a: 1</del>",
        " b: ***",
        "30 s ago",
        "<dt>Passed over</dt><dd>4</dd>",
        "<span class=\"pill starting\">starting</span>",
        "The files were not taken",
        "Needs attention",
        "running since <time datetime=\"1970-01-01T00:15:40Z\">1 min ago</time>",
    ] {
        assert!(html.contains(words), "{words} is not in\n{html}");
    }
    let ids: Vec<&str> =
        html.split(" id=\"").skip(1).filter_map(|it| it.split('"').next()).collect();
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len(), "no id twice: {ids:?}");
    let targets = html.split("href=\"#").skip(1).filter_map(|it| it.split('"').next());
    targets.for_each(|target| assert!(ids.contains(&target), "nothing is called {target}"));
}

#[test]
fn a_page_without_sections_says_how_to_begin() {
    let page = Page {
        connection: ConnectionState::Connected,
        ready: true,
        files_error: None,
        cards: Vec::new(),
        ..everything()
    };
    let html = live(&page).into_string();
    assert!(html.contains("Everything runs") && html.contains("jetbridge up --init"), "{html}");
    assert!(!html.contains("Needs attention"));
}

#[test]
fn letters_are_text_whatever_they_hold() {
    let subject = Subject::parse("jetbridge.dead.DEAD.clerk").unwrap();
    let letter = |sequence, payload: Bytes, headers: &[(&str, &str)]| {
        let mut kept = Headers::new();
        headers.iter().for_each(|(name, value)| kept.push_wire(name, value));
        let message = Message::new(subject.clone(), payload).headers(kept);
        Letter { sequence, stored: at(900), message, again: Some(at(990)) }
    };
    let facts = [("Jetbridge-Subject", EVIL), ("Jetbridge-Reason", EVIL), (EVIL, EVIL)];
    // A character of two bytes lies over the cut.
    let long = format!("a{}", "é".repeat(4000));
    let letters = [
        letter(1, EVIL.into(), &facts),
        letter(2, vec![0xff, 0, 1].into(), &[]),
        letter(3, long.into(), &facts),
        letter(4, Bytes::new(), &facts),
    ];
    let stream = StreamName::parse("DEAD").unwrap();
    for sent in [Sent::Nothing, Sent::Done(1), Sent::Failed(EVIL.to_owned())] {
        let html = letters_view::letters(&stream, &letters, &sent, at(1000)).into_string();
        is_harmless(&html);
        for words in
            ["3 B that are no text", "The first 4.0 KiB of 7.8 KiB", "No payload", "10 s ago"]
        {
            assert!(html.contains(words), "{words} is not in\n{html}");
        }
        assert_eq!(html.matches("Send again").count(), 3, "one is not known where it was");
    }
    let none = letters_view::letters(&stream, &[], &Sent::Nothing, at(1000)).into_string();
    assert!(none.contains("There are none"));
}
