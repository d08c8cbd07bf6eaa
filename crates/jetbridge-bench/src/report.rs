//! Figures as a table for people and as JSON for programs.

use serde_json::{Value, json};

use crate::args::Args;
use crate::measure::{OURS, Series, ratio};
use crate::{Outcome, facts};

/// What a measure is to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// So many times the peer's figure.
    Times(&'static str, f64),
    /// The peer's figure divided by this, at most.
    TimesLess(&'static str, f64),
    /// A figure of at least this.
    AtLeast(f64),
    /// A figure of at most this.
    AtMost(f64),
}

/// One measure.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    /// What it ran on: a server's version, or the embedded store.
    on: String,
    series: Vec<Series>,
    targets: Vec<Target>,
}

impl Row {
    pub(crate) fn new(name: &str, unit: &'static str, on: &str, series: Vec<Series>) -> Self {
        Self { name: name.to_owned(), unit, on: on.to_owned(), series, targets: Vec::new() }
    }

    /// One figure of ours, which no peer has.
    pub(crate) fn alone(name: &str, unit: &'static str, on: &str, figure: f64) -> Self {
        Self::new(name, unit, on, vec![Series { name: OURS, figures: vec![figure] }])
    }

    /// Adds a peer's figures.
    #[must_use]
    pub(crate) fn beside(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    #[must_use]
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    fn of(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    fn ratio(&self, peer: &str) -> Option<f64> {
        Some(ratio(self.of(OURS)?, self.of(peer)?))
    }

    fn is_reached(&self, target: Target) -> bool {
        let ours = self.of(OURS).map_or(f64::NAN, Series::median);
        match target {
            Target::Times(peer, times) => self.ratio(peer).is_some_and(|ratio| ratio >= times),
            Target::TimesLess(peer, times) => self.ratio(peer).is_some_and(|it| it * times <= 1.0),
            Target::AtLeast(least) => ours >= least,
            Target::AtMost(most) => ours <= most,
        }
    }

    fn target_text(&self, target: Target) -> String {
        let text = match target {
            Target::Times(peer, times) => format!("≥ {times}× {peer}"),
            Target::TimesLess(peer, times) => format!("≤ 1/{times} {peer}"),
            Target::AtLeast(least) => format!("≥ {}", shown(least)),
            Target::AtMost(most) => format!("≤ {}", shown(most)),
        };
        format!("{text} {}", if self.is_reached(target) { "✓" } else { "✗" })
    }

    /// A column for each of the peers' figures, and one for how many times ours is theirs.
    fn cells(&self, peers: &[&str]) -> Vec<String> {
        let figure = |name| self.of(name).map_or(String::new(), |it| shown(it.median()));
        let times = |name| self.ratio(name).map_or(String::new(), |ratio| format!("{ratio:.2}×"));
        let targets: Vec<String> =
            self.targets.iter().map(|target| self.target_text(*target)).collect();
        let mut cells =
            vec![self.name.clone(), self.on.clone(), self.unit.to_owned(), figure(OURS)];
        cells.extend(peers.iter().map(|peer| figure(*peer)));
        cells.extend(peers.iter().map(|peer| times(*peer)));
        cells.push(targets.join(", "));
        cells
    }

    /// Whom we are measured beside.
    fn peers(&self) -> impl Iterator<Item = &'static str> {
        self.series.iter().map(|series| series.name).filter(|name| *name != OURS)
    }

    fn json(&self) -> Value {
        let figures: serde_json::Map<String, Value> =
            self.series.iter().map(|it| (it.name.to_owned(), json!(it.figures))).collect();
        let targets: Vec<Value> = self
            .targets
            .iter()
            .map(|it| json!({ "text": self.target_text(*it), "reached": self.is_reached(*it) }))
            .collect();
        let times: serde_json::Map<String, Value> =
            self.peers().map(|peer| (peer.to_owned(), json!(self.ratio(peer)))).collect();
        json!({
            "measure": self.name,
            "on": self.on,
            "unit": self.unit,
            "figures": figures,
            "targets": targets,
            "times": times,
        })
    }
}

/// All measures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(args: &Args) -> Outcome<Self> {
        let facts = vec![
            ("machine", facts::machine()?),
            ("load before", facts::load()?),
            ("rounds", args.rounds.to_string()),
            ("jetbridge", env!("CARGO_PKG_VERSION").to_owned()),
            ("async-nats", facts::version("async-nats")?.to_owned()),
            ("SQLite", facts::version("libsqlite3-sys")?.to_owned() + " (libsqlite3-sys)"),
        ];
        Ok(Self { facts, rows: Vec::new() })
    }

    /// Adds what is known only once a measure runs; the first word holds.
    pub(crate) fn fact(&mut self, name: &'static str, value: &str) {
        if !self.facts.iter().any(|(known, _)| *known == name) {
            println!("{name}: {value}");
            self.facts.push((name, value.to_owned()));
        }
    }

    /// Adds a measure and shows that the run goes on.
    pub(crate) fn add(&mut self, row: Row) {
        eprintln!("  {}", row.cells(&row.peers().collect::<Vec<_>>()).join(" | "));
        self.rows.push(row);
    }

    pub(crate) fn head(&self) -> String {
        let lines: Vec<String> =
            self.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.join("\n")
    }

    /// The measures, as a table that Markdown takes too.
    pub(crate) fn table(&self) -> String {
        let mut peers: Vec<&str> = Vec::new();
        for peer in self.rows.iter().flat_map(Row::peers) {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        let mut head = ["measure", "on", "unit", OURS].map(str::to_owned).to_vec();
        head.extend(peers.iter().map(|peer| (*peer).to_owned()));
        head.extend(peers.iter().map(|peer| format!("× {peer}")));
        head.push("target".to_owned());
        let columns = head.len();
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(|row| row.cells(&peers)));
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        lines.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
        let line = |cells: &Vec<String>| {
            let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
        };
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn json(&self) -> Outcome<String> {
        let facts: serde_json::Map<String, Value> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        Ok(serde_json::to_string_pretty(&json!({ "facts": facts, "rows": rows }))? + "\n")
    }
}

/// A figure with about three digits that count.
fn shown(figure: f64) -> String {
    if figure.is_nan() {
        return "failed".to_owned();
    }
    if figure >= 10_000.0 {
        return format!("{:.1} k", figure / 1000.0);
    }
    if figure >= 100.0 { format!("{figure:.0}") } else { format!("{figure:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{ASYNC_NATS, NATS_GO};

    #[test]
    fn every_peer_that_ran_has_a_column() {
        let series = |name, figure| Series { name, figures: vec![figure] };
        let mut report = Report { facts: Vec::new(), rows: Vec::new() };
        report.add(Row::new("m", "/s", "x", vec![series(OURS, 9.0), series("Redis", 3.0)]));
        report.add(Row::new("n", "/s", "x", vec![series("governor", 5.0)]));
        let table = report.table();
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(lines[0][4..9], ["Jetbridge", "Redis", "governor", "× Redis", "× governor"]);
        assert_eq!(lines[2][4..9], ["9.0", "3.0", "", "3.00×", ""]);
        assert_eq!(lines[3][4..9], ["", "", "5.0", "", ""]);
    }

    #[test]
    fn a_target_is_reached_or_not() {
        let series = |name, figure| Series { name, figures: vec![figure] };
        let row = Row::new("m", "/s", "x", vec![series(OURS, 12_000.0), series(NATS_GO, 10_000.0)]);
        assert!(row.is_reached(Target::Times(NATS_GO, 1.2)));
        assert!(!row.is_reached(Target::Times(NATS_GO, 1.3)));
        assert!(!row.is_reached(Target::Times(ASYNC_NATS, 0.1)), "a peer that did not run");
        assert!(!row.is_reached(Target::AtMost(11_999.0)));
        let row = row.target(Target::Times(NATS_GO, 1.2)).target(Target::AtLeast(20_000.0));
        let cells = row.cells(&[NATS_GO]);
        assert_eq!(cells[3], "12.0 k");
        assert_eq!(cells[6], "≥ 1.2× nats.go ✓, ≥ 20.0 k ✗");
    }
}
