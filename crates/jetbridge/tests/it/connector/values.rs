//! Values and buckets beyond the ten facts.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt};
use jetbridge::ErrorKind;
use jetbridge::codec::{Cbor, MessagePack, Raw};
use jetbridge::connector::Connector;
use jetbridge::core::{BucketKind, BucketName, Key, Open, PutOpts, Read, Storage};
use jetbridge::typed::TypedChange;
use jetbridge_testkit::{Fault, Faults, eventually};

use super::place::{User, ada};
use super::{SOON, cases};

const HOUR: Duration = Duration::from_secs(3600);

cases! {
    $ values = values;

    /// Programs with different codecs share a bucket, and evo's bare JSON is read as well.
    async fn mixed_fleets_share_a_bucket(place) {
        let json = place.connector().await;
        let pack = place.build(Connector::builder().codec(MessagePack)).await;
        let cbor = place.build(Connector::builder().codec(Cbor)).await;
        let fleet = [&json, &pack, &cbor];
        for writer in fleet {
            writer.kv().set("u", &ada()).await.unwrap();
            for reader in fleet {
                assert_eq!(reader.kv().get("u").await.unwrap(), Some(ada()));
            }
            writer.kv().set("n", &50).await.unwrap();
            for reader in fleet {
                let before = reader.kv().get::<i64>("n").await.unwrap().unwrap();
                assert_eq!(reader.kv().increment("n", 1).await.unwrap(), before + 1);
                assert_eq!(writer.kv().get("n").await.unwrap(), Some(before + 1));
            }
            writer.kv().delete("counted").await.unwrap();
            writer.kv().increment("counted", 7).await.unwrap();
            for reader in fleet {
                assert_eq!(reader.kv().get("counted").await.unwrap(), Some(7));
            }
        }
        json.kv().set_raw("evo", r#"{"name":"Ada","age":36}"#).await.unwrap();
        assert_eq!(json.kv().get("evo").await.unwrap(), Some(ada()));
        let error = json.kv().get::<User>("n").await.unwrap_err();
        assert_eq!((error.kind(), error.fact("key")), (ErrorKind::Corrupt, Some("n")));
    }

    /// The media type stands beside the value.
    async fn values_carry_their_content_type(place) {
        let raw = place.build(Connector::builder().codec(Raw)).await;
        raw.kv().set("raw", &"text").await.unwrap();
        raw.kv().set_raw("bare", "text").await.unwrap();
        assert_eq!(raw.kv().get_raw("raw").await.unwrap().unwrap(), "text");
        place.connector().await.kv().set("json", &"text").await.unwrap();
        let bucket = BucketName::parse("default").unwrap();
        let stored = raw.backend().kv(&bucket, Open::existing()).await.unwrap();
        for (key, content_type) in [
            ("raw", Some("application/octet-stream")),
            ("json", Some("application/json")),
            ("bare", None),
        ] {
            let key = Key::parse(key).unwrap();
            let entry = stored.get(&key, Read::Fresh).await.unwrap().unwrap();
            assert_eq!(entry.headers.get("Content-Type"), content_type, "{key}");
        }
    }

    /// The key prefix goes before every key, unless a call says otherwise.
    async fn key_prefixes_apply_and_can_be_bypassed(place) {
        let plain = place.connector().await;
        let shop = place.build(Connector::builder().key_prefix("shop:")).await;
        shop.kv().set("a", &1).await.unwrap();
        shop.kv().set("b", &2).ignore_prefix().await.unwrap();
        assert_eq!(plain.kv().get("shop:a").await.unwrap(), Some(1));
        assert_eq!(plain.kv().get("b").await.unwrap(), Some(2));
        assert_eq!(shop.kv().get::<i64>("b").await.unwrap(), None);
        assert_eq!(shop.kv().increment("b", 1).ignore_prefix().await.unwrap(), 3);
        assert!(shop.kv().delete("a").await.unwrap());
        assert_eq!(plain.kv().item_count().await.unwrap(), 1);
    }

    /// `if_absent` has one winner.
    async fn one_of_many_creates(place) {
        let (near, far) = (place.connector().await, place.connector().await);
        let create = |n: usize| {
            let connector: &Connector = if n.is_multiple_of(2) { &near } else { &far };
            connector.kv().set("leader", &n).ttl(HOUR).if_absent().into_future()
        };
        let won: Vec<bool> =
            join_all((0..32).map(create)).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let winner = won.iter().position(|won| *won).unwrap();
        assert_eq!(near.kv().get("leader").await.unwrap(), Some(winner));
    }

    /// `create_bucket` makes, then changes what can be changed, and keeps what is not mentioned.
    async fn create_bucket_creates_and_updates(place) {
        let connector = place.connector().await;
        let made = connector.create_bucket("sessions").max_age(24 * HOUR).history(3).await.unwrap();
        assert_eq!((made.spec.max_age, made.spec.history), (Some(24 * HOUR), 3));
        connector.kv().set("s", &1).bucket("sessions").await.unwrap();

        let updated = connector.create_bucket("sessions").history(5).await.unwrap();
        assert_eq!((updated.spec.max_age, updated.spec.history), (Some(24 * HOUR), 5));
        let same = connector.create_bucket("sessions").await.unwrap();
        assert_eq!(same.spec, updated.spec);
        assert_eq!(connector.kv().get("s").bucket("sessions").await.unwrap(), Some(1));

        let error = connector.create_bucket("sessions").history(65).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        // A store of this process has no storage to change; a server's cannot be changed.
        let moved = connector.create_bucket("sessions").storage(Storage::Memory).await;
        if place.has_server() {
            let error = moved.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
            assert!(error.to_string().contains("storage"), "names what cannot change: {error}");
        } else {
            moved.unwrap();
        }
        let error = connector.create_bucket("no.name").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    /// A bucket of its own TTL lets values expire.
    async fn a_bucket_s_age_expires_values(place) {
        let connector = place.connector().await;
        connector.create_bucket("brief").max_age(Duration::from_millis(300)).await.unwrap();
        connector.kv().set("k", &1).bucket("brief").await.unwrap();
        eventually("it has expired", SOON, async || {
            let value = connector.kv().get::<i64>("k").bucket("brief").await.unwrap();
            value.is_none().then_some(())
        })
        .await;
    }

    /// A bucket that somebody deletes is made again by the next call.
    async fn a_deleted_bucket_is_made_again(place) {
        let (near, far) = (place.connector().await, place.connector().await);
        near.kv().set("k", &1).bucket("b").await.unwrap();
        let bucket = BucketName::parse("b").unwrap();
        assert!(far.backend().delete_bucket(BucketKind::Kv, &bucket).await.unwrap());
        assert_eq!(near.kv().get::<i64>("k").bucket("b").await.unwrap(), None);
        near.kv().set("k", &2).bucket("b").await.unwrap();
        assert!(far.backend().delete_bucket(BucketKind::Kv, &bucket).await.unwrap());
        assert_eq!(near.kv().increment("n", 1).bucket("b").await.unwrap(), 1);
        assert!(far.backend().delete_bucket(BucketKind::Kv, &bucket).await.unwrap());
        assert_eq!(near.kv().item_count().bucket("b").await.unwrap(), 0);
        assert!(far.backend().bucket(BucketKind::Kv, &bucket).await.is_ok());
    }

    /// A value that cannot be written or read is an error, and writes nothing.
    async fn what_does_not_fit_is_an_error(place) {
        let raw = place.build(Connector::builder().codec(Raw)).await;
        let error = raw.kv().set("k", &ada()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(raw.kv().get_raw("k").await.unwrap(), None);
        let error = raw.kv().set("k", &1).bucket("no.name").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = raw.kv().set("k".repeat(1025), &1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        raw.kv().set_raw("k", vec![0_u8; 100]).await.unwrap();
        let huge = vec![0_u8; usize::try_from(raw.backend().capabilities().value_bytes_max + 1).unwrap()];
        let error = raw.kv().set_raw("k", huge).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert_eq!(raw.kv().get_raw("k").await.unwrap().unwrap().len(), 100);
    }

    /// A bucket that is slow to open delays the calls to that bucket only.
    async fn a_slow_bucket_delays_nobody_else(place) {
        let faults = Faults::script([(0, Fault::Delay(HOUR))]).only(&["bucket.open"]);
        let connector = Connector::new(faults.around(place.backend().await));
        let mut slow = std::pin::pin!(connector.kv().set("k", &1).bucket("slow").into_future());
        assert!(futures_util::poll!(&mut slow).is_pending());
        assert_eq!(faults.seen(), 1, "it is being opened");
        let quick = connector.kv().set("k", &1).bucket("quick").into_future();
        tokio::time::timeout(SOON, quick).await.expect("not behind the slow one").unwrap();
        assert_eq!(connector.kv().get("k").bucket("quick").await.unwrap(), Some(1));
        assert!(futures_util::poll!(&mut slow).is_pending());
    }

    /// An error is an error: no connection is neither `None` nor `false`.
    async fn no_answer_is_no_absence(place) {
        let lost = |n| (n, Fault::BeforeApply);
        let faults = Faults::script((0..4).map(lost)).only(&["kv.get", "kv.put", "kv.delete"]);
        let connector = Connector::new(faults.around(place.backend().await));
        let kv = connector.kv();
        let kinds = [
            kv.get::<i64>("k").await.unwrap_err().kind(),
            kv.set("k", &1).await.unwrap_err().kind(),
            kv.replace("k", &1).await.unwrap_err().kind(),
            kv.delete("k").await.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Unavailable; 4]);
        assert_eq!(kv.get::<i64>("k").await.unwrap(), None);
    }

    /// Values of one type: conditions, listings and watching, behind the key prefix.
    async fn typed_handles_compare_list_and_watch(place) {
        let connector = place.build(Connector::builder().key_prefix("app:").codec(Cbor)).await;
        let users = connector.kv().typed::<User>().bucket("users").await.unwrap();
        let written = users.put("u:1", &ada()).await.unwrap();
        let stale = users.put_with("u:1", &ada(), PutOpts::create()).await.unwrap_err();
        assert_eq!(stale.present_revision(), Some(written.revision));
        let entry = users.get("u:1").await.unwrap().unwrap();
        assert_eq!((entry.key.as_str(), &entry.value), ("u:1", &ada()));
        assert_eq!((entry.revision, entry.expires), (written.revision, None));

        let older = |user: Option<User>| user.map(|user| User { age: user.age + 1, ..user });
        let many = join_all((0..10).map(|_| users.update("u:1", older))).await;
        let ages: BTreeSet<u8> =
            many.into_iter().map(|user| user.unwrap().unwrap().age).collect();
        assert_eq!(ages, (37..=46).collect(), "no update is lost");
        assert_eq!(users.update("u:2", older).await.unwrap(), None);
        let keys: Vec<String> = users.keys("u:").try_collect().await.unwrap();
        assert_eq!(keys, ["u:1"]);

        let mut changes = users.watch("u:");
        let mut next = async || {
            tokio::time::timeout(SOON, changes.next()).await.expect("a change").unwrap()
        };
        let TypedChange::Put(entry) = next().await.unwrap() else { panic!("the present value") };
        assert_eq!((entry.key.as_str(), entry.value.age), ("u:1", 46));
        assert_eq!(next().await.unwrap(), TypedChange::CaughtUp);
        connector.kv().set("u:3", &"no user").bucket("users").await.unwrap();
        let error = next().await.unwrap_err();
        assert_eq!((error.kind(), error.fact("key")), (ErrorKind::Corrupt, Some("app:u:3")));
        assert!(users.delete("u:1").await.unwrap());
        let TypedChange::Delete { key, .. } = next().await.unwrap() else { panic!("the deletion") };
        assert_eq!(key, "u:1");
    }
}
