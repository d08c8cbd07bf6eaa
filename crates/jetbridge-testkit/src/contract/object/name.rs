//! Names of objects: any text, and the same text everywhere.

use std::collections::BTreeSet;

use jetbridge_core::{DeleteOpts, ErrorKind, ObjectName, Scope, Start};

use super::steps::{Watching, fetch, listed, name, pattern, same, store};
use crate::contract::kv::name::HOSTILE;
use crate::contract::steps::{key, kind, set};

cases! { $ __object_name = object::name;
    /// Whatever a name is, the object is put, read, listed, watched and deleted by it.
    async fn hostile_names_are_names(f) {
        let objects = f.objects().await;
        let longest = ["é".repeat(f.name_bytes_max() / 2), "/".repeat(f.name_bytes_max())];
        let hostile: BTreeSet<String> = HOSTILE
            .iter()
            .map(ToString::to_string)
            .chain(longest)
            .chain(["../../etc/passwd".to_owned()])
            .collect();
        for (seed, raw) in hostile.iter().enumerate() {
            let info = store(&objects, raw, &pattern(100, seed as u64)).await;
            assert_eq!(info.name.as_str(), raw);
        }
        assert_eq!(listed(&objects, Scope::All).await, hostile);
        let mut watching = Watching::new(&objects, Scope::All, Start::Current);
        assert_eq!(watching.initial().await.len(), hostile.len());
        for (seed, raw) in hostile.iter().enumerate() {
            same(&fetch(&objects, raw).await.unwrap(), &pattern(100, seed as u64));
            assert_eq!(objects.info(&name(raw)).await.unwrap().unwrap().name.as_str(), raw);
            assert_eq!(listed(&objects, Scope::One(key(raw))).await, set(&[raw]));
            objects.delete(&name(raw), DeleteOpts::new()).await.unwrap().expect("it was there");
            assert!(objects.get(&name(raw), None).await.unwrap().is_none(), "{raw:?}");
            assert_eq!(watching.take(1).await, [format!("-{raw}")]);
        }
        assert_eq!(listed(&objects, Scope::All).await, set(&[]));
    }

    /// Names that look alike are different objects.
    async fn similar_names_are_different(f) {
        let objects = f.objects().await;
        for (seed, raw) in ["a", "A", "a ", " a", "a/", "/a", "a=20"].into_iter().enumerate() {
            store(&objects, raw, &pattern(50, seed as u64)).await;
        }
        for (seed, raw) in ["a", "A", "a ", " a", "a/", "/a", "a=20"].into_iter().enumerate() {
            same(&fetch(&objects, raw).await.unwrap(), &pattern(50, seed as u64));
        }
    }

    /// No name is empty, and none is longer than a kibibyte.
    async fn illegal_names_are_refused(f) {
        let objects = f.objects().await;
        assert_eq!(kind(ObjectName::parse("")), ErrorKind::InvalidInput);
        assert_eq!(kind(ObjectName::parse("x".repeat(1025))), ErrorKind::InvalidInput);
        store(&objects, &"x".repeat(f.name_bytes_max()), &pattern(1, 1)).await;
    }
}
