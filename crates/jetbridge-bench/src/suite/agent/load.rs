//! Connections that ask one thing after the other. As little as HTTP/1.1 needs is done here, since
//! the cores are shared with who answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::measure::quantile;

/// Room for an answer: heads, and values of a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// How long requests may take that are not measured.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who asks, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) connections: usize,
    pub(super) time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) per_second: f64,
    pub(super) p99_ms: f64,
}

impl Load {
    /// Asks for each of `paths` once.
    pub(super) async fn once(
        &self,
        method: &str,
        paths: impl Iterator<Item = String>,
        body: &str,
    ) -> Outcome {
        let requests: Vec<String> = paths.map(|path| request(method, &path, body)).collect();
        let stream = TcpStream::connect(self.address).await?;
        match ask(stream, requests.iter(), Instant::now() + PATIENCE).await?.len() {
            all if all == requests.len() => Ok(()),
            some => Err(format!("{some} of {} were answered in time", requests.len()).into()),
        }
    }

    /// Has every connection ask again and again; `path` gets a number that is another each time.
    pub(super) async fn run(
        &self,
        method: &'static str,
        path: impl Fn(usize) -> String,
        body: &str,
    ) -> Outcome<Done> {
        /// Requests of a connection that are written beforehand.
        const WRITTEN: usize = 64;
        let mut connections = Vec::new();
        for number in 0..self.connections {
            let paths = (0..WRITTEN).map(|at| path(number * WRITTEN + at));
            let requests: Vec<String> = paths.map(|path| request(method, &path, body)).collect();
            connections.push((TcpStream::connect(self.address).await?, requests));
        }
        let (begin, time) = (Instant::now(), self.time);
        let mut asking = JoinSet::new();
        for (stream, requests) in connections {
            asking.spawn(async move { ask(stream, requests.iter().cycle(), begin + time).await });
        }
        let mut times = Vec::new();
        while let Some(asked) = asking.join_next().await {
            times.extend(asked??);
        }
        let per_second = times.len() as f64 / begin.elapsed().as_secs_f64();
        Ok(Done { per_second, p99_ms: quantile(&times, 0.99) })
    }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let bytes = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {bytes}\r\n\r\n{body}")
}

/// Asks one after the other until the time is over; returns how long each answer took, in
/// milliseconds.
async fn ask(
    mut stream: TcpStream,
    requests: impl Iterator<Item = &String>,
    until: Instant,
) -> Outcome<Vec<f64>> {
    stream.set_nodelay(true)?;
    let (mut times, mut buffer) = (Vec::new(), vec![0; ANSWER_BYTES_MAX]);
    for request in requests {
        if Instant::now() > until {
            break;
        }
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let mut read = 0;
        loop {
            let bytes = stream.read(&mut buffer[read..]).await?;
            if bytes == 0 {
                return Err("the connection ended, or an answer is too large".into());
            }
            read += bytes;
            if whole(&buffer[..read])? {
                break;
            }
        }
        times.push(asked.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

/// Whether this is all of an answer, which must be a success.
fn whole(answer: &[u8]) -> Outcome<bool> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(false);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    if !head.starts_with("HTTP/1.1 2") {
        return Err(format!("not a success: {}", String::from_utf8_lossy(answer)).into());
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Ok(0), |(_, value)| value.parse())?;
    Ok(answer.len() >= end + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body_and_a_refusal_is_none() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        for cut in 0..answer.len() {
            assert!(!whole(&answer[..cut]).unwrap(), "{cut}");
        }
        assert!(whole(answer).unwrap());
        assert!(whole(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap());
        assert!(whole(b"HTTP/1.1 429 Too Many Requests\r\n\r\n").is_err());
    }
}
