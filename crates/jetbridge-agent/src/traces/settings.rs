//! What OpenTelemetry's standard variables say.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::uri::Scheme;
use axum::http::{HeaderName, HeaderValue, Uri};
use jetbridge::settings::Environment;
use jetbridge_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;

/// How long a collector may take, if nobody says: the standard's own.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// What the process calls itself, if nobody says.
const SERVICE_NAME_DEFAULT: &str = "jetbridge";

/// Where spans go, and how.
pub(super) struct Settings {
    pub(super) endpoint: Uri,
    /// They log in: never shown.
    pub(super) headers: HashMap<String, String>,
    pub(super) timeout: Duration,
    /// `None` if `OTEL_RESOURCE_ATTRIBUTES`, which the SDK reads, has it.
    pub(super) service_name: Option<String>,
}

impl Settings {
    /// `None` if no collector is named, or nothing is to be sent.
    pub(super) fn read(environment: &Environment) -> Result<Option<Self>> {
        let is_off = environment.get("OTEL_SDK_DISABLED");
        if is_off.is_some_and(|said| said.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match environment.get("OTEL_TRACES_EXPORTER") {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                let name = "OTEL_TRACES_EXPORTER";
                return Err(bad(name, &format!("there is no exporter `{other}`"))
                    .hint("`otlp` and `none` are there"));
            }
        }
        let Some(endpoint) = endpoint(environment)? else { return Ok(None) };
        if let Some((name, other)) =
            said(environment, "PROTOCOL").filter(|(_, protocol)| *protocol != "http/protobuf")
        {
            return Err(bad(&name, &format!("`{other}` is not spoken"))
                .hint("set `http/protobuf`, which collectors take at port 4318"));
        }
        let headers = said(environment, "HEADERS")
            .map(|(name, text)| headers(text).map_err(|why| bad(&name, why)))
            .transpose()?
            .unwrap_or_default();
        let timeout = said(environment, "TIMEOUT").map(|(name, text)| {
            let millis = text.parse().ok().filter(|millis| *millis > 0);
            millis.map(Duration::from_millis).ok_or_else(|| bad(&name, "it is no number of ms"))
        });
        Ok(Some(Self {
            endpoint,
            headers,
            timeout: timeout.transpose()?.unwrap_or(TIMEOUT_DEFAULT),
            service_name: service_name(environment),
        }))
    }
}

/// The variable of traces, else that of all signals, and its name.
fn said<'a>(environment: &'a Environment, what: &str) -> Option<(String, &'a str)> {
    let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
    names.into_iter().find_map(|name| {
        let value = environment.get(&name)?;
        Some((name, value))
    })
}

/// That of traces is meant as it is; below that of all signals, traces have a path.
fn endpoint(environment: &Environment) -> Result<Option<Uri>> {
    let Some((name, text)) = said(environment, "ENDPOINT") else { return Ok(None) };
    let text = match name.contains("TRACES") {
        true => text.to_owned(),
        false => format!("{}/v1/traces", text.trim_end_matches('/')),
    };
    // What it says may hold a password, and is not repeated.
    let uri: Uri = text.parse().map_err(|_error| bad(&name, "it is no URL"))?;
    if ![Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme()) {
        return Err(bad(&name, "it is no URL of HTTP").hint("write it as `http://HOST:4318`"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        let hint = "log in by `OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20…`";
        return Err(bad(&name, "nobody logs in by the URL").hint(hint));
    }
    Ok(Some(uri))
}

/// `name=value,…`, values percent-encoded.
fn headers(text: &str) -> Result<HashMap<String, String>, &'static str> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or("they are `name=value,name=value`")?;
        let value = percent_decode_str(value.trim()).decode_utf8();
        let value = value.map_err(|_bytes| "a value is not UTF-8 when decoded")?.into_owned();
        let name: HeaderName = name.trim().parse().map_err(|_error| "a name is none of HTTP")?;
        HeaderValue::from_str(&value).map_err(|_error| "a value is none of HTTP")?;
        Ok((name.to_string(), value))
    };
    pairs.map(header).collect()
}

fn service_name(environment: &Environment) -> Option<String> {
    if let Some(name) = environment.get("OTEL_SERVICE_NAME") {
        return Some(name.to_owned());
    }
    let attributes = environment.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let has = attributes.split(',').any(|pair| pair.trim().starts_with("service.name="));
    (!has).then(|| SERVICE_NAME_DEFAULT.to_owned())
}

fn bad(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "traces.start").because(format!("`{name}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>> {
        Settings::read(&variables.iter().copied().collect())
    }

    #[track_caller]
    fn check(variables: &[(&str, &str)], endpoint: Option<&str>) {
        let read = read(variables).unwrap().map(|settings| settings.endpoint.to_string());
        assert_eq!(read.as_deref(), endpoint, "{variables:?}");
    }

    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

    #[test]
    fn spans_go_where_the_variables_say() {
        check(&[], None);
        check(&[(ALL, "")], None);
        check(&[(ALL, "http://c:4318")], Some("http://c:4318/v1/traces"));
        check(&[(ALL, "https://c/otlp/")], Some("https://c/otlp/v1/traces"));
        check(&[(TRACES, "http://c/as/it/is")], Some("http://c/as/it/is"));
        check(&[(ALL, "http://a"), (TRACES, "http://b")], Some("http://b/"));
        check(&[(ALL, "http://a"), ("OTEL_TRACES_EXPORTER", "none")], None);
        check(&[(ALL, "http://a"), ("OTEL_SDK_DISABLED", "true")], None);
    }

    #[test]
    fn what_cannot_be_had_is_named_and_no_secret_is() {
        for (name, value) in [
            (ALL, "c:4318"),
            (ALL, "ftp://s3cr3t"),
            (TRACES, "http://me:s3cr3t@c"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cr3t"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cr3t%0a"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
        ] {
            let all = [(ALL, "http://c"), (name, value)];
            let Err(error) = read(&all) else { panic!("{name}={value} is taken") };
            let words = error.message().unwrap();
            assert!(words.contains(name) && !words.contains("s3cr3t"), "{words}");
        }
    }

    #[test]
    fn headers_are_decoded_and_those_of_traces_count() {
        let settings = read(&[
            (ALL, "http://c"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x=y"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=Bearer%20s, x-team = a=b ,"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ]);
        let settings = settings.unwrap().unwrap();
        let header = |name: &str| settings.headers.get(name).map(String::as_str);
        assert_eq!((header("authorization"), header("x-team")), (Some("Bearer s"), Some("a=b")));
        assert_eq!(settings.headers.len(), 2);
        assert_eq!(settings.timeout, Duration::from_millis(1500));
    }

    #[test]
    fn a_process_has_a_name() {
        let name = |variables: &[(&str, &str)]| service_name(&variables.iter().copied().collect());
        assert_eq!(name(&[]).as_deref(), Some("jetbridge"));
        assert_eq!(name(&[("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=c")]), None);
        let both = [("OTEL_SERVICE_NAME", "d"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=c")];
        assert_eq!(name(&both).as_deref(), Some("d"));
    }
}
