//! Which login is used when several are written, and what is missing to one that is half
//! written. The order is that of the page whose names are used.

use jetbridge_core::{Result, Secret};
use jetbridge_nats::Auth;

use super::draft::{Draft, FileOrText, Half, Mention};
use super::table::Dialect;
use super::url::UrlLogin;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Method {
    Credentials,
    Jwt,
    Nkey,
    Token,
    Url,
    UserPassword,
}

impl Dialect {
    /// First come, first served. The login of a URL comes last among what one source says, and
    /// before what an earlier source says.
    fn login_order(self) -> [Method; 5] {
        use Method::{Credentials, Jwt, Nkey, Token, UserPassword};
        match self {
            Self::Context => [UserPassword, Credentials, Nkey, Jwt, Token],
            Self::Evo | Self::Graft | Self::RateSync | Self::Store | Self::Variables => {
                [Credentials, Nkey, Jwt, Token, UserPassword]
            }
            Self::Link => [Jwt, Credentials, Nkey, Token, UserPassword],
            Self::Litestream => [Jwt, Credentials, Nkey, UserPassword, Token],
        }
    }
}

struct Candidate {
    method: Method,
    layer: usize,
    description: String,
}

/// Takes the login out of `draft`, if it has one; the text, if any, is a warning.
pub(super) fn take_login(
    draft: &mut Draft,
    dialect: Dialect,
) -> Result<(Option<Auth>, Option<String>)> {
    complete(draft, dialect)?;
    let url_login = draft.servers.value().and_then(|list| list.login.clone());
    let candidates = candidates(draft, dialect, url_login.as_ref());
    let warning = match candidates.as_slice() {
        [] | [_] => None,
        [used, others @ ..] => {
            let others: Vec<&str> =
                others.iter().map(|candidate| candidate.description.as_str()).collect();
            Some(format!(
                "{} and {} both log in; {} is used",
                used.description,
                others.join(" and "),
                used.description
            ))
        }
    };
    let auth = candidates.first().and_then(|it| take(draft, it.method, url_login));
    Ok((auth, warning))
}

/// The logins that are there, the one to use first.
fn candidates(draft: &Draft, dialect: Dialect, url_login: Option<&UrlLogin>) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = dialect
        .login_order()
        .into_iter()
        .filter_map(|method| {
            let mention = mention(draft, method)?;
            Some(Candidate { method, layer: mention.layer, description: mention.describe() })
        })
        .collect();
    if let (Some(login), Some(written)) = (url_login, draft.servers.written()) {
        let layer = written.mention.layer;
        let description = format!("{} ({})", login.describe(), written.mention.place);
        let candidate = Candidate { method: Method::Url, layer, description };
        let position = found.iter().rposition(|other| other.layer >= layer).map_or(0, |at| at + 1);
        found.insert(position, candidate);
    }
    found
}

fn mention(draft: &Draft, method: Method) -> Option<&Mention> {
    match method {
        Method::Credentials => draft.credentials.mention(),
        Method::Jwt => draft.jwt.mention(),
        Method::Nkey => draft.nkey.mention(),
        Method::Token => draft.token.mention(),
        Method::Url => None,
        Method::UserPassword => draft.user.mention(),
    }
}

fn take(draft: &mut Draft, method: Method, url_login: Option<UrlLogin>) -> Option<Auth> {
    Some(match method {
        Method::Credentials => match draft.credentials.take()? {
            FileOrText::File(path) => Auth::CredsFile(path),
            FileOrText::Text(text) => Auth::Creds(text),
        },
        Method::Jwt => Auth::Jwt { jwt: draft.jwt.take()?, seed: draft.seed.take()? },
        Method::Nkey => match draft.nkey.take()? {
            FileOrText::File(path) => Auth::NkeyFile(path),
            FileOrText::Text(seed) => Auth::NkeySeed(seed),
        },
        Method::Token => Auth::Token(draft.token.take()?),
        Method::Url => url_login?.into_auth(),
        Method::UserPassword => Auth::UserPassword {
            user: draft.user.take()?,
            password: draft.password.take().unwrap_or(Secret::new(String::new())),
        },
    })
}

/// Refuses a login of which a half is missing.
fn complete(draft: &Draft, dialect: Dialect) -> Result<()> {
    let (jwt, seed) = (draft.jwt.mention(), draft.seed.mention());
    let (user, password) = (draft.user.mention(), draft.password.mention());
    // The nats CLI takes a user without a password as one whose password is empty.
    let lone_user = user.filter(|_| dialect != Dialect::Context);
    [
        Half::of(jwt, seed, "seed", "a JWT logs in together with the seed of its key"),
        Half::of(seed, jwt, "jwt", "a seed without a JWT is written as an nkey"),
        Half::of(password, user, "username", "a password without a user is written as a token"),
        Half::of(
            lone_user,
            password,
            "password",
            "a user without a password is written as a token",
        ),
    ]
    .into_iter()
    .flatten()
    .try_for_each(|half| Err(half.problem(dialect)))
}
