//! Bars on a terminal for what takes over half a second; nothing anywhere else.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::printer::Printer;

/// What is over sooner shows no bar, which would only flicker.
const SILENCE: Duration = Duration::from_millis(500);

const BYTES_OF_TOTAL: &str = "{wide_bar} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
const BYTES: &str = "{spinner} {bytes}  {bytes_per_sec}  {elapsed}";
const ITEMS_OF_TOTAL: &str = "{wide_bar} {human_pos} of {human_len} {msg}  {per_sec}  {eta} left";
const ITEMS: &str = "{spinner} {human_pos} {msg}  {per_sec}  {elapsed}";

/// How far something is. Clones show the same bar.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    wanted: bool,
}

impl Progress {
    /// Bytes, of so many if that is known.
    pub(crate) fn bytes(printer: &Printer, total: Option<u64>) -> Self {
        let style = if total.is_some() { BYTES_OF_TOTAL } else { BYTES };
        Self::new(printer, total, style)
    }

    /// Things called `what`, of so many if that is known.
    pub(crate) fn items(printer: &Printer, what: &'static str, total: Option<u64>) -> Self {
        let style = if total.is_some() { ITEMS_OF_TOTAL } else { ITEMS };
        let progress = Self::new(printer, total, style);
        progress.bar.set_message(what);
        progress
    }

    fn new(printer: &Printer, total: Option<u64>, template: &str) -> Self {
        // Also when it is dropped half-way, so that an error begins on a line of its own.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden())
            .with_finish(ProgressFinish::AndClear);
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_template| ProgressStyle::default_bar()));
        Self { bar, begun: Instant::now(), wanted: !printer.is_quiet() }
    }

    /// So many more are done.
    pub(crate) fn advance(&self, by: u64) {
        self.bar.inc(by);
        if self.wanted && self.bar.is_hidden() && self.begun.elapsed() > SILENCE {
            // Draws nothing where stderr is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_legal() {
        for template in [BYTES_OF_TOTAL, BYTES, ITEMS_OF_TOTAL, ITEMS] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
