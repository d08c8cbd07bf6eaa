//! Reading objects: whole, in part, and while they change.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use jetbridge_core::{DeleteOpts, ErrorKind, Objects};

use super::steps::{CHUNK, collect, fetch, fetch_range, name, pattern, same, store};
use crate::contract::steps::{kind, within};

/// Longer than what any backend reads ahead by default.
const LONG: usize = 24 << 20;

cases! { $ __object_get = object::get;
    /// A range is exactly those bytes, wherever it lies among the chunks.
    async fn ranges_are_exact(f) {
        let objects = f.objects().await;
        let data = pattern(300_000, 1);
        store(&objects, "a", &data).await;
        let chunk = u64::from(CHUNK);
        let size = data.len() as u64;
        for range in [
            0..1,
            0..10,
            0..size,
            1..size - 1,
            chunk - 1..chunk + 1,
            chunk..2 * chunk,
            chunk - 5..3 * chunk + 5,
            size - 1..size,
            100..100,
        ] {
            let bounds = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let read = fetch_range(&objects, "a", range.clone()).await.unwrap();
            assert!(read == data[bounds], "{range:?}: {} bytes", read.len());
        }
    }

    /// A range beyond the end, or backwards, is refused.
    async fn ranges_beyond_the_end_are_invalid(f) {
        let objects = f.objects().await;
        store(&objects, "a", &pattern(1000, 1)).await;
        store(&objects, "empty", &pattern(0, 1)).await;
        #[expect(clippy::reversed_empty_ranges, reason = "what the case is about")]
        let wrong = [0..1001, 999..1001, 1001..1002, 5000..6000, 0..u64::MAX, 10..5];
        for range in wrong {
            let read = fetch_range(&objects, "a", range.clone()).await;
            assert_eq!(kind(read), ErrorKind::InvalidInput, "{range:?}");
        }
        assert_eq!(kind(fetch_range(&objects, "empty", 0..1).await), ErrorKind::InvalidInput);
        assert_eq!(fetch(&objects, "a").await.unwrap().len(), 1000);
    }

    /// With a range too, what is known of the object is told of the whole.
    async fn a_range_comes_with_the_whole_description(f) {
        let objects = f.objects().await;
        let info = store(&objects, "a", &pattern(200_000, 1)).await;
        let object = objects.get(&name("a"), Some(5..10)).await.unwrap().unwrap();
        assert_eq!(object.info.size, info.size);
        assert_eq!(object.info.digest, info.digest);
        assert_eq!(object.info.revision, info.revision);
    }

    /// Several read the same object at once, whole and in part.
    async fn readers_do_not_disturb_each_other(f) {
        let objects = f.objects().await;
        let data = pattern(1 << 20, 1);
        store(&objects, "a", &data).await;
        let readers = (0..6_u64).map(|at| {
            let (objects, data) = (&objects, &data);
            async move {
                if at % 2 == 0 {
                    same(&fetch(objects, "a").await.unwrap(), data);
                } else {
                    let read = fetch_range(objects, "a", 1000..200_000).await.unwrap();
                    same(&read, &data[1000..200_000]);
                }
            }
        });
        assert_eq!(join_all(readers).await.len(), 6);
    }

    /// A body that is dropped in the middle leaves everything usable.
    async fn abandoned_bodies_block_nobody(f) {
        let objects = f.objects().await;
        let data = pattern(1 << 20, 1);
        store(&objects, "a", &data).await;
        for taken in 0..5 {
            let mut body = objects.get(&name("a"), None).await.unwrap().unwrap().body;
            for _ in 0..taken {
                if let Some(piece) = within("a piece", body.next()).await {
                    piece.unwrap();
                }
            }
        }
        same(&fetch(&objects, "a").await.unwrap(), &data);
        objects.delete(&name("a"), DeleteOpts::new()).await.unwrap().unwrap();
    }

    /// An object that is deleted while it is read ends with a conflict; at most it was on its way
    /// already, whole and right.
    async fn a_deletion_in_mid_read_conflicts(f) {
        let objects = f.objects().await;
        let data = pattern(LONG, 1);
        store(&objects, "a", &data).await;
        let theirs = f.peer_objects(&objects).await;
        let end = read_while(&objects, async || {
            theirs.delete(&name("a"), DeleteOpts::new()).await.unwrap().unwrap();
        })
        .await;
        check_end(end, &data);
        assert!(objects.get(&name("a"), None).await.unwrap().is_none());
    }

    /// So does one that is replaced; what was read before is never followed by the bytes of
    /// another object.
    async fn a_replacement_in_mid_read_conflicts(f) {
        let objects = f.objects().await;
        let data = pattern(LONG, 1);
        store(&objects, "a", &data).await;
        let theirs = f.peer_objects(&objects).await;
        let replacement = pattern(LONG, 2);
        let end = read_while(&objects, async || {
            store(&theirs, "a", &replacement).await;
        })
        .await;
        check_end(end, &data);
        same(&fetch(&objects, "a").await.unwrap(), &replacement);
    }
}

/// Reads `a`: the first piece, then everything after `meanwhile` has happened.
async fn read_while(
    objects: &Arc<dyn Objects>,
    meanwhile: impl AsyncFnOnce(),
) -> Result<Vec<u8>, ErrorKind> {
    let mut body = objects.get(&name("a"), None).await.unwrap().unwrap().body;
    let mut read = within("the first piece", body.next()).await.unwrap().unwrap().to_vec();
    meanwhile().await;
    let rest = collect(body).await.map_err(|error| error.kind())?;
    read.extend_from_slice(&rest);
    Ok(read)
}

fn check_end(end: Result<Vec<u8>, ErrorKind>, data: &[u8]) {
    match end {
        Ok(read) => assert!(read == data, "{} bytes that are not the object's", read.len()),
        Err(kind) => assert_eq!(kind, ErrorKind::Conflict),
    }
}
