//! The guide prints the table of names; this holds the one to the other.

use super::*;
use crate::settings::table::{Row, TABLE};

const GUIDE: &str = include_str!("../../../../../docs/guide/settings.md");

const HEAD: &str = "| ours | variables, `NATS_…` | evo, `NATS.…` | graft | link | Litestream | \
                    rate-sync | nats CLI |\n|---|---|---|---|---|---|---|---|\n";

/// evo's names are ours unless the page has another one first.
const COLUMNS: [Dialect; 8] = [
    Dialect::Store,
    Dialect::Variables,
    Dialect::Evo,
    Dialect::Graft,
    Dialect::Link,
    Dialect::Litestream,
    Dialect::RateSync,
    Dialect::Context,
];

fn line(row: &Row) -> String {
    let cells: Vec<String> = COLUMNS
        .iter()
        .map(|dialect| {
            let upper = matches!(dialect, Dialect::Evo | Dialect::Link);
            let names = row.names_in(*dialect).iter().map(|name| match upper {
                true => format!("`{}`", name.to_ascii_uppercase()),
                false => format!("`{name}`"),
            });
            names.collect::<Vec<_>>().join(" ")
        })
        .collect();
    format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |").replace("|  |", "| |")
}

#[test]
fn the_guide_prints_every_name() {
    let table: String = std::iter::once(HEAD.to_owned()).chain(TABLE.iter().map(line)).collect();
    assert!(GUIDE.contains(&table), "the table of docs/guide/settings.md should be:\n{table}");
}
