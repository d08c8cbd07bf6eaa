//! What [`Objects`](jetbridge_core::Objects) promises.

pub mod get;
pub mod link;
pub mod list;
pub mod name;
pub mod put;
pub mod robust;
pub mod watch;

/// Makes the tests of [`contract::object`](crate::contract::object) over what `$open` opens: an
/// `async fn() -> Fixture` next to it.
#[macro_export]
macro_rules! object_contract {
    ($open:ident) => {
        mod object {
            $crate::__object_get!($open);
            $crate::__object_link!($open);
            $crate::__object_list!($open);
            $crate::__object_name!($open);
            $crate::__object_put!($open);
            $crate::__object_robust!($open);
            $crate::__object_watch!($open);
        }
    };
}

pub(crate) mod steps;
