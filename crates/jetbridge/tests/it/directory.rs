//! A directory as a store, by its URL.

use std::time::Duration;

use jetbridge_core::{BucketName, BucketSpec, ErrorKind, Key, Open, PutOpts, Read};

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn what_was_written_is_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = BucketName::parse("config").unwrap();
    let (here, later) = (Key::parse("here").unwrap(), Key::parse("later").unwrap());
    for options in ["", "?sync=full", "?sync=normal"] {
        let url = format!("local:{}/data{options}", directory.path().display());
        let store = jetbridge::connect(url.as_str()).await.unwrap();
        let other = jetbridge::connect(url.as_str()).await.unwrap();
        let kv = store.kv(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
        kv.put(&here, options.into(), PutOpts::new()).await.unwrap();
        let seen = other.kv(&bucket, Open::existing()).await.unwrap();
        let entry = seen.get(&here, Read::Fresh).await.unwrap().unwrap();
        assert_eq!(entry.value, options);
        kv.put(&later, options.into(), PutOpts::new()).await.unwrap();
        drop((kv, seen));
        assert!(store.close(GRACE).await.is_clean() && other.close(GRACE).await.is_clean());

        let again = jetbridge::connect(url.as_str()).await.unwrap();
        let kv = again.kv(&bucket, Open::existing()).await.unwrap();
        let entry = kv.get(&later, Read::Fresh).await.unwrap().unwrap();
        assert_eq!(entry.value, options);
        drop(kv);
        assert!(again.close(GRACE).await.is_clean());
    }
}

#[tokio::test]
async fn a_file_is_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = jetbridge::connect(format!("local:{}", file.display())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
}
