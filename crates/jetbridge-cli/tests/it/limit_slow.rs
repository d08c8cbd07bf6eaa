//! How much of a rate a fleet of processes gets, and how evenly: seconds for each shape.

/// By the processes of the binary, as people run them. With the machine to themselves: what a
/// process cannot ask for in time it does not get.
mod slow {
    mod alone {
        use std::time::Duration;

        use futures_util::future::join_all;
        use serde_json::Value;
        use tokio::time::Instant;

        use crate::binary::Store;
        use crate::limit::lay_out;

        const SPAN: Duration = Duration::from_secs(4);
        /// Of the rate, in a debug build; `cargo xtask bench limit` measures.
        const SHARE_MIN: f64 = 0.85;
        const JAIN_MIN: f64 = 0.95;

        async fn a_fleet_gets_its_rate_evenly_and_no_more(store: Store) {
            for rate in [10_u32, 100, 1000] {
                for (processes, callers) in [(1, 1), (1, 32), (4, 8)] {
                    fleet(&store, rate, (processes, callers)).await;
                }
            }
        }

        async fn fleet(store: &Store, rate: u32, (processes, callers): (usize, u32)) {
            let id = format!("r{rate}-{processes}-{callers}");
            lay_out(store, &format!("[limiters.{id}]\nstore = \"s\"\nrate_per_second = {rate}\n"));
            let (callers, span) = (callers.to_string(), format!("{}s", SPAN.as_secs()));
            let words = ["--json", "limit", "bench", &id, "--callers", &callers, "--for", &span];
            let begun = Instant::now();
            let said = join_all((0..processes).map(|_| store.run(&words))).await;
            let took = begun.elapsed().as_secs_f64();
            let granted: Vec<f64> = said
                .iter()
                .map(|said| {
                    let figures: Value = serde_json::from_str(&said.text()).unwrap();
                    assert_eq!(figures["failed"], 0, "{id}: {figures}");
                    figures["granted"].as_f64().unwrap()
                })
                .collect();
            let (sum, rate) = (granted.iter().sum::<f64>(), f64::from(rate));
            let burst = (rate / 100.0).max(1.0);
            assert!(sum <= rate * took + burst + 1.0, "{id}: {sum} in {took} s");
            assert!(sum >= rate * SPAN.as_secs_f64() * SHARE_MIN, "{id}: {sum} in {took} s");
            let squares: f64 = granted.iter().map(|it| it * it).sum();
            let jain = sum * sum / (squares * granted.len() as f64);
            assert!(jain >= JAIN_MIN || sum < 100.0, "{id}: {jain}, {granted:?}");
        }

        on_every_store! { a_fleet_gets_its_rate_evenly_and_no_more }
    }
}
