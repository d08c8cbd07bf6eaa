//! Random bytes and random operators: an answer or an error, never a panic.

use jetbridge_template::{Input, Options, Style, diff, json, merge, refs};
use proptest::prelude::*;

fn render(text: &[u8]) -> Option<String> {
    merge(vec![Input::new("r.yml", text)], &Options::default()).ok().map(|rendered| rendered.text)
}

/// A tree of plain values, as YAML in flow style.
fn tree() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec!["1", "2.5", "true", "~", "a", "'b c'", "\"\"", "yes"]);
    let key = || prop::sample::select(vec!["a", "b", "c", "name"]);
    scalar.prop_map(str::to_owned).prop_recursive(4, 40, 4, move |inner| {
        let map = prop::collection::btree_map(key(), inner.clone(), 0..4).prop_map(|entries| {
            let entries: Vec<_> = entries.iter().map(|(k, v)| format!("{k}: {v}")).collect();
            format!("{{{}}}", entries.join(", "))
        });
        let list =
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(", ")));
        prop_oneof![map, list]
    })
}

/// A document of plain values.
fn document() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "c", "l"]);
    prop::collection::btree_map(key, tree(), 0..4).prop_map(|entries| {
        entries.iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
    })
}

/// A document whose lists lie in maps and merge by position: of two elements with one name, both
/// would take over what the last of them says.
fn plain_maps() -> impl Strategy<Value = String> {
    document()
        .prop_map(|text| text.replace('[', "{x: [").replace(']', "]}").replace("name", "title"))
}

/// An expression that can be read, over names that are there and names that are not.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1", "2.5", "\"x\"", "true", "nil", "m", "m.a", "l.0", "none.b", "$HOME", "self", "o.p",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(5, 40, 3, |inner| {
        let infix = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "&&", "||",
        ]);
        let name = prop::sample::select(vec![
            "grab",
            "concat",
            "join",
            "base64",
            "keys",
            "empty",
            "null",
            "negate",
            "stringify",
            "split",
            "ips",
            "cartesian-product",
            "shuffle",
            "file",
            "load",
            "calc",
            "nats",
            "raw_env",
            "base64-decode",
        ]);
        prop_oneof![
            (inner.clone(), infix, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (name, prop::collection::vec(inner.clone(), 0..3))
                .prop_map(|(name, args)| format!("({name} {})", args.join(" "))),
            inner.prop_map(|a| format!("! {a}")),
        ]
    })
}

fn merged(files: &[&str]) -> String {
    let inputs = files.iter().map(|text| Input::new("r.yml", *text)).collect();
    merge(inputs, &Options::default()).expect("plain documents merge").text
}

fn values(text: &str) -> String {
    json(&Input::new("j.yml", text)).expect("what is printed is valid")
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
    fn trees_of_operators_never_panic(a in expression(), b in expression(), c in expression()) {
        let text = format!(
            "m: {{a: 1, b: x}}\nl: [1, {{name: n}}, x]\nself: (( {a} ))\no:\n  p: (( {b} ))\n\
             q: (( grab {c} ))\n"
        );
        let _any = render(text.as_bytes());
        let _listed = refs(vec![Input::new("r.yml", text)], &Options::default());
    }

    #[test]
    fn merging_with_nothing_changes_nothing(text in document()) {
        prop_assert_eq!(merged(&[&text, "{}\n"]), merged(&[&text]));
        prop_assert_eq!(values(&merged(&["{}\n", &text])), values(&merged(&[&text])));
    }

    #[test]
    fn merging_is_in_turns(a in document(), b in document(), c in document()) {
        let first = merged(&[&a, &b]);
        prop_assert_eq!(values(&merged(&[&first, &c])), values(&merged(&[&a, &b, &c])));
    }

    #[test]
    fn the_last_one_wins(a in document(), b in plain_maps()) {
        // Merged twice it is as merged once.
        prop_assert_eq!(values(&merged(&[&a, &b, &b])), values(&merged(&[&a, &b])));
    }

    #[test]
    fn what_is_printed_is_printed_again(a in document(), b in document()) {
        let once = merged(&[&a, &b]);
        prop_assert_eq!(&merged(&[&once]), &once);
        let mut options = Options::default();
        options.style = Style::Graft;
        let sorted = merge(vec![Input::new("r.yml", once.as_str())], &options).unwrap().text;
        prop_assert_eq!(values(&sorted), values(&once));
    }

    #[test]
    fn differences_are_none_between_equals(a in document(), b in document()) {
        let input = |text: &str| Input::new("d.yml", text);
        prop_assert!(diff(input(&a), input(&a)).unwrap().is_empty());
        let alike = values(&a) == values(&b);
        let found = diff(input(&a), input(&b)).unwrap();
        prop_assert!(alike || !found.is_empty(), "{a} and {b} are not alike");
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
        let values = values(&once);
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
