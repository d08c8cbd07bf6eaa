//! The seeds that every backend is run through.

use super::{Plan, check};

cases! { $ __model_seeds = model::seeds;
    /// One revision of each key is kept.
    async fn one_revision_is_kept(f) {
        check(f, Plan { seed: 1, history: 1, steps: 300 }).await;
    }

    /// Another sequence under the same settings.
    async fn one_revision_is_kept_again(f) {
        check(f, Plan { seed: 2, history: 1, steps: 300 }).await;
    }

    /// A few revisions of each key are kept.
    async fn a_few_revisions_are_kept(f) {
        check(f, Plan { seed: 3, history: 3, steps: 300 }).await;
    }

    /// As many revisions as JetStream keeps.
    async fn all_revisions_are_kept(f) {
        check(f, Plan { seed: 4, history: 64, steps: 300 }).await;
    }
}
