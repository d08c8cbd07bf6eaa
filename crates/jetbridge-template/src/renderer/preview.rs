//! What rendering would change, without secrets.
//!
//! What is in the new file is known by its path, and so is what the present file has there; a
//! value that only the present file has may have been a secret, and is taken for one.

use similar::TextDiff;

use crate::emit;
use crate::parse;
use crate::render::{Options, Rendered};
use crate::tree::{Node, Value};

/// Lines around a difference.
const CONTEXT_LINES: usize = 3;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// What stands for a secret that is to be replaced by another.
const HIDDEN_BEFORE: &str = "*** (before)";

/// What would change.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Preview {
    /// The file would be written.
    pub differs: bool,
    /// A unified diff, secrets masked; empty if nothing differs.
    pub diff: String,
}

/// Compares `present` with what was rendered.
pub(super) fn of(present: Option<&[u8]>, rendered: &Rendered, options: &Options) -> Preview {
    let differs = present != Some(rendered.text.as_bytes());
    if !differs {
        return Preview { differs, diff: String::new() };
    }
    let old = match present {
        None => String::new(),
        Some(bytes) if rendered.root.has_secret() => masked(bytes, rendered, options),
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    let diff = TextDiff::from_lines(&old, &rendered.masked)
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .header("present", "rendered")
        .to_string();
    Preview { differs, diff }
}

fn masked(present: &[u8], rendered: &Rendered, options: &Options) -> String {
    match parse::parse("present", 0, present).as_deref() {
        Ok([document]) => {
            let mut document = document.clone();
            mask(&mut document, Some(&rendered.root));
            emit::yaml(&document, options.style)
        }
        _ => format!("{HIDDEN} # what is there is not one document of YAML: nothing is shown\n"),
    }
}

/// Hides in `old` what is secret in `new`, and what `new` does not have.
fn mask(old: &mut Node, new: Option<&Node>) {
    let Some(new) = new.filter(|new| !new.secret) else {
        let is_same = new.is_some_and(|new| same(old, new));
        return hide(old, if is_same || new.is_none() { HIDDEN } else { HIDDEN_BEFORE });
    };
    match (&mut old.value, &new.value) {
        (Value::Map(old), Value::Map(new)) => {
            old.iter_mut().for_each(|(key, node)| mask(node, new.get(key)));
        }
        (Value::List(old), Value::List(new)) => {
            old.iter_mut().enumerate().for_each(|(at, node)| mask(node, new.get(at)));
        }
        (Value::Map(_) | Value::List(_), _) | (_, Value::Map(_) | Value::List(_)) => {
            hide(old, HIDDEN_BEFORE);
        }
        _ => {}
    }
}

fn hide(node: &mut Node, mark: &str) {
    node.value = Value::Str(mark.into());
    node.raw = None;
}

fn same(a: &Node, b: &Node) -> bool {
    emit::json(a) == emit::json(b)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use jetbridge_core::{
        Backend, BucketName, BucketSpec, Key, MemoryBackend, Open, PutOpts, Result,
    };

    use super::*;
    use crate::fetch::{Server, Sources};
    use crate::render::{Input, render};

    struct Secret(Arc<MemoryBackend>);

    #[async_trait]
    impl Sources for Secret {
        async fn open(&self, _server: &Server) -> Result<Arc<dyn Backend>> {
            Ok(Arc::clone(&self.0) as Arc<dyn Backend>)
        }

        fn is_secret(&self, bucket: &str) -> bool {
            bucket == "secrets"
        }
    }

    async fn preview(present: &str) -> Preview {
        let memory = Arc::new(MemoryBackend::new());
        let bucket = BucketName::parse("secrets").unwrap();
        let kv = memory.kv(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
        kv.put(&Key::parse("p").unwrap(), "hunter2".into(), PutOpts::new()).await.unwrap();
        let text = "a: 1\nurl: (( concat \"x:\" (nats \"kv:secrets/p\") ))\n";
        let options = Options::default();
        let rendered =
            render(vec![Input::new("t", text)], &options, &Secret(memory)).await.unwrap();
        of(Some(present.as_bytes()), &rendered, &options)
    }

    #[tokio::test]
    async fn secrets_of_both_sides_are_hidden() {
        let found = preview("a: 2\nurl: x:old-secret\nother: gone-secret\n").await;
        assert!(found.differs);
        for line in ["-a: 2\n", "+a: 1\n", "-url: \"*** (before)\"\n", "-other: "] {
            assert!(found.diff.contains(line), "{line} is not in\n{}", found.diff);
        }
        assert!(!found.diff.contains("secret") && !found.diff.contains("hunter"), "{}", found.diff);
        let same = preview("a: 1\nurl: x:hunter2\n").await;
        assert_eq!((same.differs, same.diff.as_str()), (false, ""));
        let odd = preview("[no: yaml: old-secret\n").await;
        assert!(odd.differs && !odd.diff.contains("secret"), "{}", odd.diff);
    }
}
