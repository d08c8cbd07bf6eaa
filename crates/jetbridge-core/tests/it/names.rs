//! Names and headers, for whatever text there is.

use std::borrow::Cow;

use jetbridge_core::codec::{decode, encode, is_legal, prefix_tokens};
use jetbridge_core::{Headers, Pattern};
use proptest::prelude::*;

/// Text that NATS takes as a key: tokens between dots, with many an `=`.
fn legal() -> impl Strategy<Value = String> {
    "([A-F0-9=][a-zA-Z0-9_/=-]{0,6}|=[0-9A-F]{2}){1,4}(\\.[a-z0-9=_/-]{1,6}){0,3}"
}

/// Keys that are likely to hit every rule: dots, `=`, hexadecimal digits, and any other text.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[.=3A-Ca:é ]{1,12}", legal()]
        .prop_filter("a key has at least one byte", |key| !key.is_empty())
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let tokens = prop::collection::vec(prop_oneof!["[ab]", Just("*".to_owned())], 1..4);
    let tail = prop_oneof![Just(""), Just(".>")];
    (tokens, tail)
        .prop_map(|(tokens, tail)| Pattern::parse(format!("{}{tail}", tokens.join("."))).unwrap())
}

proptest! {
    #[test]
    fn every_key_becomes_legal_text_and_comes_back(key in key()) {
        let text = encode(&key);
        prop_assert!(is_legal(&text), "{text:?}");
        prop_assert!(text.len() <= 3 * key.len());
        prop_assert_eq!(decode(&text), &*key);
    }

    #[test]
    fn every_legal_text_stands_for_one_key(text in legal()) {
        prop_assert!(is_legal(&text));
        let key = decode(&text);
        prop_assert_eq!(encode(&key), &*text);
        if !text.contains('=') {
            prop_assert!(matches!(decode(&text), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn a_server_can_filter_by_the_tokens_of_a_prefix(prefix in key(), rest in key()) {
        let tokens = prefix_tokens(&prefix);
        if !tokens.is_empty() {
            let text = encode(&(prefix.clone() + &rest)).into_owned();
            let begins = text.strip_prefix(tokens).is_some_and(|rest| rest.starts_with('.'));
            prop_assert!(begins, "{text:?} begins with {tokens:?}");
        }
    }

    #[test]
    fn patterns_overlap_if_a_subject_fits_both(
        one in pattern(),
        other in pattern(),
        subject in "[ab](\\.[ab]){0,4}",
    ) {
        if one.matches(&subject) && other.matches(&subject) {
            prop_assert!(one.overlaps(&other));
        }
        prop_assert_eq!(one.overlaps(&other), other.overlaps(&one));
        prop_assert!(one.overlaps(&one));
    }

    #[test]
    fn a_header_block_is_as_long_as_it_is_written(
        fields in prop::collection::vec(("[!-9;-~]{1,8}", "[^\r\n\0]{0,16}"), 0..5),
    ) {
        let mut headers = Headers::new();
        for (name, value) in &fields {
            headers.append(name, value).unwrap();
        }
        let lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let block = format!("NATS/1.0\r\n{}\r\n", lines.concat());
        prop_assert_eq!(headers.wire_bytes(), if fields.is_empty() { 0 } else { block.len() });
    }
}
