//! Objects come in whole, or not at all.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _};
use jetbridge_core::{
    DeleteOpts, Digest, Error, ErrorKind, Expect, Headers, ObjectPut, Revision, Scope,
};

use super::steps::{
    CHUNK, chunked, collect, fetch, held, listed, name, pattern, pieces, same, store, whole,
};
use crate::contract::steps::{kind, patience, set};
use crate::eventually;

/// More than any object's description and headers take, less than the smallest body below.
const OVERHEAD: u64 = 16 << 10;

cases! { $ __object_put = object::put;
    /// Bodies around the size of a chunk, empty ones and large ones come back as they went in.
    async fn bodies_of_every_size_come_back(f) {
        let objects = f.objects().await;
        let chunk = CHUNK as usize;
        for size in [0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 3 << 20] {
            let data = pattern(size, size as u64);
            let info = store(&objects, "a", &data).await;
            assert_eq!((info.size, info.digest), (size as u64, Some(Digest::of(&data))));
            assert_eq!((info.name, info.link), (name("a"), None));
            same(&fetch(&objects, "a").await.unwrap(), &data);
        }
    }

    /// Without a word about chunks the backend chooses, and the body comes back all the same.
    async fn the_backend_chooses_its_chunks(f) {
        let objects = f.objects().await;
        let data = pattern((1 << 20) + 17, 1);
        let info = objects.put(&name("a"), whole(&data), ObjectPut::new()).await.unwrap();
        assert_eq!((info.size, info.digest), (data.len() as u64, Some(Digest::of(&data))));
        same(&fetch(&objects, "a").await.unwrap(), &data);
    }

    /// How a body is cut on its way in makes no difference to what is stored.
    async fn irregular_pieces_are_stored_as_one(f) {
        let objects = f.objects().await;
        let data = pattern(400_000, 5);
        let smooth = store(&objects, "smooth", &data).await;
        let mut rest = data.clone();
        let mut cut = Vec::new();
        for size in [0, 1, 1448, 0, 7, 100_000, 65_536, 3].into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            cut.push(rest.split_to(size.min(rest.len())));
        }
        cut.push(Bytes::new());
        let rough = objects.put(&name("rough"), pieces(cut), chunked()).await.unwrap();
        assert_eq!((rough.size, rough.digest), (smooth.size, smooth.digest));
        assert_eq!(rough.chunks, smooth.chunks, "pieces are no chunks");
        same(&fetch(&objects, "rough").await.unwrap(), &data);
    }

    /// What a put returns is what is known of the object from then on, on every connection.
    async fn put_returns_what_is_known(f) {
        let ours = f.objects().await;
        let theirs = f.peer_objects(&ours).await;
        let headers = Headers::new().with("X-Unicode", "grün").unwrap();
        let opts = chunked().headers(headers.clone()).description("a text for people: ü");
        let put = ours.put(&name("a"), whole(&pattern(1000, 1)), opts).await.unwrap();
        let mut info = theirs.info(&name("a")).await.unwrap().unwrap();
        assert!(put.revision > Revision(0));
        assert_eq!(info.headers, headers);
        assert_eq!(info.description.as_deref(), Some("a text for people: ü"));
        let now = f.backend.now().await.unwrap();
        let age = now.now.duration_since(info.modified).unwrap_or_default();
        assert!(age < Duration::from_secs(60) + now.error, "{info:?} at {now:?}");
        // A store may tell the exact time only when it is asked again.
        info.modified = put.modified;
        assert_eq!(info, put);
    }

    /// An object that is not there is no error.
    async fn absent_object_is_none(f) {
        let objects = f.objects().await;
        assert!(objects.get(&name("a"), None).await.unwrap().is_none());
        assert!(objects.get(&name("a"), Some(0..10)).await.unwrap().is_none());
        assert_eq!(objects.info(&name("a")).await.unwrap(), None);
        assert_eq!(objects.delete(&name("a"), DeleteOpts::new()).await.unwrap(), None);
    }

    /// When the body fails, so does the put, with the body's error; nothing is left behind.
    async fn a_failing_body_leaves_nothing(f) {
        let objects = f.objects().await;
        let before = held(f, &objects).await;
        let failing = || {
            let good = (0..5).map(|at| Ok(pattern(100_000, at)));
            let bad = Err(Error::new(ErrorKind::Corrupt, "test.body").because("as intended"));
            stream::iter(good.chain([bad])).boxed()
        };
        let refused = objects.put(&name("new"), failing(), chunked()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused:?}");
        assert_eq!(objects.info(&name("new")).await.unwrap(), None);
        assert_eq!(listed(&objects, Scope::All).await, set(&[]));
        eventually("the chunks are cleared away", patience(), async || {
            (held(f, &objects).await <= before).then_some(())
        })
        .await;
        let data = pattern(200_000, 9);
        let old = store(&objects, "old", &data).await;
        let before = held(f, &objects).await;
        let refused = objects.put(&name("old"), failing(), chunked()).await;
        assert_eq!(kind(refused), ErrorKind::Corrupt);
        assert_eq!(objects.info(&name("old")).await.unwrap().unwrap().revision, old.revision);
        same(&fetch(&objects, "old").await.unwrap(), &data);
        eventually("the chunks are cleared away", patience(), async || {
            (held(f, &objects).await <= before).then_some(())
        })
        .await;
    }

    /// A put that is given up leaves nothing behind.
    async fn an_abandoned_put_leaves_nothing(f) {
        let objects = f.objects().await;
        let before = held(f, &objects).await;
        for sent in [0_u64, 1, 8] {
            let (reached, at_the_end) = tokio::sync::oneshot::channel();
            let good = (0..sent).map(|at| Ok(pattern(100_000, at)));
            let stuck = stream::once(async move {
                reached.send(()).unwrap();
                std::future::pending().await
            });
            let target = name("a");
            let body = stream::iter(good).chain(stuck).boxed();
            let put = objects.put(&target, body, chunked());
            tokio::select! {
                biased;
                done = put => panic!("a body without an end was stored: {done:?}"),
                got = at_the_end => got.unwrap(),
            }
        }
        eventually("the chunks are cleared away", patience(), async || {
            (held(f, &objects).await <= before).then_some(())
        })
        .await;
        assert_eq!(objects.info(&name("a")).await.unwrap(), None);
        assert_eq!(listed(&objects, Scope::All).await, set(&[]));
        store(&objects, "a", &pattern(1000, 1)).await;
    }

    /// Creating over an object is a conflict that carries its revision and leaves nothing.
    async fn create_is_refused_over_an_object(f) {
        let objects = f.objects().await;
        let create = || chunked().expect(Expect::Absent);
        let data = pattern(200_000, 1);
        let first = objects.put(&name("a"), whole(&data), create()).await.unwrap();
        let before = held(f, &objects).await;
        let lost = objects.put(&name("a"), whole(&pattern(300_000, 2)), create()).await;
        let lost = lost.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Conflict, "{lost:?}");
        assert_eq!(lost.present_revision(), Some(first.revision), "{lost:?}");
        same(&fetch(&objects, "a").await.unwrap(), &data);
        eventually("the chunks are cleared away", patience(), async || {
            (held(f, &objects).await <= before).then_some(())
        })
        .await;
        objects.delete(&name("a"), DeleteOpts::new()).await.unwrap().unwrap();
        objects.put(&name("a"), whole(&data), create()).await.unwrap();
    }

    /// A put over a revision succeeds over that one only.
    async fn stale_revision_conflicts(f) {
        let objects = f.objects().await;
        let over = |revision| chunked().expect(Expect::Exactly(revision));
        let seen = store(&objects, "a", &pattern(10, 1)).await.revision;
        let won = objects.put(&name("a"), whole(&pattern(20, 2)), over(seen)).await.unwrap();
        let lost = objects.put(&name("a"), whole(&pattern(30, 3)), over(seen)).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Conflict, "{lost:?}");
        assert_eq!(lost.present_revision(), Some(won.revision), "{lost:?}");
        same(&fetch(&objects, "a").await.unwrap(), &pattern(20, 2));
        let absent = objects.put(&name("b"), whole(&pattern(1, 1)), over(seen)).await;
        assert_eq!(kind(absent), ErrorKind::Conflict);
    }

    /// Of several who create at once, exactly one succeeds, and only its bytes stay.
    async fn one_creation_wins(f) {
        let ours = f.objects().await;
        let theirs = f.peer_objects(&ours).await;
        let data: Vec<Bytes> = (0..4).map(|seed| pattern(200_000, seed)).collect();
        let target = name("a");
        let puts = data.iter().enumerate().map(|(at, data)| {
            let objects = if at % 2 == 0 { &ours } else { &theirs };
            objects.put(&target, whole(data), chunked().expect(Expect::Absent))
        });
        let outcomes = join_all(puts).await;
        let won: Vec<usize> = (0..4).filter(|at| outcomes[*at].is_ok()).collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        for lost in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(lost.kind(), ErrorKind::Conflict, "{lost:?}");
        }
        same(&fetch(&ours, "a").await.unwrap(), &data[won[0]]);
        eventually("the losers' chunks are cleared away", patience(), async || {
            (held(f, &ours).await < 200_000 + OVERHEAD).then_some(())
        })
        .await;
    }

    /// Several who write the same name at once leave one object, whole.
    async fn concurrent_puts_leave_a_whole_object(f) {
        let ours = f.objects().await;
        let theirs = f.peer_objects(&ours).await;
        let data: Vec<Bytes> = (0..4).map(|seed| pattern(200_000, seed)).collect();
        let target = name("a");
        let puts = data.iter().enumerate().map(|(at, data)| {
            let objects = if at % 2 == 0 { &ours } else { &theirs };
            objects.put(&target, whole(data), chunked())
        });
        for outcome in join_all(puts).await {
            outcome.unwrap();
        }
        let left = fetch(&ours, "a").await.unwrap();
        assert!(data.iter().any(|data| **data == left), "a mixture of several");
        eventually("the chunks of the others are cleared away", patience(), async || {
            (held(f, &ours).await < 200_000 + OVERHEAD).then_some(())
        })
        .await;
    }

    /// Overwriting frees what was there.
    async fn overwriting_frees_the_old_chunks(f) {
        let objects = f.objects().await;
        store(&objects, "a", &pattern(1 << 20, 1)).await;
        store(&objects, "a", &pattern(10, 2)).await;
        same(&fetch(&objects, "a").await.unwrap(), &pattern(10, 2));
        eventually("the old chunks are cleared away", patience(), async || {
            (held(f, &objects).await < OVERHEAD).then_some(())
        })
        .await;
    }

    /// Many small objects at once.
    async fn many_small_objects_are_stored_at_once(f) {
        let objects = f.objects().await;
        let puts = (0..60_u64).map(|at| {
            let objects = &objects;
            async move { store(objects, &format!("o{at:02}"), &pattern(500, at)).await }
        });
        assert_eq!(join_all(puts).await.len(), 60);
        assert_eq!(listed(&objects, Scope::All).await.len(), 60);
        for at in [0, 17, 59] {
            same(&fetch(&objects, &format!("o{at:02}")).await.unwrap(), &pattern(500, at));
        }
    }

    /// A size of chunks that makes no sense is refused or made sense of; nothing breaks.
    async fn absurd_chunks_do_no_harm(f) {
        let objects = f.objects().await;
        let data = pattern(3000, 1);
        for chunk in [0, 1, u32::MAX] {
            let opts = ObjectPut::new().chunk_bytes(chunk);
            match objects.put(&name("a"), whole(&data), opts).await {
                Ok(_) => assert_eq!(fetch(&objects, "a").await.unwrap(), data, "{chunk}"),
                Err(refused) => {
                    let expected = [ErrorKind::InvalidInput, ErrorKind::LimitExceeded];
                    assert!(expected.contains(&refused.kind()), "{chunk}: {refused:?}");
                }
            }
        }
        store(&objects, "a", &data).await;
    }

    /// A bucket that is full refuses, and keeps nothing of what it refused.
    async fn a_full_bucket_refuses(f) {
        let mut spec = f.spec();
        spec.max_bytes = Some(1 << 20);
        let objects = f.objects_with(spec).await;
        let data = pattern(400_000, 1);
        store(&objects, "a", &data).await;
        let before = held(f, &objects).await;
        let over = objects.put(&name("b"), whole(&pattern(900_000, 2)), chunked()).await;
        assert_eq!(kind(over), ErrorKind::LimitExceeded);
        assert_eq!(objects.info(&name("b")).await.unwrap(), None);
        eventually("the chunks are cleared away", patience(), async || {
            (held(f, &objects).await <= before).then_some(())
        })
        .await;
        same(&fetch(&objects, "a").await.unwrap(), &data);
        store(&objects, "b", &data).await;
    }

    /// Objects of a bucket with an age limit go when they reach it.
    async fn buckets_expire_their_objects(f) {
        let mut spec = f.spec();
        spec.max_age = Some(Duration::from_millis(1500));
        let objects = f.objects_with(spec).await;
        store(&objects, "a", &pattern(100_000, 1)).await;
        eventually("the object expires", patience(), async || {
            objects.info(&name("a")).await.unwrap().is_none().then_some(())
        })
        .await;
        assert!(objects.get(&name("a"), None).await.unwrap().is_none());
        // Each copy of a stream removes what is too old in its own time, and any may list it.
        eventually("it is listed no more", patience(), async || {
            listed(&objects, Scope::All).await.is_empty().then_some(())
        })
        .await;
        eventually("its bytes go", patience(), async || {
            (held(f, &objects).await == 0).then_some(())
        })
        .await;
    }

    /// An object put through one connection is read through the other at once.
    async fn the_peer_reads_what_was_acknowledged(f) {
        let ours = f.objects().await;
        let theirs = f.peer_objects(&ours).await;
        for round in 0..10_u64 {
            let (writer, reader) = if round % 2 == 0 { (&ours, &theirs) } else { (&theirs, &ours) };
            let data = pattern(80_000, round);
            store(writer, "a", &data).await;
            let object = reader.get(&name("a"), None).await.unwrap().unwrap();
            assert_eq!(object.info.digest, Some(Digest::of(&data)));
            same(&collect(object.body).await.unwrap(), &data);
        }
    }
}
