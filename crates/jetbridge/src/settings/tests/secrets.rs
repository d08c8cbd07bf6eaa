//! No secret is ever in anything that can be printed.

use proptest::prelude::*;

use super::*;
use crate::settings::Dialect::{Context, Evo, Graft, Link, Litestream, RateSync, Store};

/// Marks a secret: it stands in nothing else here.
const MARK: &str = "zQ7x";

/// The settings that hold a secret, by any name that any dialect has for them.
const SECRETS: &[&str] = &[
    "client_jwt",
    "client_seed",
    "creds",
    "credentials",
    "jwt",
    "nkey",
    "nkey_file",
    "nkey_seed",
    "password",
    "seed",
    "tls_ca_pem",
    "token",
    "user_jwt",
    "user_seed",
];

fn assert_hidden(shown: &str, what: &str) -> std::result::Result<(), TestCaseError> {
    prop_assert!(!shown.contains(MARK), "{what} shows {shown}");
    Ok(())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

proptest! {
    #[test]
    fn no_value_of_a_secret_setting_is_printed(
        before in "[ -~&&[^/.~]]{0,8}",
        after in "[ -~&&[^/.~]]{0,8}",
        name in prop::sample::select(SECRETS),
        dialect in prop::sample::select(&[Context, Evo, Graft, Link, Litestream, RateSync, Store][..]),
        more in prop::sample::select(&["", "username: u\n", "timeout: x\n", "tls: true\n", "zzz: 1\n"][..]),
    ) {
        let files = Files::new();
        let secret = format!("{before}{MARK}{after}");
        let yaml = format!("{name}: {}\n{more}", quoted(&secret));
        let root = parse_yaml("app.yml", &yaml).unwrap();
        assert_hidden(&format!("{root:?}"), "the tree")?;
        let source = Source::new(dialect, root.entries());
        assert_hidden(&format!("{source:?}"), "the source")?;
        let result = read(dialect, &[source], &files.environment(&[]));
        assert_hidden(&format!("{result:?}"), "the settings")?;
        if let Err(error) = result {
            assert_hidden(&format!("{error} {:?}", error.hint_text()), "the error")?;
        }
    }

    #[test]
    fn no_login_of_a_store_is_printed(
        before in "[ -~]{0,8}",
        after in "[ -~]{0,8}",
        form in prop::sample::select(&[
            "nats://SECRET@a:4222", "nats://u:SECRET@a", "tls://u:SECRET@a,b?tls_first=x",
            "nats://u:SECRET@a:port", "nats://u:SECRET@a/b", "nats://a?token=SECRET",
            "nats://a?password=SECRET", "nats://a?seed=SECRET&x=1", "nats://u:SECRET@", "SECRET@a:1",
        ][..]),
        encoded in any::<bool>(),
    ) {
        let secret = format!("{before}{MARK}{after}");
        let written = if encoded { percent_encoded(&secret) } else { secret.replace(['@', ',', '/', '?', '&', '=', ':'], "-") };
        let url = form.replace("SECRET", &written);
        let file = parse_yaml("app.yml", &format!("store: {}\n", quoted(&url))).unwrap();
        let environment = Environment::from_iter([("JETBRIDGE_STORE", url.as_str())]);
        assert_hidden(&format!("{environment:?}"), "the environment")?;
        for result in [
            resolve(&StoreRequest::new().store(Some(url.clone())), &Environment::default()),
            resolve(&StoreRequest::new().file(&file), &Environment::default()),
            resolve(&StoreRequest::new(), &environment),
        ] {
            match result {
                Ok(resolved) => {
                    assert_hidden(&resolved.location.to_string(), &url)?;
                    assert_hidden(&format!("{resolved:?}"), &url)?;
                }
                Err(error) => assert_hidden(&format!("{error} {error:?}"), &url)?,
            }
        }
    }

    #[test]
    fn no_text_of_a_broken_file_is_printed(
        noise in "[ -~\n]{0,20}",
        at in 0_usize..20,
    ) {
        let at = at.min(noise.len());
        let text = format!("a: 1\n{}\"{MARK}\"{}", &noise[..at], &noise[at..]);
        for result in [
            parse_yaml("a.yml", &text),
            parse_toml("a.toml", &text.replace(": ", " = ")),
            parse_pairs("a.env", &text),
        ] {
            match result {
                Ok(mut root) => {
                    let expanded = root.expand(&Environment::default(), Expansion::Braces);
                    if let Err(error) = expanded {
                        assert_hidden(&format!("{error:?}"), &text)?;
                    }
                }
                Err(error) => assert_hidden(&format!("{error:?}"), &text)?,
            }
        }
    }
}

proptest! {
    /// Whatever is written, the answer is settings or an error, never a panic.
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), ascii in "[ -~\n]{0,60}") {
        let environment = Environment::from_iter([("A", "a")]);
        for text in [&text, &ascii] {
            let trees =
                [parse_yaml("a", text), parse_toml("a", text), parse_pairs("a", text)];
            for mut root in trees.into_iter().flatten() {
                let expanded = root.expand(&environment, Expansion::Litestream);
                let settings = read(Store, &[Source::new(Store, root.entries())], &environment);
                prop_assert!(expanded.is_ok() || settings.is_ok() || settings.is_err());
            }
            let number = parse_duration(text).is_ok() || parse_size(text).is_ok();
            let store = resolve(&StoreRequest::new().store(Some(text.clone())), &environment);
            prop_assert!(!number || !text.trim().is_empty());
            prop_assert!(store.is_ok() || store.unwrap_err().message().is_some());
        }
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
