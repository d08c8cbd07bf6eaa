//! What rendering would change, without secrets.
//!
//! Of the new file it is known what is secret. Of the present one it is not: it was made by other
//! templates from other values, and what it holds may be anywhere. Where there are secrets at all,
//! its values are shown only where the new file shows the same.

use std::time::Duration;

use similar::TextDiff;

use crate::emit;
use crate::parse;
use crate::render::{Options, Rendered};
use crate::tree::{Extras, Node, Value};

/// Lines around a difference.
const CONTEXT_LINES: usize = 3;

/// How long the shortest difference is looked for. What comes out after that is true as well, only
/// longer: the search takes the square of the lines that differ.
const SEARCH_TIME_MAX: Duration = Duration::from_millis(500);

/// What stands for a secret.
const HIDDEN: &str = "***";

/// What stands for a value of the present file that is to be replaced.
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

/// What the present file may show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Showing {
    /// Everything: no value of a store is a secret.
    All,
    /// What the new file shows as well.
    Shared,
}

/// Compares `present` with what was rendered.
pub(super) fn of(
    present: Option<&[u8]>,
    showing: Showing,
    rendered: &Rendered,
    options: &Options,
) -> Preview {
    let differs = present != Some(rendered.text.as_bytes());
    if !differs {
        return Preview { differs, diff: String::new() };
    }
    let old = match present {
        None => String::new(),
        Some(bytes) if showing == Showing::All => String::from_utf8_lossy(bytes).into_owned(),
        Some(bytes) => masked(bytes, rendered, options),
    };
    let diff = TextDiff::configure()
        .timeout(SEARCH_TIME_MAX)
        .diff_lines(&old, &rendered.masked)
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

/// Hides in `old` what is secret in `new`, and what `new` does not have at its place.
fn mask(old: &mut Node, new: Option<&Node>) {
    forget_comments(old, new);
    let Some(new) = new.filter(|new| !new.secret) else {
        let is_same = new.is_some_and(|new| same(old, new));
        return hide(old, if is_same || new.is_none() { HIDDEN } else { HIDDEN_BEFORE });
    };
    match (&mut old.value, &new.value) {
        (Value::Map(old), Value::Map(new)) => {
            return old.iter_mut().for_each(|(key, node)| mask(node, new.get(key)));
        }
        (Value::List(old), Value::List(new)) => {
            return old.iter_mut().enumerate().for_each(|(at, node)| mask(node, new.get(at)));
        }
        _ => {}
    }
    if !same(old, new) {
        hide(old, HIDDEN_BEFORE);
    }
}

/// Takes away the comments that `new` does not have at its place: they may tell what a secret was.
fn forget_comments(old: &mut Node, new: Option<&Node>) {
    let Some(extras) = &mut old.extras else { return };
    let shown = new.and_then(|new| new.extras.as_deref());
    let keep = |lines: &mut Vec<Box<str>>, shown: &[Box<str>]| {
        lines.retain(|line| line.is_empty() || shown.contains(line));
    };
    let none = Extras::default();
    let shown = shown.unwrap_or(&none);
    keep(&mut extras.above, &shown.above);
    keep(&mut extras.tail, &shown.tail);
    if let Some(head) = &mut extras.head {
        keep(head, shown.head.as_deref().unwrap_or_default());
    }
    extras.right = extras.right.take().filter(|line| shown.right.as_ref() == Some(line));
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
        preview_of("a: 1\nurl: (( concat \"x:\" (nats \"kv:secrets/p\") ))\n", present).await
    }

    async fn preview_of(template: &str, present: &str) -> Preview {
        let memory = Arc::new(MemoryBackend::new());
        let bucket = BucketName::parse("secrets").unwrap();
        let kv = memory.kv(&bucket, Open::ensure(BucketSpec::default())).await.unwrap();
        kv.put(&Key::parse("p").unwrap(), "hunter2".into(), PutOpts::new()).await.unwrap();
        let options = Options::default();
        let rendered =
            render(vec![Input::new("t", template)], &options, &Secret(memory)).await.unwrap();
        of(Some(present.as_bytes()), Showing::Shared, &rendered, &options)
    }

    #[tokio::test]
    async fn secrets_of_both_sides_are_hidden() {
        let found = preview("a: 2\nurl: x:old-secret\nother: gone-secret\n").await;
        assert!(found.differs);
        for line in ["-a: \"*** (before)\"\n", "+a: 1\n", "-url: \"*** (before)\"\n", "-other: "] {
            assert!(found.diff.contains(line), "{line} is not in\n{}", found.diff);
        }
        assert!(!found.diff.contains("secret") && !found.diff.contains("hunter"), "{}", found.diff);
        let same = preview("a: 1\nurl: x:hunter2\n").await;
        assert_eq!((same.differs, same.diff.as_str()), (false, ""));
        let odd = preview("[no: yaml: old-secret\n").await;
        assert!(odd.differs && !odd.diff.contains("secret"), "{}", odd.diff);
    }

    #[tokio::test]
    async fn what_was_a_secret_is_hidden_wherever_it_was() {
        let secret = "(( nats \"kv:secrets/p\" ))";
        for (template, present) in [
            ("a: 1\n".to_owned(), "a: 1\npassword: old-secret\n"),
            (format!("password: changeme\nt: {secret}\n"), "password: old-secret\nt: hunter2\n"),
            (format!("l:\n  - plain\n  - {secret}\n"), "l:\n  - old-secret\n"),
            (
                format!("l:\n  - password: plain\n  - password: {secret}\n"),
                "l:\n  - password: old-secret\n",
            ),
            ("l: [1, 2]\n".to_owned(), "l: old-secret\n"),
            ("l: 1\n".to_owned(), "l: [old-secret]\n"),
            ("l: 1 # new\n".to_owned(), "# was old-secret\nl: 2 # or old-secret\n"),
            (format!("p: {secret}\n"), "# was old-secret\np: x # or old-secret\n"),
        ] {
            let found = preview_of(&template, present).await;
            let hides = !found.diff.contains("secret") && !found.diff.contains("hunter");
            assert!(found.differs && hides && found.diff.contains("***"), "{}", found.diff);
        }
    }

    #[tokio::test]
    async fn without_secret_buckets_everything_is_shown() {
        let options = Options::default();
        let inputs = vec![Input::new("t", "a: 1\n")];
        let rendered = render(inputs, &options, &crate::NoSources::default()).await.unwrap();
        let found = of(Some(b"a: 2 # why\n"), Showing::All, &rendered, &options);
        assert!(found.diff.contains("-a: 2 # why\n+a: 1\n"), "{}", found.diff);
    }

    /// Applies a unified diff whose hunks hold every line.
    fn new_side(diff: &str) -> String {
        let lines = diff.split_inclusive('\n').skip(2);
        let shown = lines.filter(|line| line.starts_with([' ', '+']));
        shown.map(|line| &line[1..]).collect()
    }

    #[tokio::test]
    async fn large_files_without_a_line_in_common_are_compared_in_bounded_time() {
        const LINES: usize = 20_000;
        let file = |name: &str| (0..LINES).map(|n| format!("{name}{n}: {n}\n")).collect::<String>();
        let options = Options::default();
        let inputs = vec![Input::new("t", file("new"))];
        let rendered = render(inputs, &options, &crate::NoSources::default()).await.unwrap();
        let start = std::time::Instant::now();
        let found = of(Some(file("old").as_bytes()), Showing::All, &rendered, &options);
        let took = start.elapsed();
        assert!(new_side(&found.diff) == rendered.text);
        assert!(took < SEARCH_TIME_MAX * 8, "{took:?}");
    }
}
