//! The yardstick: a GCRA in one Lua script on a Redis of its own, asked by `redis-benchmark`.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::Outcome;
use crate::measure::Series;
use crate::report::{Report, Row};

pub(super) const REDIS: &str = "Redis";
/// Calls of one measure: seconds, as ours.
const CALLS: &str = "150000";
/// How often a server that starts is looked at, and how often at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS: usize = 100;

/// The next slot moves on by what was taken; the clock is the server's. A rate of a million a
/// second and a burst of as much, as in our measures.
const GCRA: &str = "local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now - 999999)
if at > now then return {0, at - now} end
redis.call('SET', KEYS[1], at + 1, 'PX', 2000)
return {1, 0}";

/// A Redis that keeps nothing on disk, with the script loaded; gone when it is dropped.
pub(super) struct Redis {
    port: String,
    script: String,
    _server: Child,
}

impl Redis {
    /// `None`, and a row that says so, if it is not installed.
    pub(super) async fn start(report: &mut Report) -> Outcome<Option<Self>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let server = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let Ok(server) = server else {
            let absent = "no yardstick: redis-server is not installed";
            report.add(Row::new(absent, "", REDIS, Vec::new()));
            return Ok(None);
        };
        for _ in 0..LOOKS {
            if cli(&port, &["PING"]).await.is_ok_and(|said| said.trim() == "PONG") {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let info = cli(&port, &["INFO", "server"]).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        report.fact(REDIS, version.ok_or("Redis does not tell its version")?.trim());
        let script = cli(&port, &["SCRIPT", "LOAD", GCRA]).await?.trim().to_owned();
        Ok(Some(Self { port, script, _server: server }))
    }

    /// Decisions per second through so many connections.
    pub(super) async fn decisions(&self, connections: u32) -> Outcome<Series> {
        let connections = connections.to_string();
        let output = Command::new("redis-benchmark")
            .args(["-p", &self.port, "-c", &connections, "-n", CALLS, "--csv"])
            .args(["EVALSHA", &self.script, "1", "key"])
            .output()
            .await?;
        let text = String::from_utf8(output.stdout)?;
        let line = text.lines().find(|line| line.contains("EVALSHA"));
        // The name, in quotes, may hold commas; the first figure behind it is calls per second.
        let name = format!("{} 1 key\",", self.script);
        let figures = line.and_then(|line| line.rsplit_once(&name)).ok_or("no figure of Redis")?.1;
        let figure = figures.split(',').next().unwrap_or_default().trim_matches('"').parse()?;
        Ok(Series { name: REDIS, figures: vec![figure] })
    }
}

async fn cli(port: &str, words: &[&str]) -> Outcome<String> {
    let output = Command::new("redis-cli").args(["-p", port]).args(words).output().await?;
    Ok(String::from_utf8(output.stdout)?)
}
