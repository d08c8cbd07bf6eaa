//! The promises of the seam, as cases that any backend can be run through.
//!
//! Each macro turns its whole list of cases into tests, so a case cannot be written and then not
//! run, and a backend cannot leave one out. The front page says how to run them.
//!
//! What a backend cannot do it must refuse: the cases ask [`Capabilities`] which of the two to
//! expect, they never pass over anything.
//!
//! Cases wait for what must come true, with a deadline; they never sleep for a guessed time. A
//! value with a time to live is expected to be there only while its time has surely not come.
//!
//! [`Capabilities`]: jetbridge_core::Capabilities
#![expect(clippy::unwrap_used, reason = "a case fails by panicking")]

/// Defines cases *and* the macro that turns each into a test.
macro_rules! cases {
    ($d:tt $name:ident = $group:ident::$module:ident;
     $( $(#[$doc:meta])+ async fn $case:ident($f:ident) $body:block )+) => {
        $(
            $(#[$doc])+
            pub fn $case($f: &$crate::Fixture) -> futures_util::future::LocalBoxFuture<'_, ()> {
                Box::pin(async move $body)
            }
        )+

        #[doc(hidden)]
        #[macro_export]
        macro_rules! $name {
            ($d open:ident) => {
                $(
                    #[test]
                    fn $case() {
                        $crate::contract::run(super::$d open(), $crate::contract::$group::$module::$case);
                    }
                )+
            };
        }
    };
}

/// Makes the tests of the whole [`contract`](mod@crate::contract) over what `$open` opens: an
/// `async fn() -> Fixture` next to it.
#[macro_export]
macro_rules! contract {
    ($open:ident) => {
        $crate::backend_contract!($open);
        $crate::bus_contract!($open);
        $crate::kv_contract!($open);
        $crate::model_contract!($open);
        $crate::object_contract!($open);
    };
}

pub mod backend;
pub mod bus;
mod fixture;
pub mod kv;
pub mod model;
pub mod object;
mod run;
mod steps;
pub mod storm;

pub use fixture::Fixture;
pub use run::{Case, run, run_within};
