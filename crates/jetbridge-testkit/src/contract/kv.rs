//! What [`Kv`](jetbridge_core::Kv) promises.

pub mod condition;
pub mod counter;
pub mod expiry;
pub mod history;
pub mod list;
pub mod many;
pub mod name;
pub mod robust;
pub mod value;
pub mod watch;

/// Makes the tests of [`contract::kv`](crate::contract::kv) over what `$open` opens: an
/// `async fn() -> Fixture` next to it.
#[macro_export]
macro_rules! kv_contract {
    ($open:ident) => {
        mod kv {
            $crate::__kv_condition!($open);
            $crate::__kv_counter!($open);
            $crate::__kv_expiry!($open);
            $crate::__kv_history!($open);
            $crate::__kv_list!($open);
            $crate::__kv_many!($open);
            $crate::__kv_name!($open);
            $crate::__kv_robust!($open);
            $crate::__kv_value!($open);
            $crate::__kv_watch!($open);
        }
    };
}
