//! What is large or many, in a process of its own whose memory is looked at: objects of a gigabyte,
//! streams of events by the thousand, a handler that prints without end.

mod slow {
    use std::time::Duration;

    use jetbridge_testkit::{Release, eventually};
    use rustix::process::Signal;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpStream;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use crate::binary::{Running, Store};
    use crate::up::{ask, note};

    const WITHIN: Duration = Duration::from_secs(300);
    const MIB: usize = 1 << 20;
    /// What the process may take at its peak, whatever it is asked: 64 MiB more than when idle.
    const MEMORY_MIB_MAX: usize = 160;

    struct Up {
        store: Store,
        process: Running,
        address: String,
    }

    impl Up {
        async fn start(store: Store, text: &str) -> Self {
            let text = format!("http: {{listen: '127.0.0.1:0'}}\n{text}");
            std::fs::write(store.path("up.yml"), text).unwrap();
            let mut process = store.start(&["up", "up.yml"]);
            let address = note(&mut process, "http: ").await;
            let address = address.trim_start_matches("http: http://").to_owned();
            eventually("everything runs", WITHIN, async || {
                ask(&address, "GET", "/readyz").await.starts_with("HTTP/1.1 200").then_some(())
            })
            .await;
            Self { store, process, address }
        }

        /// The most memory that the process has had so far.
        fn peak_mib(&self) -> usize {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
            let status = status.unwrap();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            peak.split_whitespace().next().unwrap().parse::<usize>().unwrap() / 1024
        }

        async fn connect(&self, request: &str) -> BufReader<TcpStream> {
            let mut stream = TcpStream::connect(&self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            BufReader::with_capacity(512, stream)
        }

        async fn stop(self) {
            self.process.signal(Signal::TERM);
            assert_eq!(self.process.end().await.1, 0);
            drop(self.store);
        }
    }

    /// Reads the head of an answer.
    async fn head(stream: &mut BufReader<TcpStream>) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(timeout(WITHIN, stream.read_line(&mut head)).await.unwrap().unwrap(), 0);
        }
        head
    }

    /// What an object has at that place: no two neighbouring pieces are alike.
    fn byte(at: usize) -> u8 {
        u8::try_from((at / 4096 * 31 + at % 251) % 256).unwrap()
    }

    fn piece(from: usize, to: usize) -> Vec<u8> {
        (from..to).map(byte).collect()
    }

    async fn a_gigabyte_comes_and_goes(store: Store) {
        const SIZE: usize = 1024 * MIB;
        let up = Up::start(store, "buckets: {o: {kind: object}}").await;
        let path = "/v1/objects/o/large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let mut stream = up.connect(&format!("PUT {path}Content-Length: {SIZE}\r\n\r\n")).await;
        for at in (0..SIZE).step_by(MIB) {
            stream.write_all(&piece(at, at + MIB)).await.unwrap();
        }
        let said = head(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        for (from, to) in [(0, 10), (SIZE / 2 - 3, SIZE / 2 + MIB), (SIZE - 7, SIZE)] {
            let range = format!("GET {path}Range: bytes={from}-{}\r\n\r\n", to - 1);
            let mut stream = up.connect(&range).await;
            let said = head(&mut stream).await;
            assert!(said.starts_with("HTTP/1.1 206"), "{said}");
            let mut part = Vec::new();
            timeout(WITHIN, stream.read_to_end(&mut part)).await.unwrap().unwrap();
            assert!(part == piece(from, to), "{from}..{to}");
        }
        let mut stream = up.connect(&format!("GET {path}\r\n")).await;
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        let mut part = vec![0; MIB];
        for at in (0..SIZE).step_by(MIB) {
            timeout(WITHIN, stream.read_exact(&mut part)).await.unwrap().unwrap();
            assert!(part == piece(at, at + MIB), "at {at}");
        }
        let peak = up.peak_mib();
        assert!(peak <= MEMORY_MIB_MAX, "{peak} MiB");
        up.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_gigabyte_comes_and_goes_on_the_embedded_store() {
        a_gigabyte_comes_and_goes(Store::local()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_gigabyte_comes_and_goes_on_a_server() {
        a_gigabyte_comes_and_goes(Store::nats(Release::Newest).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn ten_thousand_hear_of_a_change() {
        const STREAMS: usize = 10_000;
        let up = Up::start(Store::local(), "buckets: {news: {}}").await;
        let request = "GET /v1/kv/news:watch HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let until = async |stream: &mut BufReader<TcpStream>, words: &str| {
            let mut line = String::new();
            while line.trim_end() != words {
                line.clear();
                let read = timeout(WITHIN, stream.read_line(&mut line)).await.unwrap().unwrap();
                assert_ne!(read, 0, "the events ended");
            }
        };
        let mut streams = Vec::with_capacity(STREAMS);
        for _stream in 0..STREAMS {
            let mut stream = up.connect(request).await;
            until(&mut stream, "event: caught_up").await;
            streams.push(stream);
        }
        let mut put = up
            .connect("PUT /v1/kv/news/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            .await;
        assert!(head(&mut put).await.starts_with("HTTP/1.1 200"));
        let mut hearing = JoinSet::new();
        for mut stream in streams {
            hearing.spawn(async move {
                until(&mut stream, "event: put").await;
                stream
            });
        }
        let heard = hearing.join_all().await;
        let peak = up.peak_mib();
        // Builds without optimisations have larger tasks: `cargo xtask bench agent` has the target.
        assert!(heard.len() == STREAMS && peak <= 384, "{} streams, {peak} MiB", heard.len());
        drop(heard);
        up.stop().await;
    }

    /// An answer of more than a mebibyte is a failure, and of reasons the last bytes are kept: what
    /// is printed beyond is thrown away.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_handler_prints_a_gigabyte() {
        let text = "handlers:\n  \
            - {subject: loud, attempts: 1, timeout: 5m, run: [head, -c, 1G, /dev/zero]}\n  \
            - {subject: 'jobs.>', stream: JOBS, durable: cross, attempts: 1, timeout: 5m, run: \
            [sh, -c, 'head -c 1G /dev/zero >&2; echo no paper >&2; exit 1']}\n";
        let up = Up::start(Store::local(), text).await;
        up.store.does("pub loud x").await;
        up.store.does("pub jobs.a chair --jetstream").await;
        for handler in ["loud", "cross"] {
            let failed = format!("_attempts_total{{handler=\"{handler}\",outcome=\"failed\"}} 1");
            eventually(handler, WITHIN, async || {
                ask(&up.address, "GET", "/metrics").await.contains(&failed).then_some(())
            })
            .await;
        }
        let peak = up.peak_mib();
        assert!(peak <= MEMORY_MIB_MAX, "{peak} MiB");
        up.stop().await;
    }
}
