//! The connector's tests: cases over a [`Place`], and the stores they run on.

pub(crate) mod durable;
pub(crate) mod ends;
pub(crate) mod facts;
pub(crate) mod messages;
pub(crate) mod methods;
pub(crate) mod place;
mod settings;
pub(crate) mod values;

use std::future::Future;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

pub(crate) use place::Place;

/// What must come true does so within this, on a loaded machine too.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A case that takes longer hangs.
const CASE_WITHIN: Duration = Duration::from_secs(120);

/// Defines cases *and* the macro that turns each into a test, so that none can be left out.
macro_rules! cases {
    ($d:tt $name:ident = $module:ident;
     $( $(#[$doc:meta])+ async fn $case:ident($place:ident) $body:block )+) => {
        $(
            $(#[$doc])+
            pub(crate) fn $case($place: &$crate::connector::Place) -> futures_util::future::LocalBoxFuture<'_, ()> {
                Box::pin(async move $body)
            }
        )+

        macro_rules! $name {
            ($d open:ident) => {
                $(
                    #[test]
                    fn $case() {
                        $crate::connector::run($d open(), $crate::connector::$module::$case);
                    }
                )+
            };
        }
        pub(crate) use $name;
    };
}
pub(crate) use cases;

/// Runs `case` on what `open` opens.
pub(crate) fn run(
    open: impl Future<Output = Place>,
    case: for<'a> fn(&'a Place) -> LocalBoxFuture<'a, ()>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let whole = Box::pin(async {
            let place = open.await;
            case(&place).await;
        });
        let ended = tokio::time::timeout(CASE_WITHIN, whole).await;
        assert!(ended.is_ok(), "the case hangs: not done within {CASE_WITHIN:?}");
    });
}
