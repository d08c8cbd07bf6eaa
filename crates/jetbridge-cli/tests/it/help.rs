//! The help of every word, as a user reads it. `INSTA_UPDATE=always` rewrites the pages.

use crate::binary::{Store, finish};

/// The families of words: one file of pages each.
const FAMILIES: [&str; 8] = ["", "kv", "limit", "object", "sqlite", "stream", "template", "wasi"];

/// Runs the word with `--help`.
async fn page(store: &Store, word: &str) -> String {
    let words: Vec<&str> = word.split(' ').filter(|word| !word.is_empty()).collect();
    let said = finish(store.bare(&[&words[..], &["--help"]].concat()), b"").await;
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{word}");
    said.text()
}

/// The words that a page lists.
fn words(page: &str) -> Vec<&str> {
    let listed = page.split("Commands:\n").nth(1).unwrap_or_default();
    let listed = listed.split("\n\n").next().unwrap_or_default();
    let lines = listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines.filter_map(|line| line.split_whitespace().next()).filter(|word| *word != "help").collect()
}

/// The part of a page that is not the same on all of them.
fn own_part(page: &str) -> &str {
    page.split("\nGlobal options:\n").next().unwrap_or(page)
}

#[tokio::test]
async fn every_word_has_a_page() {
    let store = Store::at("memory:");
    for family in FAMILIES {
        let front = page(&store, family).await;
        let whole = if family.is_empty() { front.as_str() } else { own_part(&front) };
        let mut pages = format!("## jetbridge {family}\n\n{whole}\n");
        for word in words(&front).into_iter().filter(|word| !FAMILIES.contains(word)) {
            let word = format!("{family} {word}");
            let page = page(&store, &word).await;
            pages.push_str(&format!("## jetbridge {}\n\n{}\n", word.trim(), own_part(&page)));
        }
        let name = if family.is_empty() { "others" } else { family };
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, pages);
        });
    }
}

#[tokio::test]
async fn no_words_are_answered_with_the_page() {
    let store = Store::at("memory:");
    let said = finish(store.bare(&[]), b"").await;
    assert_eq!((said.code, said.out.len()), (2, 0));
    assert!(said.err.contains("Usage: jetbridge"), "{said:?}");
    let said = finish(store.bare(&["--version"]), b"").await;
    assert_eq!(said.code, 0);
    assert!(said.text().starts_with("jetbridge "), "{said:?}");
}
