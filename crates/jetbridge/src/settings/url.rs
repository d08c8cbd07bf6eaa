//! Addresses of NATS servers as users write them: with or without a scheme, alone or as a list,
//! with user information, which is taken out and never printed.

use jetbridge_core::Secret;

use super::place::Problem;

/// What a list of server addresses says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServerList {
    /// One address each: scheme, host and port, without user information.
    pub(super) servers: Vec<String>,
    /// The login of the list, if it has one.
    pub(super) login: Option<UrlLogin>,
    /// What follows the last address, without its `/`: Litestream keeps the bucket there.
    pub(super) path: Option<String>,
    /// The options after `?`, decoded, in order.
    pub(super) query: Vec<(String, Secret<String>)>,
}

impl ServerList {
    /// The first scheme of the list that is always encrypted.
    pub(super) fn encrypted(&self) -> Option<&'static str> {
        let has = |scheme: &&str| self.servers.iter().any(|server| server.starts_with(*scheme));
        ["tls://", "wss://"].into_iter().find(has)
    }
}

/// A login written into an address.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum UrlLogin {
    Token(Secret<String>),
    UserPassword { user: String, password: Secret<String> },
}

/// Schemes of NATS servers, with the port that each has when none is written.
const SCHEMES: &[(&str, u16)] = &[("nats", 4222), ("tls", 4222), ("ws", 80), ("wss", 443)];

/// The port of a URL is the protocol's own: beyond it, addresses have the scheme of the list.
const SCHEME_DEFAULT: &str = "nats";

const ENCODE_HINT: &str = "write special characters of a user name, password or token as %XX: \
                           `@` is %40, `/` is %2F, `:` is %3A, `,` is %2C, `%` is %25";

/// Reads one address or a comma list of them. The text of an error never shows what stands
/// before an `@` or after a `?`.
pub(super) fn parse_servers(text: &str) -> Result<ServerList, Problem> {
    let fail = |why: &str| Problem::new(format!("`{}`: {why}", redact(text)));
    let (addresses, query) = text.split_once('?').unwrap_or((text, ""));
    if query.contains('@') {
        return Err(fail("an `@` follows a `?`").hint(ENCODE_HINT));
    }
    let query = parse_query(query).map_err(|problem| fail(&problem.message))?;
    let mut list = ServerList {
        query: query.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
        ..ServerList::default()
    };
    let mut scheme = SCHEME_DEFAULT;
    let parts: Vec<&str> =
        addresses.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 && part.contains('@') && !part.contains("://") {
            return Err(fail("an `@` follows a `,`").hint(ENCODE_HINT));
        }
        let address = Address::parse(part, scheme).map_err(|problem| Problem {
            message: fail(&problem.message).message,
            hint: problem.hint,
        })?;
        scheme = address.scheme;
        list.servers.push(address.server);
        match (&list.login, address.login) {
            (Some(known), Some(other)) if *known != other => {
                return Err(fail("the servers of one list have different logins")
                    .hint("write the login once, before the first server"));
            }
            (None, login) => list.login = login,
            _ => {}
        }
        match address.path {
            Some(_) if index + 1 < parts.len() => {
                return Err(fail("only the last server of a list may be followed by a path"));
            }
            path => list.path = path,
        }
    }
    if list.servers.is_empty() {
        return Err(fail("there is no server in it").hint("write it as `nats://host:4222`"));
    }
    let websockets = list.servers.iter().filter(|server| server.starts_with("ws")).count();
    if websockets != 0 && websockets != list.servers.len() {
        return Err(fail("a list is of WebSocket addresses or of others, not of both"));
    }
    Ok(list)
}

struct Address<'a> {
    scheme: &'a str,
    server: String,
    login: Option<UrlLogin>,
    path: Option<String>,
}

impl<'a> Address<'a> {
    fn parse(part: &'a str, scheme_before: &'a str) -> Result<Self, Problem> {
        let (scheme, rest) = match part.split_once("://") {
            Some((scheme, rest)) => (known_scheme(scheme, rest)?, rest),
            None => (scheme_before, part),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        if path.is_some_and(|path| path.contains('@')) {
            return Err(Problem::new("an `@` follows a `/`").hint(ENCODE_HINT));
        }
        let (login, host_port) = match authority.rsplit_once('@') {
            Some((login, host_port)) => (parse_login(login)?, host_port),
            None => (None, authority),
        };
        let port_default =
            SCHEMES.iter().find(|(name, _)| *name == scheme).map_or(0, |(_, port)| *port);
        let (host, port) = parse_host(host_port, port_default)?;
        Ok(Self {
            scheme,
            server: format!("{scheme}://{}:{port}", dialable(host)),
            login,
            path: path.map(str::to_owned).filter(|path| !path.is_empty()),
        })
    }
}

fn known_scheme(written: &str, rest: &str) -> Result<&'static str, Problem> {
    let names = || SCHEMES.iter().map(|(name, _)| *name);
    if let Some(name) = names().find(|name| written.eq_ignore_ascii_case(name)) {
        return Ok(name);
    }
    let near = super::place::nearest(written, names());
    // What looks like no scheme at all may be a part of a login.
    let shown = if near.is_none() && rest.contains('@') { "***" } else { written };
    let problem = Problem::new(format!("`{shown}` is not a scheme of NATS servers"));
    Err(match near {
        Some(name) => problem.hint(format!("did you mean `{name}://`?")),
        None => problem.hint("servers are `nats://`, `tls://`, `ws://` or `wss://`"),
    })
}

/// `user:password` or a token; nothing at all is no login.
fn parse_login(text: &str) -> Result<Option<UrlLogin>, Problem> {
    let decode = |text| percent_decode(text).map_err(|problem| problem.hint(ENCODE_HINT));
    Ok(match text.split_once(':') {
        Some((user, password)) => Some(UrlLogin::UserPassword {
            user: decode(user)?,
            password: Secret::new(decode(password)?),
        }),
        None if text.is_empty() => None,
        None => Some(UrlLogin::Token(Secret::new(decode(text)?))),
    })
}

fn parse_host(text: &str, port_default: u16) -> Result<(&str, u16), Problem> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) =
                rest.split_once(']').ok_or_else(|| Problem::new("`[` without its `]`"))?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(Problem::new("what stands in `[]` is not an IPv6 address"));
            }
            (&text[..address.len() + 2], after.strip_prefix(':'))
        }
        None if text.matches(':').count() > 1 => {
            return Err(Problem::new("the host has more than one `:`")
                .hint("an IPv6 address is written in brackets: `[::1]:4222`"));
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(Problem::new("a server has no host").hint("write it as `nats://host:4222`"));
    }
    if !host.starts_with('[') && !host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c)) {
        return Err(Problem::new("a host has a character that no host name has").hint(ENCODE_HINT));
    }
    match port {
        None | Some("") => Ok((host, port_default)),
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host, port)),
            _ => Err(Problem::new("a port is not a number from 1 to 65535").hint(ENCODE_HINT)),
        },
    }
}

/// The address that a server listening on every interface is reached at from this machine.
fn dialable(host: &str) -> &str {
    match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        other => other,
    }
}

/// Decodes `a=b&c=d`; a name alone has the value `true`.
pub(super) fn parse_query(text: &str) -> Result<Vec<(String, String)>, Problem> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            Ok((percent_decode(name)?, percent_decode(value)?))
        })
        .collect()
}

fn percent_decode(text: &str) -> Result<String, Problem> {
    let bad = || Problem::new("a `%` is not followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let digits = after.get(..2).ok_or_else(bad)?;
        let high = hex_value(digits[0]).ok_or_else(bad)?;
        let low = hex_value(digits[1]).ok_or_else(bad)?;
        bytes.push(high << 4 | low);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_bytes| Problem::new("what `%XX` stands for is not UTF-8"))
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// A URL with everything that can be a secret replaced: what stands before the last `@`, after
/// the scheme, and what stands after the first `?`.
pub(super) fn redact(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !rest.contains('@') || is_near_a_scheme(scheme) => (scheme, rest),
        _ => ("", text),
    };
    let (login, visible) = match rest.rsplit_once('@') {
        // Whether that `?` begins the options or belongs to a password, nobody can tell.
        Some((hidden, _)) if hidden.contains('?') => ("***", ""),
        Some((_, visible)) => ("***@", visible),
        None => ("", rest),
    };
    let separator = if scheme.is_empty() { "" } else { "://" };
    match visible.split_once('?') {
        Some((visible, _)) => format!("{scheme}{separator}{login}{visible}?***"),
        None => format!("{scheme}{separator}{login}{visible}"),
    }
}

fn is_near_a_scheme(text: &str) -> bool {
    super::place::nearest(text, SCHEMES.iter().map(|(name, _)| *name)).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(text: &str) -> Vec<String> {
        parse_servers(text).unwrap().servers
    }

    #[test]
    fn addresses_have_a_scheme_and_a_port() {
        for (text, server) in [
            ("nats://a:4223", "nats://a:4223"),
            ("nats://connect.ngs.global", "nats://connect.ngs.global:4222"),
            ("a:4223", "nats://a:4223"),
            ("a", "nats://a:4222"),
            ("tls://a", "tls://a:4222"),
            ("WS://a", "ws://a:80"),
            ("wss://a", "wss://a:443"),
            ("nats://[::1]:4223", "nats://[::1]:4223"),
            ("[fe80::1]", "nats://[fe80::1]:4222"),
            ("0.0.0.0:4222", "nats://127.0.0.1:4222"),
            ("nats://0.0.0.0", "nats://127.0.0.1:4222"),
            ("[::]:4222", "nats://[::1]:4222"),
            ("nats://a:", "nats://a:4222"),
            ("nats://a/", "nats://a:4222"),
        ] {
            assert_eq!(servers(text), [server], "{text}");
        }
    }

    #[test]
    fn a_list_may_repeat_the_scheme() {
        let both = ["nats://n1:4222", "nats://n2:4222"];
        assert_eq!(servers("nats://n1:4222,nats://n2:4222"), both);
        assert_eq!(servers("nats://n1:4222, n2:4222"), both);
        assert_eq!(servers("n1,n2,"), both);
        assert_eq!(servers("tls://n1,n2"), ["tls://n1:4222", "tls://n2:4222"]);
        assert_eq!(servers("nats://n1,tls://n2"), ["nats://n1:4222", "tls://n2:4222"]);
    }

    #[test]
    fn a_login_is_taken_out_and_decoded() {
        let list = parse_servers("nats://ada:p%40ss%3Aw@n1,n2").unwrap();
        assert_eq!(list.servers, ["nats://n1:4222", "nats://n2:4222"]);
        let password = Secret::new("p@ss:w".to_owned());
        assert_eq!(list.login, Some(UrlLogin::UserPassword { user: "ada".into(), password }));
        let list = parse_servers("nats://my%2Ctoken@n1,nats://my%2Ctoken@n2").unwrap();
        assert_eq!(list.login, Some(UrlLogin::Token(Secret::new("my,token".into()))));
        let list = parse_servers("nats://user:p@ss@host").unwrap();
        assert_eq!(list.servers, ["nats://host:4222"], "the last `@` ends the login");
    }

    #[test]
    fn a_path_and_options_may_follow() {
        let list =
            parse_servers("nats://a:1,b:2/backups?tls_first&creds=%2Fetc%2Fa.creds").unwrap();
        assert_eq!(list.path.as_deref(), Some("backups"));
        let option = |name: &str, value: &str| (name.to_owned(), Secret::new(value.to_owned()));
        assert_eq!(list.query, [option("tls_first", "true"), option("creds", "/etc/a.creds")]);
    }

    #[test]
    fn errors_name_the_place_and_hide_the_login() {
        for (text, message) in [
            ("", "``: there is no server in it"),
            ("nats://", "`nats://`: a server has no host"),
            ("nats://:4222", "`nats://:4222`: a server has no host"),
            ("nats://a:x", "`nats://a:x`: a port is not a number from 1 to 65535"),
            ("nats://a:0", "`nats://a:0`: a port is not a number from 1 to 65535"),
            ("nats://a:70000", "`nats://a:70000`: a port is not a number from 1 to 65535"),
            ("nats://::1", "`nats://::1`: the host has more than one `:`"),
            ("nats://[::1", "`nats://[::1`: `[` without its `]`"),
            ("nats://[x]", "`nats://[x]`: what stands in `[]` is not an IPv6 address"),
            ("nast://a", "`nast://a`: `nast` is not a scheme of NATS servers"),
            ("nats://u:p%zz@a", "`nats://***@a`: a `%` is not followed by two hexadecimal digits"),
            ("nats://u:p%ff@a", "`nats://***@a`: what `%XX` stands for is not UTF-8"),
            ("nats://u:a/b@h", "`nats://***@h`: an `@` follows a `/`"),
            (
                "nats://a/x,b",
                "`nats://a/x,b`: only the last server of a list may be followed by a path",
            ),
            ("nats://u:a,b@h", "`nats://***@h`: a port is not a number from 1 to 65535"),
            ("nats://a,b@h", "`nats://***@h`: an `@` follows a `,`"),
            (
                "nats://t@a,nats://u@b",
                "`nats://***@b`: the servers of one list have different logins",
            ),
            (
                "ws://a,nats://b",
                "`ws://a,nats://b`: a list is of WebSocket addresses or of others, not of both",
            ),
            ("nats://a b", "`nats://a b`: a host has a character that no host name has"),
        ] {
            assert_eq!(parse_servers(text).unwrap_err().message, message);
        }
        let hint = |text| parse_servers(text).unwrap_err().hint.unwrap();
        assert_eq!(hint("nast://a"), "did you mean `nats://`?");
        assert_eq!(hint("http://a"), "servers are `nats://`, `tls://`, `ws://` or `wss://`");
        assert_eq!(hint("nats://::1"), "an IPv6 address is written in brackets: `[::1]:4222`");
        assert_eq!(hint("nats://u:a/b@h"), ENCODE_HINT);
    }

    proptest! {
        /// Whatever stands before the `@` or after the `?`, in whatever state the rest is.
        #[test]
        fn no_secret_is_printed(
            secret in "[A-Za-z0-9:/?#%,@\\[\\] ]{0,6}zQ7[A-Za-z0-9:/?#%,@\\[\\] ]{0,6}",
            scheme in "(nats://|tls://|nast://|)",
            host in "(h|h:1|h:x|\\[::1|)",
        ) {
            for text in [
                format!("{scheme}{secret}@{host}"),
                format!("{scheme}u:{secret}@{host}"),
                format!("{scheme}a,u:{secret}@{host}"),
                format!("{scheme}u:{secret}@a,b/p"),
            ] {
                let shown = match parse_servers(&text) {
                    Ok(list) => format!("{list:?}"),
                    Err(problem) => format!("{problem:?}"),
                };
                let visible = shown.contains("zQ7");
                // Decoded user names are not secret; everything else before the `@` is.
                let as_user_name = matches!(
                    parse_servers(&text).ok().and_then(|list| list.login),
                    Some(UrlLogin::UserPassword { user, .. }) if user.contains("zQ7")
                );
                prop_assert!(!visible || as_user_name, "{text} shows {shown}");
            }
            let text = format!("{scheme}{host}?token={secret}");
            let names_it = |(name, _): &(String, _)| name.contains("zQ7");
            let parsed = parse_servers(&text);
            if !parsed.as_ref().is_ok_and(|list| list.query.iter().any(names_it)) {
                prop_assert!(!format!("{parsed:?}").contains("zQ7"), "{text} shows {parsed:?}");
            }
        }
    }
}
