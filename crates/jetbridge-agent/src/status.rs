//! The state of everything as JSON, for `/v1/status`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use jetbridge_core::{Backend, Clock, ConnectionState, Result, StoreStatus, Tasks};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::board::{Board, SectionStatus, State};
use crate::component::Routes;
use crate::database::DatabaseDesk;
use crate::http::Grants;
use crate::limit::Desk;
use crate::metrics::{Ended, Metrics};
use crate::page::Desks;

/// How long the store may take to say how it is; the page must not hang with the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything that status is made of.
#[derive(Clone, Debug)]
pub(crate) struct Overview {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) board: Board,
    pub(crate) metrics: Metrics,
    pub(crate) desk: Desk,
    pub(crate) routes: Routes,
    pub(crate) grants: Grants,
    pub(crate) databases: DatabaseDesk,
    /// What the status page looks at beside this.
    pub(crate) desks: Desks,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: SystemTime,
    pub(crate) connection: watch::Receiver<ConnectionState>,
    /// How the last reading of the files came out: nothing, or why they were refused.
    pub(crate) files: watch::Receiver<Option<String>>,
}

/// Follows the connection's state for as long as `tasks` run.
pub(crate) fn follow_connection(
    backend: &dyn Backend,
    metrics: Metrics,
    tasks: &Tasks,
) -> watch::Receiver<ConnectionState> {
    let before = ConnectionState::Reconnecting { reason: "not connected yet".to_owned() };
    let (state, receiver) = watch::channel(before);
    let mut states = backend.connection();
    tasks.spawn_until_stop(async move {
        while let Some(next) = states.next().await {
            metrics.connected(i64::from(next == ConnectionState::Connected));
            state.send_replace(next);
        }
    });
    receiver
}

impl Overview {
    /// True if every section does its work.
    pub(crate) fn is_ready(&self) -> bool {
        self.board.all().iter().all(|(_, status)| status.state.is_ready())
    }

    /// What keeps the process from being ready, a line each.
    pub(crate) fn unready(&self) -> Vec<String> {
        let all = self.board.all();
        let unready = all.iter().filter(|(_, status)| !status.state.is_ready());
        unready.map(|(id, status)| format!("{id}: {}", words(&status.state))).collect()
    }

    /// What Prometheus reads.
    pub(crate) fn metrics(&self) -> Result<String> {
        let mut databases = String::new();
        self.databases.metrics(&mut databases, self.clock.now())?;
        self.metrics.text(&self.board, &self.desk, &databases)
    }

    pub(crate) async fn json(&self) -> Value {
        let store = tokio::time::timeout(STORE_TIMEOUT, self.backend.status()).await;
        let store = match store {
            Ok(Ok(status)) => store_json(&status),
            Ok(Err(error)) => json!({"error": error.to_string()}),
            Err(_elapsed) => json!({"error": format!("no answer within {STORE_TIMEOUT:?}")}),
        };
        let sections: Vec<Value> = self
            .board
            .all()
            .iter()
            .map(|(id, status)| self.section(id.kind, &id.name, status))
            .collect();
        let up = self.clock.now().duration_since(self.started).unwrap_or_default();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": up.as_secs(),
            "ready": self.is_ready(),
            "connection": connection_word(&self.connection.borrow()),
            "store": store,
            "files_error": *self.files.borrow(),
            "sections": sections,
        })
    }

    fn section(&self, kind: &str, name: &str, status: &SectionStatus) -> Value {
        let since = status.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut section = json!({
            "kind": kind,
            "name": name,
            "state": status.state.as_str(),
            "reason": match &status.state { State::Degraded { reason } => Some(reason), _ => None },
            "since_unix_s": since.as_secs(),
            "notes": status.notes,
        });
        if kind == "handler" {
            section["handler"] = json!({
                "done": self.metrics.attempts(name, Ended::Done),
                "failed": self.metrics.attempts(name, Ended::Failed),
                "dead": self.metrics.dead(name),
                "in_flight": self.metrics.in_flight(name),
            });
        }
        if kind == "database" {
            section["databases"] = json!(self.databases.json(name, self.clock.now()));
        }
        if kind == "template" {
            section["template"] = self.metrics.templates.json(name);
        }
        if kind == "component" {
            section["component"] = json!(self.metrics.components.figures(name));
        }
        section
    }
}

fn words(state: &State) -> String {
    match state {
        State::Degraded { reason } => format!("degraded: {reason}"),
        other => other.as_str().to_owned(),
    }
}

fn connection_word(state: &ConnectionState) -> Value {
    match state {
        ConnectionState::Connected => json!({"state": "connected"}),
        ConnectionState::Reconnecting { reason } => {
            json!({"state": "reconnecting", "reason": reason})
        }
        _ => json!({"state": "closed"}),
    }
}

fn store_json(status: &StoreStatus) -> Value {
    let facts: serde_json::Map<String, Value> =
        status.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({
        "backend": status.backend,
        "location": status.location,
        "version": status.version,
        "round_trip_us": u64::try_from(status.round_trip.as_micros()).unwrap_or(u64::MAX),
        "facts": facts,
    })
}
