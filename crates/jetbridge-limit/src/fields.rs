//! A decision as fields of an HTTP answer: those of the IETF's draft (draft-ietf-httpapi-
//! ratelimit-headers) and those that everybody had before. Pure texts; whoever has an answer puts
//! them in.

use std::time::{Duration, SystemTime};

use crate::decision::Decision;
use crate::policy::Policy;

/// The fields of an answer that `decision` goes with. `name` is the limiter's, `now` the wall
/// time, which `X-RateLimit-Reset` counts in. A denial has `Retry-After`, and all fields name the
/// same moment then.
///
/// ```
/// # async fn demo() -> jetbridge_core::Result<()> {
/// # use std::{sync::Arc, time::SystemTime};
/// # use jetbridge_core::{BucketName, BucketSpec, MemoryBackend, Open};
/// # use jetbridge_limit::{Limits, Policy, fields};
/// # let bucket = BucketName::parse("rate_limits")?;
/// # let open = Open::ensure(BucketSpec::default());
/// # let limits = Limits::open(Arc::new(MemoryBackend::new()), &bucket, open).await?;
/// let api = limits.limiter("api", Policy::per_second(10.0)?.burst(100)?)?;
/// let decision = api.try_acquire().await?.decision;
/// let fields = fields("api", api.policy(), &decision, SystemTime::UNIX_EPOCH);
/// assert_eq!(fields[0], ("RateLimit-Policy", "\"api\";q=100;w=10".to_owned()));
/// assert_eq!(fields[1], ("RateLimit", "\"api\";r=99;t=1".to_owned()));
/// # Ok(()) }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
/// #     .block_on(demo()).unwrap();
/// ```
pub fn fields(
    name: &str,
    policy: &Policy,
    decision: &Decision,
    now: SystemTime,
) -> Vec<(&'static str, String)> {
    let name = quoted(name);
    let limit = decision.limit;
    let mut written = format!("{name};q={limit}");
    if let Some(window) = policy.window() {
        written.push_str(&format!(";w={}", seconds(window).max(1)));
    }
    let left = if decision.allowed { decision.remaining } else { 0 };
    let after = if decision.allowed { decision.reset_after } else { decision.retry_after };
    let reset = now.checked_add(after).unwrap_or(now);
    let reset = reset.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut fields = vec![
        ("RateLimit-Policy", written),
        ("RateLimit", format!("{name};r={left};t={}", seconds(after))),
        ("X-RateLimit-Limit", limit.to_string()),
        ("X-RateLimit-Remaining", left.to_string()),
        ("X-RateLimit-Reset", seconds(reset).to_string()),
    ];
    if !decision.allowed {
        fields.push(("Retry-After", seconds(after).max(1).to_string()));
    }
    fields
}

/// Whole seconds, upwards: who comes back then does not come too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A string of structured fields, which has no characters beyond ASCII.
fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Source;

    #[test]
    fn a_denial_names_one_moment_everywhere_and_a_name_cannot_end_its_quotes() {
        let decision = Decision {
            allowed: false,
            limit: 5,
            remaining: 0,
            retry_after: Duration::from_millis(1500),
            reset_after: Duration::from_secs(60),
            source: Source::Store,
        };
        let policy = Policy::sliding_log(5, Duration::from_secs(60)).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let fields = fields("a\"b\r\né", &policy, &decision, now);
        let expected = [
            ("RateLimit-Policy", r#""a\"b???";q=5;w=60"#),
            ("RateLimit", r#""a\"b???";r=0;t=2"#),
            ("X-RateLimit-Limit", "5"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", "1002"),
            ("Retry-After", "2"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name, value.to_owned())));
    }
}
