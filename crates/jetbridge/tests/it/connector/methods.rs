//! The seven methods that evo's page calls impossible.
#![expect(clippy::disallowed_methods, reason = "a test compares with the wall clock")]

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use jetbridge::ErrorKind;
use jetbridge::connector::{Connector, Expiring, Expiry};
use jetbridge_testkit::eventually;

use super::place::{User, ada};
use super::{SOON, cases};

const HOUR: Duration = Duration::from_secs(3600);

/// The times of this machine and of the store differ by no more than this.
const SLACK: Duration = Duration::from_secs(10);

#[track_caller]
fn assert_about(expires: Option<SystemTime>, expected: SystemTime) {
    let expires = expires.expect("an expiry");
    assert!(expires > expected - SLACK && expires < expected + SLACK, "{expires:?}");
}

cases! {
    $ seven_methods = methods;

    /// Expire.
    async fn expire(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        kv.set("k", &ada()).await.unwrap();
        assert!(kv.expire("k", HOUR).await.unwrap());
        let read = kv.get_with_expiration::<User>("k").await.unwrap();
        let Expiring { value, expires } = read.unwrap();
        assert_eq!(value, ada(), "the value stays as it is");
        assert_about(expires, SystemTime::now() + HOUR);

        assert!(kv.expire("k", SystemTime::now() + 2 * HOUR).await.unwrap());
        let expires = kv.get_raw_with_expiration("k").await.unwrap().unwrap().expires;
        assert_about(expires, SystemTime::now() + 2 * HOUR);

        assert!(kv.expire("k", Expiry::Never).await.unwrap());
        assert_eq!(kv.get_raw_with_expiration("k").await.unwrap().unwrap().expires, None);

        assert!(kv.expire("k", Duration::from_millis(250)).await.unwrap());
        eventually("it expires", SOON, async || {
            kv.get::<User>("k").await.unwrap().is_none().then_some(())
        })
        .await;
        assert!(!kv.expire("k", HOUR).await.unwrap(), "what is gone cannot expire");

        kv.set("k", &ada()).await.unwrap();
        assert!(kv.expire("k", SystemTime::now() - HOUR).await.unwrap());
        assert_eq!(kv.get::<User>("k").await.unwrap(), None, "the past deletes");
    }

    /// GetWithExpiration.
    async fn get_with_expiration(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        assert_eq!(kv.get_with_expiration::<User>("k").await.unwrap(), None);
        kv.set("k", &ada()).await.unwrap();
        let stays = kv.get_with_expiration("k").await.unwrap();
        assert_eq!(stays, Some(Expiring { value: ada(), expires: None }));
        kv.set("k", &ada()).ttl(HOUR).await.unwrap();
        let read = kv.get_with_expiration::<User>("k").await.unwrap().unwrap();
        assert_eq!(read.value, ada());
        assert_about(read.expires, SystemTime::now() + HOUR);
    }

    /// GetRawWithExpiration.
    async fn get_raw_with_expiration(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        assert_eq!(kv.get_raw_with_expiration("k").await.unwrap(), None);
        kv.set_raw("k", "\0bytes").ttl(HOUR).bucket("raw").await.unwrap();
        let read = kv.get_raw_with_expiration("k").bucket("raw").await.unwrap().unwrap();
        assert_eq!(read.value, "\0bytes");
        assert_about(read.expires, SystemTime::now() + HOUR);
    }

    /// Increment: exact among many, in several processes.
    async fn increment(place) {
        let (near, far) = (place.connector().await, place.connector().await);
        let increment = |n: usize| {
            let connector: &Connector = if n.is_multiple_of(2) { &near } else { &far };
            connector.kv().increment("hits", 2).into_future()
        };
        let mut sums: Vec<i64> =
            join_all((0..50).map(increment)).await.into_iter().map(Result::unwrap).collect();
        sums.sort_unstable();
        assert_eq!(sums, (1..=50).map(|n| 2 * n).collect::<Vec<_>>(), "no sum twice, none missing");
        assert_eq!(near.kv().get::<i64>("hits").await.unwrap(), Some(100));
        assert_eq!(near.kv().get_raw("hits").await.unwrap().unwrap(), "100");

        let kv = near.kv();
        kv.set("n", &41).ttl(HOUR).await.unwrap();
        assert_eq!(kv.increment("n", 1).await.unwrap(), 42, "what `set` wrote counts up");
        assert!(kv.get_with_expiration::<i64>("n").await.unwrap().unwrap().expires.is_some());
        kv.set("text", &"a").await.unwrap();
        let error = kv.increment("text", 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(kv.get("text").await.unwrap(), Some("a".to_owned()));
    }

    /// Decrement, and the variant that evo's interface has: not without a value.
    async fn decrement(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        assert_eq!(kv.decrement("n", 3).await.unwrap(), -3);
        assert_eq!(kv.decrement("n", -5).await.unwrap(), 2);
        assert_eq!(kv.decrement("n", 1).if_present().await.unwrap(), Some(1));
        assert_eq!(kv.decrement("absent", 1).if_present().await.unwrap(), None);
        assert_eq!(kv.get::<i64>("absent").await.unwrap(), None);
        for n in [i64::MIN, i64::MAX] {
            kv.set("edge", &-2).await.unwrap();
            let error = kv.decrement("edge", n).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::LimitExceeded);
            assert_eq!(kv.get("edge").await.unwrap(), Some(-2));
        }
        kv.set("text", &"a").await.unwrap();
        let error = kv.decrement("text", 1).if_present().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    /// ItemCount: live keys, neither deleted nor expired ones, under the prefix.
    async fn item_count(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        assert_eq!(kv.item_count().await.unwrap(), 0);
        for n in 0..20 {
            kv.set(format!("a:{n}"), &n).await.unwrap();
            kv.set(format!("b:{n}"), &n).await.unwrap();
        }
        kv.delete("a:0").await.unwrap();
        kv.delete("never").await.unwrap();
        kv.set("a:1", &1).ttl(Duration::from_millis(150)).await.unwrap();
        eventually("the expired one is not counted", SOON, async || {
            (kv.item_count().await.unwrap() == 38).then_some(())
        })
        .await;
        let prefixed = place.build(Connector::builder().key_prefix("a:")).await;
        assert_eq!(prefixed.kv().item_count().await.unwrap(), 18);
        assert_eq!(prefixed.kv().item_count().ignore_prefix().await.unwrap(), 38);
        assert_eq!(kv.item_count().bucket("other").await.unwrap(), 0);
    }

    /// Flush: everything, but nothing outside the prefix and the bucket.
    async fn flush(place) {
        let connector = place.connector().await;
        let kv = connector.kv();
        for key in ["a:1", "a:2", "b:1"] {
            kv.set(key, &1).await.unwrap();
            kv.set(key, &1).bucket("other").await.unwrap();
        }
        let prefixed = place.build(Connector::builder().key_prefix("a:")).await;
        assert!(prefixed.kv().flush().await.unwrap() >= 2);
        assert_eq!(kv.get::<i64>("a:1").await.unwrap(), None);
        assert_eq!(kv.get("b:1").await.unwrap(), Some(1));
        kv.flush().await.unwrap();
        assert_eq!(kv.item_count().await.unwrap(), 0);
        assert_eq!(kv.item_count().bucket("other").await.unwrap(), 3);
        assert_eq!(kv.increment("b:1", 1).await.unwrap(), 1, "a flushed counter starts anew");
    }
}
