//! What is too large, too deep or no text is an error with its place, and nothing more.

use jetbridge_template::{Input, Options, merge};

fn fails(bytes: impl Into<Vec<u8>>, expected: &str) {
    let failure = merge(vec![Input::new("bad.yml", bytes)], &Options::default()).unwrap_err();
    assert!(failure.to_string().contains(expected), "{failure}");
}

#[test]
fn nesting_without_end_is_refused() {
    fails("[".repeat(100_000), "bad.yml");
    fails("a: ".to_owned() + &"{a: ".repeat(100_000), "bad.yml");
    let deep: String = (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    fails(deep, "bad.yml");
    fails(format!("a: (( {}x ))\n", "(".repeat(10_000)), "levels");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let alias = format!("*a{}", n - 1);
        text += &format!("a{n}: &a{n} [{}]\n", vec![alias; 10].join(", "));
    }
    fails(text, "aliases stand for more than");
}

#[test]
fn anchors_that_hold_one_another_are_refused_when_they_hold_too_much() {
    let nested = |within: &str| {
        let open: String = (0..200).map(|n| format!("&a{n} [")).collect();
        format!("a: {open}{within}{}\n", "]".repeat(200))
    };
    fails(nested(&"1, ".repeat(30_000)), "anchors in anchors hold more than 268435456 bytes");
    let long = format!("\"{}\"", "x".repeat(3 << 20));
    fails(nested(&long), "anchors in anchors hold more than 268435456 bytes");
    let few = merge(vec![Input::new("few.yml", nested("1"))], &Options::default()).unwrap();
    assert!(few.text.contains("[1]"));
    let one = format!("a: &a [{}]\nb: *a\n", "1, ".repeat(30_000));
    assert!(merge(vec![Input::new("one.yml", one)], &Options::default()).is_ok());
}

#[test]
fn aliases_that_nest_too_deep_are_refused() {
    for (open, close) in [("{x: ", "}"), ("[", "]")] {
        let mut text = "a0: &a0 [1]\n".to_owned();
        for n in 1..1_400 {
            text += &format!("a{n}: &a{n} {open}*a{}{close}\n", n - 1);
        }
        fails(text, "exceeded max depth: nested more than 256 levels");
    }
    let merged: String = (1..1_400).map(|n| format!("a{n}: &a{n}\n  <<: *a{}\n", n - 1)).collect();
    let rendered = merge(
        vec![Input::new("flat.yml", "a0: &a0 {x: 1}\n".to_owned() + &merged)],
        &Options::default(),
    );
    assert!(rendered.unwrap().text.ends_with("a1399:\n  x: 1\n"));
}

#[test]
fn a_patch_that_goes_too_deep_is_refused() {
    let mut options = Options::default();
    options.go_patch = true;
    let patch = format!("- {{type: replace, path: /a?{}, value: [1]}}\n", "/a".repeat(100_000));
    let inputs = vec![Input::new("a.yml", "b: 1\n"), Input::new("patch.yml", patch)];
    let failure = merge(inputs, &options).unwrap_err().to_string();
    assert!(failure.contains("operation 0 goes deeper than 256 levels"), "{failure}");
}

#[test]
fn calculations_and_chains_without_end_are_refused() {
    for part in ["1 == 1 ? ", "1 == 2 ? 1 : ", "(", "-", "floor("] {
        fails(
            format!("a: (( calc \"{}1\" ))\n", part.repeat(100_000)),
            "nested more than 64 levels",
        );
    }
    for infix in ["+", "||", "&&", "==", "*"] {
        let chain = format!("a: (( 1{} ))\n", format!(" {infix} 1").repeat(100_000));
        fails(chain, "more than 256 infix operators");
    }
    let calls = format!("a: (( concat \"a\" (1 + 1){} ))\n", " (1 + 1)".repeat(300));
    fails(calls, "more than 256 infix operators");
    let longest = format!("a: (( 1{} ))\n", " + 1".repeat(256));
    let rendered = merge(vec![Input::new("long.yml", longest)], &Options::default()).unwrap();
    assert_eq!(rendered.text, "a: 257\n");
}

#[test]
fn a_bomb_of_grabs_is_refused() {
    let mut text = "a0: [1, 2, 3, 4, 5, 6, 7, 8]\n".to_owned();
    for n in 1..12 {
        let grab = format!("(( grab a{} ))", n - 1);
        text += &format!("a{n}:\n{}", format!("- {grab}\n").repeat(8));
    }
    fails(text, "operators copy more than");
}

#[test]
fn a_chain_of_maps_ends_at_the_depth_limit() {
    let mut text = "a0: {x: 1}\n".to_owned();
    for n in 1..400 {
        text += &format!("a{n}: {{x: (( grab a{} ))}}\n", n - 1);
    }
    fails(text, "Hit max recursion depth");
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_line() {
    fails(b"a: 1\nb: \xff\n".to_vec(), "line 2 is not valid UTF-8");
}

#[test]
fn a_file_over_the_limit_is_refused_and_one_without_end_too() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    let file = std::fs::File::create(&large).unwrap();
    file.set_len(jetbridge_template::OBJECT_BYTES_MAX + 1).unwrap();
    for operator in ["file", "load"] {
        for path in [large.to_str().unwrap(), "/dev/zero"] {
            let text = format!("a: (( {operator} \"{path}\" ))\n");
            fails(text, "it has more than the 67108864 bytes that one value may have");
        }
    }
}

#[test]
fn a_line_of_ten_megabytes_is_only_long() {
    let text = format!("a: \"{}\"\n", "x".repeat(10 << 20));
    let rendered = merge(vec![Input::new("long.yml", text.clone())], &Options::default()).unwrap();
    assert_eq!(rendered.text, text);
}

#[test]
fn a_chain_of_four_thousand_grabs_is_evaluated() {
    let mut text = "a0: end\n".to_owned();
    for n in 1..4_000 {
        text += &format!("a{n}: (( grab a{} ))\n", n - 1);
    }
    let rendered = merge(vec![Input::new("chain.yml", text)], &Options::default()).unwrap();
    assert!(rendered.text.ends_with("a3999: end\n"));
}

/// Each line looks like an operator until the scalar that it goes on with is read.
#[test]
fn a_scalar_of_lines_that_look_like_operators_is_read_in_linear_time() {
    const LINES: usize = 300_000;
    let text = "a: b\n".to_owned() + &"  (( c ))\n".repeat(LINES);
    let mut options = Options::default();
    options.skip_eval = true;
    let rendered = merge(vec![Input::new("lines.yml", text)], &options).unwrap();
    assert_eq!(rendered.text.matches("(( c ))").count(), LINES);
}

#[test]
fn a_chain_from_its_end_to_its_start_is_evaluated() {
    let mut text = String::new();
    for n in 0..4_000 {
        text += &format!("a{n}: (( grab a{} ))\n", n + 1);
    }
    text += "a4000: end\n";
    let rendered = merge(vec![Input::new("chain.yml", text)], &Options::default()).unwrap();
    assert!(rendered.text.starts_with("a0: end\n"));
}

#[test]
fn an_error_shows_its_place() {
    let text = "a: 1\nb:\n  c: (( grab nowhere ))\n";
    let failure = merge(vec![Input::new("f.yml", text)], &Options::default()).unwrap_err();
    assert_eq!(
        failure.diagnostics()[0].snippet(),
        " --> f.yml:3:6\n  |\n3 |   c: (( grab nowhere ))\n  |      ^^^^^^^^^^^^^^^^^^\n"
    );
}

#[test]
fn a_value_knows_what_it_overrode() {
    let base = Input::new("base.yml", "a:\n  b: 1\n");
    let prod = Input::new("prod.yml", "a:\n  # why\n  b: 2\n");
    let rendered = merge(vec![base, prod], &Options::default()).unwrap();
    let origin = rendered.explain("a.b").unwrap();
    assert_eq!(origin.place.unwrap().to_string(), "prod.yml:3:6");
    assert_eq!(origin.overrode[0].to_string(), "base.yml:2:6");
    assert!(rendered.explain("a.c").is_none());
}

#[test]
fn a_snippet_hides_the_logins_of_urls() {
    let text = "a: (( nats \"kv:b/k\" \"nats://u:s3cr3t@h,nats://u:s3cr3t@g\" 3 ))\n";
    let failure = merge(vec![Input::new("f.yml", text)], &Options::default()).unwrap_err();
    let snippet = failure.diagnostics()[0].snippet();
    assert!(!snippet.contains("s3cr3t") && snippet.contains("@g\" 3 ))"), "{snippet}");
}

#[test]
fn large_files_are_merged_in_their_order_and_the_first_error_counts() {
    let file = |number: usize| {
        let lines = (0..6000).map(|line| format!("key{line:05}: {number}\n"));
        Input::new(format!("{number}.yml"), lines.collect::<String>())
    };
    let files = || (0..6).map(file).collect::<Vec<_>>();
    let rendered = merge(files(), &Options::default()).unwrap();
    assert!(rendered.text.lines().all(|line| line.ends_with(": 5")));
    let mut broken = files();
    for number in [4, 1] {
        broken[number].bytes.extend_from_slice(b"key00000: twice\n");
    }
    let failure = merge(broken, &Options::default()).unwrap_err().to_string();
    assert!(failure.starts_with("1.yml: ") && failure.contains("line 6001"), "{failure}");
}

#[test]
fn addresses_of_many_instances_are_given_out_in_linear_time() {
    const INSTANCES: usize = 5_000;
    let numbers: String = (0..INSTANCES).map(|n| format!(" {n}")).collect();
    let text = format!(
        "networks: [{{name: n, subnets: [{{azs: [a, b], static: [10.0.0.0 - 10.0.255.255]}}]}}]\n\
         jobs:\n- name: j\n  instances: {INSTANCES}\n  azs: [a, b]\n  networks:\n  - name: n\n    \
         static_ips: (( static_ips{numbers} ))\n"
    );
    let start = std::time::Instant::now();
    let rendered = merge(vec![Input::new("ips.yml", text)], &Options::default()).unwrap();
    assert!(rendered.text.contains("10.0.19.135"), "{}", rendered.text);
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_network_of_too_many_addresses_is_refused_however_many_subnets_it_has() {
    let subnets = ", {static: [10.1.0.0 - 10.1.127.255]}".repeat(2);
    let text = format!(
        "networks: [{{name: n, subnets: [{{static: [10.0.0.0]}}{subnets}]}}]\n\
         jobs: [{{name: j, instances: 1, networks: [{{name: n, static_ips: (( static_ips 0 ))}}]}}]\n"
    );
    fails(text, "a pool of more than 65536 static addresses");
}
