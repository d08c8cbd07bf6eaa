//! The yardstick: a GCRA in one Lua script on a Redis of its own, asked by `redis-benchmark`.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::Outcome;
use crate::measure::Series;
use crate::report::{Report, Row};

const REDIS: &str = "Redis";
/// Calls of one measure.
const CALLS: &str = "200000";
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

/// Measures it if it is installed, and says so if not.
pub(super) async fn run(report: &mut Report) -> Outcome {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let server = Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut server) = server else {
        eprintln!("redis-server is not installed: no yardstick");
        return Ok(());
    };
    for _ in 0..LOOKS {
        if cli(&port, &["PING"]).await.is_ok_and(|said| said.trim() == "PONG") {
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let script = cli(&port, &["SCRIPT", "LOAD", GCRA]).await?;
    for connections in ["1", "32"] {
        let figure = measure(&port, connections, script.trim()).await?;
        let name = format!("decisions, GCRA in Lua, {connections} connections");
        let series = Series { name: REDIS, figures: vec![figure] };
        report.add(Row::new(&name, "/s", "Redis", vec![series]));
    }
    server.kill().await?;
    Ok(())
}

async fn cli(port: &str, words: &[&str]) -> Outcome<String> {
    let output = Command::new("redis-cli").args(["-p", port]).args(words).output().await?;
    Ok(String::from_utf8(output.stdout)?)
}

async fn measure(port: &str, connections: &str, script: &str) -> Outcome<f64> {
    let output = Command::new("redis-benchmark")
        .args(["-p", port, "-c", connections, "-n", CALLS, "--csv"])
        .args(["EVALSHA", script, "1", "key"])
        .output()
        .await?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find(|line| line.contains("EVALSHA")).ok_or("no figure of Redis")?;
    // The name, in quotes, may hold commas; the first figure behind it is calls per second.
    let (_, figures) =
        line.rsplit_once(&format!("{script} 1 key\",")).ok_or("no figure of Redis")?;
    let figure = figures.split(',').next().unwrap_or_default();
    Ok(figure.trim_matches('"').parse()?)
}
