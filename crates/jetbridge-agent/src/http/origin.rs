//! Whether a page of elsewhere asks, through the browser of somebody who visits it.
//!
//! Such a page can reach an address that only this machine has, in two ways: across origins, which
//! browsers say in `Sec-Fetch-Site` or `Origin`, and by a name of its own that it lets lead here,
//! which stands in `Host`. Programs send neither, and no page can change what a browser says.

use std::net::IpAddr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use jetbridge_core::ErrorKind;

use super::refusal::Refusal;

const SITE: &str = "sec-fetch-site";
const MODE: &str = "sec-fetch-mode";
const DESTINATION: &str = "sec-fetch-dest";
const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// By which names this server is asked, where no token says who asks.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    listen: IpAddr,
    names: Vec<String>,
}

impl Names {
    /// The address `listen`, names that only this machine has for itself, and `names`.
    pub(crate) fn new(listen: IpAddr, names: &[String]) -> Self {
        Self { listen, names: names.to_vec() }
    }

    /// Refuses requests by other names.
    pub(crate) fn check(&self, request: &Parts) -> Result<(), Refusal> {
        let several = request.headers.get_all(HOST).iter().count() > 1;
        // No browser leaves its name out.
        let Some(host) = host(request).filter(|_| !several) else {
            return if several { Err(Refusal::bad("`Host` is there twice")) } else { Ok(()) };
        };
        if self.know(host) {
            return Ok(());
        }
        let message = "without a token this is answered as localhost and 127.0.0.1 only";
        let misdirected = StatusCode::MISDIRECTED_REQUEST;
        Err(Refusal::new(misdirected, ErrorKind::PermissionDenied, message).hint(
            "ask by that name, or add this one to `names:` or set `token:` in the file's `http:`",
        ))
    }

    fn know(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host().to_ascii_lowercase();
        if let Ok(address) = name.trim_matches(['[', ']']).parse::<IpAddr>()
            && (address.is_loopback() || address == self.listen)
        {
            return true;
        }
        let is_ours = name == "localhost" || name.ends_with(".localhost");
        is_ours || self.names.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}

/// Refuses what another page made a browser ask. Whoever follows a link to here looks himself.
pub(crate) fn not_foreign(request: &Parts) -> Result<(), Refusal> {
    let is_foreign = match said(&request.headers, SITE) {
        Some("same-origin" | "none") => false,
        Some(_) => !is_looked_at(request),
        None => {
            said(&request.headers, ORIGIN.as_str()).is_some_and(|origin| !is_host(origin, request))
        }
    };
    if is_foreign { Err(foreign()) } else { Ok(()) }
}

/// Refuses what a browser does not say that a page of this server asks.
pub(crate) fn must_be_own(request: &Parts) -> Result<(), Refusal> {
    let is_own = match said(&request.headers, SITE) {
        Some(site) => site == "same-origin",
        None => {
            said(&request.headers, ORIGIN.as_str()).is_some_and(|origin| is_host(origin, request))
        }
    };
    if is_own { Ok(()) } else { Err(foreign()) }
}

fn foreign() -> Refusal {
    Refusal::forbidden("a page of elsewhere cannot ask this")
        .hint("open it in a window of its own, or ask with a program and a `token:`")
}

/// True if the answer fills a window, where the page that led there cannot see it.
fn is_looked_at(request: &Parts) -> bool {
    [Method::GET, Method::HEAD].contains(&request.method)
        && said(&request.headers, MODE) == Some("navigate")
        && said(&request.headers, DESTINATION) == Some("document")
}

/// True if `origin` is the server that is asked, by the name by which it is asked.
fn is_host(origin: &str, request: &Parts) -> bool {
    let asked = host(request).unwrap_or_default();
    let origin = origin.split_once("://").map_or("", |(_, rest)| rest);
    !asked.is_empty() && origin.eq_ignore_ascii_case(asked)
}

/// By which name, and port, the request asks.
fn host(request: &Parts) -> Option<&str> {
    let written = request.uri.authority().map(Authority::as_str);
    // What is no text is some name, though none of ours.
    let said = || request.headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    written.or_else(said)
}

fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// `answer`, which browsers give to no other page, not even as a picture.
pub(crate) fn kept_here(mut answer: Response) -> Response {
    answer.headers_mut().insert(POLICY, HeaderValue::from_static("same-origin"));
    answer
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn request(pairs: &[(&str, &str)]) -> Parts {
        let begun = Request::builder().method(Method::GET).uri("/");
        let all = pairs.iter().fold(begun, |it, (name, value)| it.header(*name, *value));
        all.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_names_of_this_machine_are_known() {
        let names = Names::new([10, 0, 0, 7].into(), &["Jet.example".to_owned()]);
        let known = |host: &str| names.check(&request(&[("host", host)])).is_ok();
        for host in [
            "127.0.0.1:4280",
            "localhost:4280",
            "LOCALHOST",
            "a.localhost",
            "[::1]:4280",
            "10.0.0.7",
            "jet.example:80",
        ] {
            assert!(known(host), "{host}");
        }
        for host in [
            "",
            "evil.example:4280",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "jet.example.evil.example",
            "10.0.0.8",
            "localhost@evil.example",
            "\u{e9}",
        ] {
            assert!(!known(host), "{host}");
        }
        assert!(names.check(&request(&[])).is_ok(), "no browser leaves it out");
        assert!(names.check(&request(&[("host", "localhost"), ("host", "localhost")])).is_err());
    }

    #[test]
    fn a_request_is_own_or_foreign_as_the_browser_says() {
        for (pairs, is_own, is_foreign) in [
            (&[][..], false, false),
            (&[("sec-fetch-site", "same-origin")], true, false),
            (&[("sec-fetch-site", "none")], false, false),
            (&[("origin", "http://127.0.0.1:4280")], true, false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:4280")], false, true),
            (&[("sec-fetch-site", "same-site")], false, true),
            (&[("sec-fetch-site", "\u{e9}")], false, true),
            (&[("origin", "http://evil.example")], false, true),
            (&[("origin", "http://127.0.0.1:3000")], false, true),
            (&[("origin", "null")], false, true),
        ] {
            let asked = request(&[&[("host", "127.0.0.1:4280")], pairs].concat());
            assert_eq!(must_be_own(&asked).is_ok(), is_own, "{pairs:?}");
            assert_eq!(not_foreign(&asked).is_err(), is_foreign, "{pairs:?}");
        }
    }
}
