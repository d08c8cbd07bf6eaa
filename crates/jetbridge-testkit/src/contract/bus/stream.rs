//! Streams are made, changed, described, emptied and deleted.

use std::time::Duration;

use jetbridge_core::{
    AppendOpts, BucketKind, ErrorKind, ReadStream, Retention, StreamName, StreamSpec,
};

use super::steps::{Corner, acknowledge, consume};
use crate::contract::steps::{kind, next, patience};
use crate::eventually;

cases! { $ __bus_stream = bus::stream;
    /// A stream is described as it was made, on every connection.
    async fn a_stream_is_described(f) {
        let corner = Corner::new(f);
        let mut spec = corner.spec();
        spec.max_messages = Some(1000);
        spec.max_messages_per_subject = Some(10);
        spec.description = Some("for people: ü".to_owned());
        let made = corner.ours.create_stream(&spec).await.unwrap();
        assert_eq!((made.messages, made.bytes, made.consumers), (0, 0, 0));
        let told = corner.theirs.stream(&spec.name).await.unwrap().spec;
        assert_eq!((&told.name, &told.subjects), (&spec.name, &spec.subjects));
        assert_eq!((told.max_messages, told.max_messages_per_subject), (Some(1000), Some(10)));
        assert_eq!((told.max_age, told.max_bytes, told.max_message_bytes), (None, None, None));
        assert_eq!((told.retention, told.description), (spec.retention, spec.description));
        let first = corner.append("a", "12345").await.sequence;
        let last = corner.append("a", "67890").await.sequence;
        let info = corner.theirs.stream(&spec.name).await.unwrap();
        assert_eq!((info.messages, info.first_sequence, info.last_sequence), (2, first, last));
        assert!(info.bytes >= 10, "{info:?}");
    }

    /// Making a stream again is fine if nothing differs, and refused if something does.
    async fn a_stream_is_made_once(f) {
        let corner = Corner::new(f);
        let spec = corner.spec();
        corner.ours.create_stream(&spec).await.unwrap();
        corner.append("a", "1").await;
        let again = corner.theirs.create_stream(&spec).await.unwrap();
        assert_eq!(again.messages, 1, "as it is");
        let mut other = spec.clone();
        other.max_messages = Some(7);
        let refused = corner.theirs.create_stream(&other).await;
        assert_eq!(kind(refused), ErrorKind::AlreadyExists);
        assert_eq!(corner.ours.stream(&spec.name).await.unwrap().spec.max_messages, None);
    }

    /// Who does not say how long ids are remembered takes a stream as it is; who does, does not.
    async fn a_window_that_is_not_said_is_no_difference(f) {
        let corner = Corner::new(f);
        let mut said = corner.spec();
        said.duplicate_window = Some(Duration::from_secs(60));
        corner.ours.create_stream(&said).await.unwrap();
        corner.theirs.create_stream(&corner.spec()).await.unwrap();
        said.duplicate_window = Some(Duration::from_secs(61));
        assert_eq!(kind(corner.theirs.create_stream(&said).await), ErrorKind::AlreadyExists);
    }

    /// No subject is kept by two streams.
    async fn overlapping_streams_are_refused(f) {
        let corner = Corner::new(f);
        corner.stream().await;
        let name = StreamName::parse(format!("{}-other", corner.spec().name)).unwrap();
        let overlap = StreamSpec::new(name.clone(), vec![corner.pattern("a.*")]);
        let refused = kind(corner.ours.create_stream(&overlap).await);
        assert!(matches!(refused, ErrorKind::AlreadyExists | ErrorKind::InvalidInput), "{refused:?}");
        assert_eq!(kind(corner.ours.stream(&name).await), ErrorKind::NotFound);
    }

    /// All streams are listed, those behind buckets are not.
    async fn streams_are_listed(f) {
        let (one, two) = (Corner::new(f), Corner::new(f));
        let expected = [one.stream().await, two.stream().await];
        let kv = f.kv().await;
        let objects = f.objects().await;
        let listed = one.theirs.streams().await.unwrap();
        let names: Vec<StreamName> = listed.into_iter().map(|info| info.spec.name).collect();
        assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
        for bucket in [kv.bucket(), objects.bucket()] {
            assert!(!names.iter().any(|name| name.as_str().contains(bucket.as_str())), "{names:?}");
        }
        assert!(f.backend.delete_bucket(BucketKind::Kv, kv.bucket()).await.unwrap());
    }

    /// What may be changed of a stream is changed, what may not is refused.
    async fn a_stream_is_changed(f) {
        let corner = Corner::new(f);
        let mut spec = corner.spec();
        corner.ours.create_stream(&spec).await.unwrap();
        corner.append_many("a", 5).await;
        spec.max_messages = Some(3);
        spec.subjects = vec![corner.pattern("a"), corner.pattern("c.>")];
        corner.ours.update_stream(&spec).await.unwrap();
        let info = corner.theirs.stream(&spec.name).await.unwrap();
        assert_eq!((info.spec.max_messages, info.messages), (Some(3), 3));
        // Any copy may be read, and each takes the change in its own time.
        eventually("the oldest are gone", patience(), async || {
            (corner.texts(&spec.name).await == ["2", "3", "4"]).then_some(())
        })
        .await;
        corner.append("c.d", "5").await;
        let beyond = corner.ours.append(corner.message("b", "6"), AppendOpts::new()).await;
        assert_eq!(kind(beyond), ErrorKind::NotFound);
        let mut queue = spec.clone();
        queue.retention = Retention::WorkQueue;
        assert_eq!(kind(corner.ours.update_stream(&queue).await), ErrorKind::InvalidInput);
        let mut absent = spec.clone();
        absent.name = StreamName::parse("absent").unwrap();
        absent.subjects = vec![corner.pattern("elsewhere")];
        assert_eq!(kind(corner.ours.update_stream(&absent).await), ErrorKind::NotFound);
    }

    /// A purge removes the messages it is told to and says how many; sequences go on.
    async fn a_purge_removes_and_counts(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append_many("a.1", 3).await;
        corner.append_many("a.2", 4).await;
        corner.append_many("b", 2).await;
        let last = corner.theirs.stream(&stream).await.unwrap().last_sequence;
        let some = corner.ours.purge_stream(&stream, Some(&corner.pattern("a.*"))).await.unwrap();
        assert_eq!(some, 7);
        assert_eq!(corner.texts(&stream).await, ["0", "1"]);
        assert_eq!(corner.ours.purge_stream(&stream, None).await.unwrap(), 2);
        assert_eq!(corner.ours.purge_stream(&stream, None).await.unwrap(), 0);
        assert!(corner.append("b", "next").await.sequence > last);
        assert_eq!(corner.texts(&stream).await, ["next"]);
    }

    /// A deleted stream is gone with what it held.
    async fn a_deleted_stream_is_gone(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        assert!(corner.theirs.delete_stream(&stream).await.unwrap());
        assert!(!corner.ours.delete_stream(&stream).await.unwrap());
        assert_eq!(kind(corner.ours.stream(&stream).await), ErrorKind::NotFound);
        let append = corner.ours.append(corner.message("a", "2"), AppendOpts::new()).await;
        assert_eq!(kind(append), ErrorKind::NotFound);
        corner.stream().await;
        assert_eq!(corner.texts(&stream).await, Vec::<String>::new());
    }

    /// A stream that was never made is not found, whatever is asked of it.
    async fn an_absent_stream_is_not_found(f) {
        let corner = Corner::new(f);
        let absent = corner.spec().name;
        assert_eq!(kind(corner.ours.stream(&absent).await), ErrorKind::NotFound);
        assert_eq!(kind(corner.ours.purge_stream(&absent, None).await), ErrorKind::NotFound);
        assert!(!corner.ours.delete_stream(&absent).await.unwrap());
        let mut read = corner.ours.read_stream(&absent, ReadStream::all());
        let first = futures_util::StreamExt::next(&mut read).await.expect("an error, not an end");
        assert_eq!(kind(first), ErrorKind::NotFound);
        assert_eq!(kind(corner.ours.consume(consume(&absent)).await), ErrorKind::NotFound);
    }

    /// The consumers of a stream are counted.
    async fn consumers_are_counted(f) {
        let corner = Corner::new(f);
        let stream = corner.stream().await;
        corner.append("a", "1").await;
        let mut consumer = corner.ours.consume(consume(&stream)).await.unwrap();
        assert_eq!(acknowledge(&mut consumer, 1).await, ["1"]);
        assert_eq!(corner.theirs.stream(&stream).await.unwrap().consumers, 1);
        let mut read = corner.ours.read_stream(&stream, ReadStream::all());
        assert_eq!(next(&mut read).await.sequence, 1);
    }
}
