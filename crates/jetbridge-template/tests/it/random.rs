//! Random bytes and random operators: an answer or an error, never a panic.

use jetbridge_template::{Input, Options, merge};
use proptest::prelude::*;

fn render(text: &[u8]) -> Option<String> {
    merge(vec![Input::new("r.yml", text)], &Options::default()).ok().map(|rendered| rendered.text)
}

/// Words of the language, in no order that makes sense.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "((",
        "))",
        "(",
        ")",
        "grab",
        "concat",
        "join",
        "calc",
        "ips",
        "static_ips",
        "keys",
        "nats",
        "inject",
        "param",
        "sort",
        "by",
        "prune",
        "defer",
        "split",
        "shuffle",
        "a",
        "b.c",
        "a[b]",
        "\"x\"",
        "'y'",
        "5",
        "-3",
        "1.5",
        "||",
        "&&",
        "==",
        "?",
        ":",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "{",
        "}",
        ",",
        "$HOME",
        "$.a",
        "[",
        "]",
        "@t",
        "as",
        "yaml",
        "\"kv:b/k\"",
        "~",
        "\\",
        "\"",
    ]);
    prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _any = render(&bytes);
    }

    #[test]
    fn yaml_like_text_never_panics(text in "[ \n\\-:#'\"|>\\[\\]{},&*!?a-c0-9()]{0,120}") {
        let _any = render(text.as_bytes());
    }

    #[test]
    fn operators_never_panic(a in words(), b in words(), c in words()) {
        let text = format!("a: (( {a} ))\nb:\n  c: (( {b} ))\nl:\n- (( {c} ))\n- 1\n");
        let _any = render(text.as_bytes());
    }

    #[test]
    fn what_is_printed_is_read_back_as_itself(
        strings in prop::collection::vec("[ -~\n\té\u{2028}]{0,20}", 1..6),
    ) {
        let entries: Vec<_> =
            strings.iter().enumerate().map(|(n, s)| format!("k{n}: {}\n", quoted(s))).collect();
        let text = entries.concat();
        let mut computed = text.clone();
        for n in 0..strings.len() {
            computed += &format!("g{n}: (( grab k{n} || \"\" ))\n");
        }
        prop_assume!(!strings.iter().any(|s| s.starts_with("((")));
        let once = render(computed.as_bytes()).expect("quoted text is always valid");
        let twice = render(once.as_bytes()).expect("what is printed is valid");
        prop_assert_eq!(&once, &twice);
        let json = |text: &str| jetbridge_template::json(&Input::new("j", text)).unwrap();
        let values = json(&once);
        for (n, string) in strings.iter().enumerate() {
            let needle = format!("\"g{n}\":{}", quoted(string));
            prop_assert!(values.contains(&needle), "{} lacks {}", values, needle);
        }
    }
}

/// Double quotes as both YAML and JSON read them.
fn quoted(text: &str) -> String {
    let mut out = "\"".to_owned();
    for c in text.chars() {
        match c {
            '"' => out += "\\\"",
            '\\' => out += "\\\\",
            '\n' => out += "\\n",
            '\t' => out += "\\t",
            '\u{2028}' => out += "\\u2028",
            c => out.push(c),
        }
    }
    out + "\""
}
