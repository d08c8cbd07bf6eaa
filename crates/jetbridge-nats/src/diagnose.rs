//! What people trip over, looked at one after the other, each with what to do about it.

use std::time::Duration;

use tokio::time::Instant;

use jetbridge_core::{Check, Clock as _, ErrorKind, StoreStatus, SystemClock, Verdict};

use crate::api::Api;
use crate::clock::Witness;
use crate::options::{Auth, ConnectOptions};
use crate::probe::Probe;
use crate::request::{Call, Repeat, is_no_responders};
use crate::waiters::Phase;
use crate::wire::AccountInfo;

/// How long one check may take.
const CHECK_WITHIN: Duration = Duration::from_secs(5);
/// Clocks that are further apart than this confuse people who compare logs.
const CLOCK_APART_MAX: Duration = Duration::from_secs(2);
/// Use of a limit from which on it is worth a word, in per cent.
const USE_WARNS: u64 = 90;

/// What is looked at.
pub(crate) struct Patient<'a> {
    pub(crate) api: &'a Api,
    pub(crate) options: &'a ConnectOptions,
    pub(crate) witness: &'a Witness,
    pub(crate) probe: &'a Probe,
}

fn call(operation: &'static str) -> Call {
    Call::new(operation, Repeat::Safe, CHECK_WITHIN)
}

impl Patient<'_> {
    /// All checks. Those that need a connection are left out if there is none.
    pub(crate) async fn examine(&self) -> Vec<Check> {
        let connection = self.connection().await;
        let connected = connection.verdict == Verdict::Passes;
        let mut checks = vec![connection, self.login(), self.encryption()];
        if connected {
            let jetstream = self.jetstream().await;
            let works = jetstream.iter().all(|check| check.verdict != Verdict::Fails);
            checks.extend(jetstream);
            // Only JetStream tells the time.
            if works {
                checks.push(self.clock().await);
            }
        }
        checks
    }

    async fn connection(&self) -> Check {
        const NAME: &str = "connection";
        let link = self.api.link();
        let start = Instant::now();
        match link.barrier(&call("nats.diagnose")).await {
            Ok(()) => {
                let info = link.client().server_info();
                let detail = format!(
                    "nats-server {} `{}` answers in {:?}",
                    info.version,
                    info.server_name,
                    start.elapsed()
                );
                Check::new(NAME, Verdict::Passes, detail)
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let subject = error.fact("subject").unwrap_or_default();
                Check::new(NAME, Verdict::Fails, format!("answers are denied: {subject}"))
                    .hint("allow the user to subscribe to its inbox, or set the inbox prefix")
            }
            Err(error) => {
                let reason = match &link.now().phase {
                    Phase::Offline(reason) => reason.clone(),
                    Phase::Online | Phase::Closed => error.to_string(),
                };
                Check::new(NAME, Verdict::Fails, format!("{}: {reason}", link.location()))
                    .hint("is the server up, and are address and port right?")
            }
        }
    }

    fn login(&self) -> Check {
        const NAME: &str = "login";
        let how = match &self.options.auth {
            Auth::None => "nobody",
            Auth::Token(_) => "token",
            Auth::UserPassword { .. } => "user and password",
            Auth::NkeySeed(_) | Auth::NkeyFile(_) => "nkey",
            Auth::Jwt { .. } => "JWT and seed",
            Auth::Creds(_) | Auth::CredsFile(_) => "credentials file",
        };
        let reason = match &self.api.link().now().phase {
            Phase::Offline(reason) => reason.to_lowercase(),
            Phase::Online | Phase::Closed => String::new(),
        };
        if reason.contains("authori") || reason.contains("nonce") {
            return Check::new(NAME, Verdict::Fails, format!("refused as {how}: {reason}"))
                .hint("check user, password, token or credentials file");
        }
        Check::new(NAME, Verdict::Passes, format!("as {how}"))
    }

    fn encryption(&self) -> Check {
        const NAME: &str = "encryption";
        let tls = &self.options.tls;
        let servers = &self.options.servers;
        let encrypted = tls.required
            || tls.handshake_first
            || servers.iter().all(|it| it.starts_with("tls://") || it.starts_with("wss://"))
            || self.api.link().client().server_info().tls_required;
        if tls.insecure {
            return Check::new(NAME, Verdict::Warns, "the server's certificate is not checked")
                .hint("give the authority's certificate instead");
        }
        if encrypted {
            return Check::new(NAME, Verdict::Passes, "encrypted");
        }
        if matches!(self.options.auth, Auth::Token(_) | Auth::UserPassword { .. }) {
            return Check::new(NAME, Verdict::Warns, "secrets travel in the clear")
                .hint("use `tls://`, or a login by nkey or JWT, which sends no secret");
        }
        Check::new(NAME, Verdict::Passes, "not encrypted")
    }

    async fn jetstream(&self) -> Vec<Check> {
        const NAME: &str = "jetstream";
        match self.probe.ask(self.api, &call("nats.diagnose")).await {
            Ok(Some(account)) => {
                let detail = format!(
                    "API level {}, {} streams, {} consumers",
                    account.api.level, account.streams, account.consumers
                );
                vec![Check::new(NAME, Verdict::Passes, detail), limits(&account)]
            }
            Ok(None) => {
                vec![
                    Check::new(NAME, Verdict::Warns, "the user may not ask about the account")
                        .hint("allow to publish `$JS.API.INFO`; nothing else needs it"),
                ]
            }
            Err(error) if is_no_responders(&error) || error.kind() == ErrorKind::Unsupported => {
                let detail = error.message().unwrap_or("nobody answers").to_owned();
                vec![
                    Check::new(NAME, Verdict::Fails, detail)
                        .hint("enable JetStream on the server and for the account"),
                ]
            }
            Err(error) => vec![Check::new(NAME, Verdict::Fails, error.to_string())],
        }
    }

    async fn clock(&self) -> Check {
        const NAME: &str = "clock";
        match self.witness.now(self.api, &call("nats.diagnose")).await {
            Ok(store) => {
                let ours = SystemClock.now();
                let apart = ours.duration_since(store.now).unwrap_or_else(|ahead| ahead.duration());
                let detail = format!("{apart:?} apart, to within {:?}", store.error);
                if apart > CLOCK_APART_MAX + store.error {
                    return Check::new(NAME, Verdict::Warns, detail)
                        .hint("run a time service on both machines");
                }
                Check::new(NAME, Verdict::Passes, detail)
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let subject = error.fact("subject").unwrap_or_default();
                Check::new(NAME, Verdict::Warns, format!("the user may not ask by `{subject}`"))
                    .hint(
                        "whoever opens a bucket is told the time by it; this check alone lacks it",
                    )
            }
            Err(error) => Check::new(NAME, Verdict::Warns, error.to_string())
                .hint("without the store's time, expiry goes by this machine's clock"),
        }
    }

    /// Who the store is and how it does.
    pub(crate) async fn status(&self) -> jetbridge_core::Result<StoreStatus> {
        let link = self.api.link();
        let call = link.repeatable("nats.status");
        let start = Instant::now();
        link.barrier(&call).await?;
        let round_trip = start.elapsed();
        let info = link.client().server_info();
        let location = link.location().to_owned();
        let mut status = StoreStatus::new("nats", location, info.version, round_trip);
        status.facts.push(("server", info.server_name));
        status.facts.extend(info.cluster.map(|cluster| ("cluster", cluster)));
        status.facts.push(("max_payload", info.max_payload.to_string()));
        if let Ok(Some(account)) = self.probe.ask(self.api, &call).await {
            status.facts.extend(account.domain.clone().map(|domain| ("domain", domain)));
            status.facts.push(("api_level", account.api.level.to_string()));
            status.facts.push(("streams", account.streams.to_string()));
            status.facts.push(("consumers", account.consumers.to_string()));
            status.facts.push(("memory_bytes", account.memory.to_string()));
            status.facts.push(("storage_bytes", account.storage.to_string()));
        }
        status.facts.push(("connections", link.now().epoch.to_string()));
        Ok(status)
    }
}

/// How much of the account's limits is used.
fn limits(account: &AccountInfo) -> Check {
    const NAME: &str = "limits";
    let used = [
        ("storage", account.storage, account.limits.max_storage),
        ("memory", account.memory, account.limits.max_memory),
        ("streams", account.streams, account.limits.max_streams),
        ("consumers", account.consumers, account.limits.max_consumers),
    ];
    let mut tight = Vec::new();
    for (what, used, max) in used {
        if let Ok(max) = u64::try_from(max)
            && max > 0
            && used.saturating_mul(100) >= max.saturating_mul(USE_WARNS)
        {
            tight.push(format!("{what}: {used} of {max}"));
        }
    }
    if tight.is_empty() {
        return Check::new(NAME, Verdict::Passes, "the account has room");
    }
    Check::new(NAME, Verdict::Warns, tight.join(", "))
        .hint("raise the account's JetStream limits, or free space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_nearly_used_up_is_worth_a_word() {
        let mut account = AccountInfo::default();
        account.limits.max_storage = -1;
        assert_eq!(limits(&account).verdict, Verdict::Passes);
        account.limits.max_storage = 100;
        account.storage = 90;
        let check = limits(&account);
        assert_eq!((check.verdict, check.detail.as_str()), (Verdict::Warns, "storage: 90 of 100"));
    }
}
