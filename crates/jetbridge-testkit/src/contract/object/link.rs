//! Names that stand for other objects.

use std::sync::Arc;

use jetbridge_core::{DeleteOpts, ErrorKind, Link, Objects, Scope};

use super::steps::{collect, fetch, listed, name, pattern, same, store};
use crate::contract::steps::{kind, set};

cases! { $ __object_link = object::link;
    /// A link is read as its target and described as itself.
    async fn a_link_is_read_as_its_target(f) {
        let objects = f.objects().await;
        let data = pattern(100_000, 1);
        let target = store(&objects, "target", &data).await;
        let made = objects.link(&name("link"), to(&objects, "target")).await.unwrap();
        assert_eq!(made.link, Some(to(&objects, "target")));
        let info = objects.info(&name("link")).await.unwrap().unwrap();
        assert_eq!((&info.name, info.link), (&name("link"), Some(to(&objects, "target"))));
        let object = objects.get(&name("link"), None).await.unwrap().unwrap();
        assert_eq!((object.info.digest, object.info.size), (target.digest, target.size));
        same(&collect(object.body).await.unwrap(), &data);
        let part = objects.get(&name("link"), Some(10..20)).await.unwrap().unwrap();
        same(&collect(part.body).await.unwrap(), &data[10..20]);
        assert_eq!(listed(&objects, Scope::All).await, set(&["link", "target"]));
    }

    /// A link may stand for an object of another bucket, and shows what that one is now.
    async fn a_link_follows_its_target_into_other_buckets(f) {
        let (here, there) = (f.objects().await, f.objects().await);
        store(&there, "target", &pattern(10, 1)).await;
        here.link(&name("link"), to(&there, "target")).await.unwrap();
        same(&fetch(&here, "link").await.unwrap(), &pattern(10, 1));
        store(&there, "target", &pattern(20, 2)).await;
        same(&fetch(&here, "link").await.unwrap(), &pattern(20, 2));
        there.delete(&name("target"), DeleteOpts::new()).await.unwrap().unwrap();
        assert!(here.get(&name("link"), None).await.unwrap().is_none(), "its target is gone");
        assert!(here.info(&name("link")).await.unwrap().is_some());
    }

    /// No chains: a link stands for no link. Nor does it take the place of an object.
    async fn links_to_links_and_over_objects_are_invalid(f) {
        let objects = f.objects().await;
        let data = pattern(10, 1);
        store(&objects, "target", &data).await;
        store(&objects, "object", &data).await;
        objects.link(&name("link"), to(&objects, "target")).await.unwrap();
        let chain = objects.link(&name("chain"), to(&objects, "link")).await;
        assert_eq!(kind(chain), ErrorKind::InvalidInput);
        let over = objects.link(&name("object"), to(&objects, "target")).await;
        assert_eq!(kind(over), ErrorKind::InvalidInput);
        same(&fetch(&objects, "object").await.unwrap(), &data);
        assert_eq!(objects.info(&name("chain")).await.unwrap(), None);
    }

    /// A link may be pointed elsewhere and deleted; its target does not notice.
    async fn links_are_replaced_and_deleted(f) {
        let objects = f.objects().await;
        for (seed, target) in ["one", "two"].into_iter().enumerate() {
            store(&objects, target, &pattern(10, seed as u64)).await;
            objects.link(&name("link"), to(&objects, target)).await.unwrap();
            same(&fetch(&objects, "link").await.unwrap(), &pattern(10, seed as u64));
        }
        objects.delete(&name("link"), DeleteOpts::new()).await.unwrap().unwrap();
        assert!(objects.get(&name("link"), None).await.unwrap().is_none());
        assert_eq!(listed(&objects, Scope::All).await, set(&["one", "two"]));
        same(&fetch(&objects, "two").await.unwrap(), &pattern(10, 1));
    }

    /// A link to a bucket is described, and cannot be read as an object.
    async fn a_link_to_a_bucket_is_no_object(f) {
        let (here, there) = (f.objects().await, f.objects().await);
        let target = Link::bucket(there.bucket().clone());
        here.link(&name("link"), target.clone()).await.unwrap();
        let info = here.info(&name("link")).await.unwrap().unwrap();
        assert_eq!(info.link, Some(target));
        assert_eq!(kind(here.get(&name("link"), None).await), ErrorKind::InvalidInput);
    }
}

fn to(objects: &Arc<dyn Objects>, target: &str) -> Link {
    Link::object(objects.bucket().clone(), name(target))
}
