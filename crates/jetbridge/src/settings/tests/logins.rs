//! Which login is used when several are written.

use jetbridge_nats::Auth;

use super::*;
use crate::settings::Dialect::{Evo, Link, Litestream};

/// Every login at once.
fn all() -> String {
    format!(
        "creds: DIR/app.creds\nnkey: {SEED}\njwt: eyJ\nseed: {SEED}\ntoken: t\nusername: u\n\
         password: p\nserver: nats://x:y@a\n"
    )
}

fn name(auth: &Auth) -> &'static str {
    match auth {
        Auth::CredsFile(_) => "creds",
        Auth::Jwt { .. } => "jwt",
        Auth::NkeySeed(_) => "nkey",
        Auth::Token(_) => "token",
        Auth::UserPassword { user, .. } if user == "x" => "url",
        Auth::UserPassword { .. } => "user",
        _ => "none",
    }
}

#[test]
fn the_order_is_the_pages() {
    let files = Files::new();
    for (dialect, order) in [
        (Evo, ["creds", "nkey", "jwt", "token", "user", "url", "none"]),
        (Litestream, ["jwt", "creds", "nkey", "user", "token", "url", "none"]),
        (Link, ["jwt", "creds", "nkey", "token", "user", "url", "none"]),
    ] {
        let mut yaml = all();
        for expected in order {
            let settings = files.yaml(dialect, &yaml).unwrap();
            let used = name(&settings.connect.auth);
            assert_eq!(used, expected, "{dialect:?} with {yaml}");
            // What was used is taken away; the next one has its turn.
            let keys: &[&str] = match used {
                "jwt" => &["jwt", "seed"],
                "user" => &["username", "password"],
                "url" => &["server"],
                other => &[other],
            };
            let others =
                yaml.lines().filter(|line| !keys.contains(&line.split(':').next().unwrap()));
            yaml = others.map(|line| format!("{line}\n")).collect();
        }
    }
}

#[test]
fn two_logins_are_a_warning_that_names_both() {
    let files = Files::new();
    let settings = files.yaml(Evo, "token: t\ncreds: DIR/app.creds\n").unwrap();
    let warning = "`creds` (app.yml:2:1) and `token` (app.yml:1:1) both log in; \
                   `creds` (app.yml:2:1) is used";
    assert_eq!(settings.warnings, [warning]);
    let settings = files.yaml(Evo, "server: nats://t@a\ntoken: u\n").unwrap();
    let warning = "`token` (app.yml:2:1) and the token of the URL (app.yml:1:1) both log in; \
                   `token` (app.yml:2:1) is used";
    assert_eq!(settings.warnings, [warning]);
    let settings = files.yaml(Evo, "server: nats://u:p@a\n").unwrap();
    assert_eq!(settings.warnings, [""; 0], "one login is none too many");
}

#[test]
fn the_login_of_a_url_beats_what_weaker_sources_say() {
    let files = Files::new();
    let environment = files.environment(&[("NATS_CREDS", "DIR/app.creds")]);
    let yaml = parse_yaml("app.yml", "server: nats://x:y@a").unwrap();
    let sources = [Source::variables(&environment), Source::new(Evo, yaml.entries())];
    let settings = read(Evo, &sources, &environment).unwrap();
    assert_eq!(name(&settings.connect.auth), "url");
    let warning = "the user and password of the URL (app.yml:1:1) and `NATS_CREDS` both log in; \
                   the user and password of the URL (app.yml:1:1) is used";
    assert_eq!(settings.warnings, [warning]);
}
