//! Every way to log in × every way to encrypt × every way to write it, through the settings, on
//! the oldest and the newest server: each logs in and does one round trip with the least
//! permissions, and may do no more; each with a wrong secret is refused with what to fix.

mod addresses;
mod realm;
mod trust;
mod writing;

use std::time::Duration;

use jetbridge::settings::Location;
use jetbridge_core::{BucketName, BucketSpec, ErrorKind, Key, Open, PutOpts, Read, Result};
use jetbridge_testkit::{NatsServer, Release, ServerOptions};

use realm::{BUCKET, Encryption, Login, Realm};

/// Longest that closing a connection of these tests takes.
const GRACE: Duration = Duration::from_secs(5);

/// Logs in, writes a value and reads it.
async fn round_trip(location: &Location) -> Result<()> {
    let store = jetbridge::connect(location).await?;
    let bucket = BucketName::parse(BUCKET)?;
    let kv = store.kv(&bucket, Open::ensure(BucketSpec::default())).await?;
    let key = Key::parse("key")?;
    let written = kv.put(&key, "value".into(), PutOpts::new()).await?;
    let entry = kv.get(&key, Read::Fresh).await?.expect("it was just written");
    assert_eq!((&*entry.value, entry.revision), (&b"value"[..], written.revision));
    drop(kv);
    assert!(store.close(GRACE).await.is_clean(), "{store} leaves something behind");
    Ok(())
}

/// The permissions are those of the round trip alone.
async fn may_do_no_more(location: &Location) {
    let store = jetbridge::connect(location).await.unwrap();
    let other = BucketName::parse("other").unwrap();
    // Who may not ask about a bucket is taken at its word that it is there.
    let refused = match store.kv(&other, Open::ensure(BucketSpec::default())).await {
        Ok(kv) => kv.put(&Key::parse("key").unwrap(), "value".into(), PutOpts::new()).await,
        Err(refused) => Err(refused),
    };
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused:?}");
    assert!(store.close(GRACE).await.is_clean());
}

async fn every_writing_logs_in(release: Release, login: Login, encryption: Encryption) {
    let realm = Realm::new(login, encryption);
    let options = ServerOptions::new().config(&realm.server_config());
    let server = NatsServer::start(release, options).await;
    let address = realm.address(&server);
    for writing in realm.right(&address) {
        let location = writing.location();
        if let Err(error) = round_trip(&location).await {
            panic!("{writing:?} does not log in: {error:?}\n{}", server.log());
        }
    }
    if login != Login::Token {
        may_do_no_more(&realm.right(&address)[0].location()).await;
    }
    for writing in realm.wrong(&address) {
        let location = writing.location();
        let error = round_trip(&location).await.expect_err("a wrong secret");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{writing:?}: {error:?}");
        let hint = error.hint_text().unwrap_or_default();
        assert!(hint.contains(login.to_fix()), "{writing:?}: {error:?}");
        let shown = format!("{location} {location:?} {error} {error:?}");
        for secret in realm.secrets() {
            assert!(!shown.contains(secret), "{writing:?} shows a secret: {shown}");
        }
    }
}

macro_rules! matrix {
    ($release:expr; $($encryption:ident)*) => {
        matrix! { @login $release; token Token; $($encryption)* }
        matrix! { @login $release; user_password UserPassword; $($encryption)* }
        matrix! { @login $release; nkey Nkey; $($encryption)* }
        matrix! { @login $release; jwt Jwt; $($encryption)* }
    };
    (@login $release:expr; $module:ident $login:ident; $($encryption:ident)*) => {
        mod $module {
            use super::super::{Encryption, Login, Release, every_writing_logs_in};

            $(
                #[tokio::test]
                async fn $encryption() {
                    let encryption = Encryption::named(stringify!($encryption));
                    every_writing_logs_in($release, Login::$login, encryption).await;
                }
            )*
        }
    };
}

mod nats_2_9_25 {
    matrix! { Release::Oldest; plain ca_file ca_text several_cas client_certificate }
}

mod nats_2_15_2 {
    matrix! { Release::Newest; plain ca_file ca_text several_cas client_certificate handshake_first }
}
