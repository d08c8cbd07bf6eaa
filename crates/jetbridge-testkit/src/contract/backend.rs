//! What [`Backend`](jetbridge_core::Backend) promises: buckets as a whole, and the connection.

pub mod bucket;
pub mod connection;

/// Makes the tests of [`contract::backend`](crate::contract::backend) over what `$open` opens: an
/// `async fn() -> Fixture` next to it.
#[macro_export]
macro_rules! backend_contract {
    ($open:ident) => {
        mod backend {
            $crate::__backend_bucket!($open);
            $crate::__backend_connection!($open);
        }
    };
}
