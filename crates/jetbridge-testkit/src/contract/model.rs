//! Random sequences of operations on one bucket, checked against a model.
//!
//! A seed determines the sequence, so a failure repeats; it prints the seed and every step that
//! led to it. A seed that has once failed stays, as a case in [`seeds`].

mod reference;
mod run;
pub mod seeds;
mod step;

pub use run::{Plan, check};

/// Makes the tests of [`contract::model`](crate::contract::model) over what `$open` opens: an
/// `async fn() -> Fixture` next to it.
#[macro_export]
macro_rules! model_contract {
    ($open:ident) => {
        mod model {
            $crate::__model_seeds!($open);
        }
    };
}
