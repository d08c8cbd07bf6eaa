//! Logging in. The server sends a challenge at every connect, and so the credentials are looked
//! at anew each time: a file that was rotated takes effect with the next reconnect.

use std::path::Path;

use async_nats::AuthError;
use nkeys::KeyPair;

use jetbridge_core::{Error, ErrorKind, Result};

use crate::options::Auth;

const OPERATION: &str = "nats.login";

/// What the server asks for, made from `auth` and the server's challenge `nonce`.
pub(crate) async fn answer(
    auth: &Auth,
    nonce: &[u8],
) -> std::result::Result<async_nats::Auth, AuthError> {
    credentials(auth, nonce).await.map_err(AuthError::new)
}

/// Fails early on what could never work: an unreadable file, a seed that is none.
pub(crate) async fn check(auth: &Auth) -> Result<()> {
    credentials(auth, b"").await.map(drop)
}

async fn credentials(auth: &Auth, nonce: &[u8]) -> Result<async_nats::Auth> {
    let mut answer = async_nats::Auth::new();
    match auth {
        Auth::None => {}
        Auth::Token(token) => answer.token = Some(token.expose().clone()),
        Auth::UserPassword { user, password } => {
            answer.username = Some(user.clone());
            answer.password = Some(password.expose().clone());
        }
        Auth::NkeySeed(seed) => sign_with_nkey(&mut answer, seed.expose(), nonce)?,
        Auth::NkeyFile(path) => {
            let text = read(path).await?;
            let seed = find_seed(&text).ok_or_else(|| no_seed().with("file", path.display()))?;
            sign_with_nkey(&mut answer, seed, nonce)?;
        }
        Auth::Jwt { jwt, seed } => {
            answer.signature = Some(sign(&key_pair(seed.expose())?, nonce)?);
            answer.jwt = Some(jwt.expose().trim().to_owned());
        }
        Auth::Creds(text) => sign_with_creds(&mut answer, text.expose(), nonce)?,
        Auth::CredsFile(path) => {
            let text = read(path).await?;
            sign_with_creds(&mut answer, &text, nonce)
                .map_err(|error| error.with("file", path.display()))?;
        }
    }
    Ok(answer)
}

async fn read(path: &Path) -> Result<String> {
    tokio::fs::read_to_string(path).await.map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("cannot read the credentials")
            .with("file", path.display())
            .caused_by(cause)
    })
}

fn sign_with_nkey(answer: &mut async_nats::Auth, seed: &str, nonce: &[u8]) -> Result<()> {
    let pair = key_pair(seed)?;
    answer.signature = Some(sign(&pair, nonce)?);
    answer.nkey = Some(pair.public_key());
    Ok(())
}

fn sign_with_creds(answer: &mut async_nats::Auth, text: &str, nonce: &[u8]) -> Result<()> {
    let jwt = find_jwt(text).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("the credentials hold no user JWT")
            .hint("`nsc generate creds` and `nats auth user credential` write such files")
    })?;
    let seed = find_seed(text).ok_or_else(no_seed)?;
    answer.signature = Some(sign(&key_pair(seed)?, nonce)?);
    answer.jwt = Some(jwt.to_owned());
    Ok(())
}

fn no_seed() -> Error {
    Error::new(ErrorKind::InvalidInput, OPERATION)
        .because("the credentials hold no nkey seed (a line that begins with `S`)")
}

/// The JWT of a creds file: its armour is decoration, a JWT is a line of three parts by dots.
fn find_jwt(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| line.starts_with("eyJ") && line.split('.').count() == 3)
}

/// The seed of a creds or seed file: a line that begins with `S` and is all base 32.
fn find_seed(text: &str) -> Option<&str> {
    let base32 = |c: u8| c.is_ascii_uppercase() || (b'2'..=b'7').contains(&c);
    text.lines().map(str::trim).find(|line| {
        line.len() > SEED_BYTES_MIN && line.starts_with('S') && line.bytes().all(base32)
    })
}

/// A seed has 58 characters; what is much shorter is a word.
const SEED_BYTES_MIN: usize = 50;

fn key_pair(seed: &str) -> Result<KeyPair> {
    // The cause may quote the seed, so it is not kept.
    KeyPair::from_seed(seed.trim()).map_err(|_may_quote_the_seed| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("the nkey seed is not valid")
            .hint("a user's seed begins with `SU` and has 58 characters")
    })
}

fn sign(pair: &KeyPair, nonce: &[u8]) -> Result<Vec<u8>> {
    pair.sign(nonce).map_err(|cause| {
        Error::new(ErrorKind::InvalidInput, OPERATION)
            .because("the nkey cannot sign")
            .caused_by(cause.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jetbridge_core::Secret;

    #[tokio::test]
    async fn creds_text_is_found_in_its_armour() {
        let pair = KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJh.eyJi.c2ln\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
        );
        let auth = answer(&Auth::Creds(Secret::new(text)), b"nonce").await.unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("eyJh.eyJi.c2ln"));
        pair.verify(b"nonce", &auth.signature.unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_bad_seed_is_refused_without_being_quoted() {
        let seed = "SUABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRSTUVWX";
        let error = check(&Auth::NkeySeed(Secret::new(seed.to_owned()))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!format!("{error:?}").contains(seed));
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = check(&Auth::CredsFile("/nowhere/u.creds".into())).await.unwrap_err();
        assert_eq!(error.fact("file"), Some("/nowhere/u.creds"));
    }
}
