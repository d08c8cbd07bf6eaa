//! What stands around every page: head, style, the script that keeps it live, and the policy that
//! lets a browser run nothing else.

use std::sync::LazyLock;

use jetbridge_core::Digest;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// How often a browser without scripts loads the page anew, in seconds.
const RELOAD_S: &str = "10";

/// The content security policy: this style, this script, this server, and nothing else.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; connect-src 'self'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        source(STYLE),
        source(SCRIPT)
    )
});

/// A text as the policy names it.
fn source(text: &str) -> String {
    let digest = Digest::of(text.as_bytes()).to_string();
    let digest = digest.trim_start_matches("SHA-256=").replace('-', "+").replace('_', "/");
    format!("sha256-{digest}")
}

/// Whether a page changes while somebody looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kept {
    Live,
    Still,
}

/// A whole page.
pub(super) fn page(title: &str, kept: Kept, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // No icon: a browser would ask for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
                @if kept == Kept::Live {
                    noscript { meta http-equiv="refresh" content=(RELOAD_S); }
                }
            }
            body {
                a.skip href="#main" { "Skip to the sections" }
                header {
                    a.name href="/" { "Jetbridge" }
                    span.version { (env!("CARGO_PKG_VERSION")) }
                    @if kept == Kept::Live {
                        span #stream hidden { "live" }
                    }
                }
                main #main { (main) }
                footer {
                    nav aria-label="For programs" {
                        a href="/v1/status" { "status as JSON" }
                        a href="/metrics" { "metrics" }
                        a href="/readyz" { "readiness" }
                    }
                }
                @if kept == Kept::Live {
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_what_the_page_carries_and_nothing_comes_from_elsewhere() {
        let text = page("t", Kept::Live, &html! {}).into_string();
        for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
            let inside = text.split_once(open).unwrap().1.split_once(close).unwrap().0;
            assert!(POLICY.contains(&source(inside)), "{open}");
        }
        assert!(!text.contains("http://") && !text.contains("https://"), "{text}");
        assert!(!text.contains("style=\""), "the policy would refuse it");
        assert!(!page("t", Kept::Still, &html! {}).into_string().contains("<script"));
    }
}
