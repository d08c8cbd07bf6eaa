//! Readers over several filters as one: a consumer with many filters where the server has them
//! and the user may, else a few readers side by side, else one over everything.

use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;

use jetbridge_core::Result;

use crate::api::Api;
use crate::probe::{Version, version};
use crate::reader::{Event, Follow, ReaderSpec, events};
use crate::request::may_not_ask;

/// Readers side by side. Each is a consumer, of which a stream may have 1000.
const SIDE_BY_SIDE_MAX: usize = 16;

/// Reads on and on what any of the filters lets through, and perhaps more: everything under
/// `stems`, whose subjects the caller then has to look at.
pub(crate) fn read_any(
    api: Api,
    spec: ReaderSpec,
    stems: Vec<String>,
) -> BoxStream<'static, Result<Event>> {
    if spec.filters.len() <= 1 {
        return events(api, spec, Follow::Yes);
    }
    if version(&api) < Version::V2_10 {
        return side_by_side(api, spec, stems);
    }
    let together = events(api.clone(), spec.clone(), Follow::Yes);
    let stream = futures_util::stream::unfold(Some(together), move |source| {
        let (api, spec, stems) = (api.clone(), spec.clone(), stems.clone());
        async move {
            let mut source = source?;
            let first = source.next().await?;
            match &first {
                // Many filters stand in no subject, so they may be denied where one is not.
                Err(error) if may_not_ask(error) => Some((side_by_side(api, spec, stems), None)),
                _ => {
                    let all = futures_util::stream::iter([first]).chain(source).boxed();
                    Some((all, None))
                }
            }
        }
    });
    stream.flatten().boxed()
}

fn side_by_side(
    api: Api,
    spec: ReaderSpec,
    stems: Vec<String>,
) -> BoxStream<'static, Result<Event>> {
    let filters = if spec.filters.len() <= SIDE_BY_SIDE_MAX {
        spec.filters.clone()
    } else {
        stems.into_iter().map(|stem| format!("{stem}>")).collect()
    };
    let mut left = filters.len();
    let readers = filters.into_iter().map(|filter| {
        let spec = ReaderSpec { filters: vec![filter], ..spec.clone() };
        events(api.clone(), spec, Follow::Yes)
    });
    let merged = select_all(readers.collect::<Vec<_>>());
    // Caught up are all of them when the last one is.
    merged
        .filter(move |item| {
            let mut keep = true;
            if matches!(item, Ok(Event::CaughtUp)) {
                left -= 1;
                keep = left == 0;
            }
            std::future::ready(keep)
        })
        .boxed()
}
