//! Rounds that alternate between contenders, and what is told of them.

use futures_util::future::BoxFuture;

use crate::Outcome;

/// Ourselves, first among the contenders of every measure.
pub(crate) const OURS: &str = "Jetbridge";
/// The Rust client that we build on.
pub(crate) const ASYNC_NATS: &str = "async-nats";
/// Litestream's own binary.
pub(crate) const LITESTREAM: &str = "Litestream";
/// The Go client.
pub(crate) const NATS_GO: &str = "nats.go";

/// One who is measured: each run returns one figure.
pub(crate) struct Contender<'a> {
    name: &'static str,
    run: Box<dyn FnMut(usize) -> BoxFuture<'a, Outcome<f64>> + Send + 'a>,
}

impl<'a> Contender<'a> {
    /// `run` gets the number of the round.
    pub(crate) fn new(
        name: &'static str,
        run: impl FnMut(usize) -> BoxFuture<'a, Outcome<f64>> + Send + 'a,
    ) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// The figures of one contender, one for each round.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) figures: Vec<f64>,
}

impl Series {
    pub(crate) fn median(&self) -> f64 {
        quantile(&self.figures, 0.5)
    }
}

/// Runs every contender `rounds` times. They take turns, and every other round goes backwards, so
/// that whoever else uses the machine disturbs all of them alike.
pub(crate) async fn rounds(
    rounds: usize,
    mut contenders: Vec<Contender<'_>>,
) -> Outcome<Vec<Series>> {
    let mut all: Vec<Series> =
        contenders.iter().map(|it| Series { name: it.name, figures: Vec::new() }).collect();
    let count = contenders.len();
    for round in 0..rounds {
        for turn in 0..count {
            let at = if round % 2 == 0 { turn } else { count - 1 - turn };
            let figure = (contenders[at].run)(round).await;
            let figure = figure.map_err(|error| format!("{}: {error}", contenders[at].name))?;
            all[at].figures.push(figure);
        }
    }
    Ok(all)
}

/// How many times ours is theirs: the median over the rounds, each compared with its neighbour.
pub(crate) fn ratio(ours: &Series, theirs: &Series) -> f64 {
    let pairs = ours.figures.iter().zip(&theirs.figures);
    quantile(&pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>(), 0.5)
}

/// The figure that the share `q` of all figures is not above; not a number if there are none.
pub(crate) fn quantile(figures: &[f64], q: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into figures that are in memory"
    )]
    let at = (sorted.len().saturating_sub(1) as f64 * q).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn series(name: &'static str, figures: &[f64]) -> Series {
        Series { name, figures: figures.to_vec() }
    }

    #[test]
    fn neighbours_are_compared_and_the_median_told() {
        let ours = series(OURS, &[2.0, 30.0, 4.0]);
        let theirs = series(ASYNC_NATS, &[1.0, 10.0, 4.0]);
        assert_eq!(ratio(&ours, &theirs), 2.0);
        assert_eq!(ours.median(), 4.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[tokio::test]
    async fn every_other_round_goes_backwards() {
        let order = Mutex::new(String::new());
        let contender = |name: &'static str| {
            let order = &order;
            Contender::new(name, move |_round| {
                order.lock().unwrap().push_str(name);
                Box::pin(async { Ok(1.0) })
            })
        };
        let all = rounds(3, vec![contender("a"), contender("b")]).await.unwrap();
        assert_eq!(*order.lock().unwrap(), "abbaab");
        assert_eq!(all[1].figures, [1.0, 1.0, 1.0]);
    }
}
