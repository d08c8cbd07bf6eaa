//! Any bytes as templates: an answer or errors, never a panic; what is printed is read again as
//! the same values.
//!
//! `cargo +nightly fuzz run template -- -dict=template.dict`, in this directory's parent.

#![no_main]

use jetbridge_template::{Input, Options, Streams, Style, diff, json, merge, refs};
use libfuzzer_sys::fuzz_target;

/// Separates the files of one input.
const SEPARATOR: u8 = 0;

fuzz_target!(|data: &[u8]| {
    let Some((flags, text)) = data.split_first() else { return };
    let files: Vec<Input> = text
        .split(|byte| *byte == SEPARATOR)
        .enumerate()
        .map(|(number, text)| Input::new(format!("{number}.yml"), text))
        .collect();
    let options = options(*flags);
    let _listed = refs(files.clone(), &options);
    for file in &files {
        let _lines = json(file);
    }
    if let [one, other, ..] = &files[..] {
        let _differences = diff(one.clone(), other.clone());
    }
    let Ok(rendered) = merge(files, &options) else { return };
    let again = Input::new("again.yml", rendered.text.as_str());
    let printed = json(&again).unwrap_or_else(|failure| panic!("{failure}\n{}", rendered.text));
    let mut plain = Options::default();
    plain.skip_eval = true;
    plain.style = Style::Graft;
    if let Ok(sorted) = merge(vec![again], &plain) {
        // Lists whose elements are operators of lists are merged when they are read again.
        if !printed.contains("((") {
            let sorted = json(&Input::new("sorted.yml", sorted.text.as_str()));
            assert_eq!(sorted.unwrap_or_else(|failure| panic!("{failure}")), printed);
        }
    }
});

fn options(flags: u8) -> Options {
    let mut options = Options::default();
    options.skip_eval = flags & 1 != 0;
    options.fallback_append = flags & 2 != 0;
    options.go_patch = flags & 4 != 0;
    options.redact = flags & 8 != 0;
    options.streams = if flags & 16 != 0 { Streams::Merge } else { Streams::Refuse };
    options.style = if flags & 32 != 0 { Style::Graft } else { Style::Lossless };
    if flags & 64 != 0 {
        options.cherry_pick = vec!["a".to_owned()];
        options.prune = vec!["b.0".to_owned()];
    }
    options.env = [("HOME", "/root"), ("N", "5"), ("L", "[1, 2]")]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into();
    // Nothing outside of the input is read.
    options.file_base = Some("/nonexistent".into());
    options
}
