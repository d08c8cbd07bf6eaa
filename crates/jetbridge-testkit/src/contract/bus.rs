//! What [`Bus`](jetbridge_core::Bus) promises: messages, streams, durable consumers.

pub mod append;
pub mod consume;
pub mod plain;
pub mod read;
pub mod request;
pub mod retain;
pub(crate) mod steps;
pub mod stream;

/// Makes the tests of [`contract::bus`](crate::contract::bus) over what `$open` opens: an
/// `async fn() -> Fixture` next to it.
#[macro_export]
macro_rules! bus_contract {
    ($open:ident) => {
        mod bus {
            $crate::__bus_append!($open);
            $crate::__bus_consume!($open);
            $crate::__bus_plain!($open);
            $crate::__bus_read!($open);
            $crate::__bus_request!($open);
            $crate::__bus_retain!($open);
            $crate::__bus_stream!($open);
        }
    };
}
