//! A guest of a real toolchain: Python, made into a component by componentize-py.

/// Compiling eighteen megabytes takes minutes.
mod slow {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use jetbridge_core::{Key, Read};
    use jetbridge_testkit::Release;
    use jetbridge_wasi::KeyvalueCtx;
    use jetbridge_wasi::host::{Ended, Host, HostOpts, Purpose};

    use crate::rig::Row;

    /// Makes the component in `folder`.
    fn componentize(folder: &Path) -> Vec<u8> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tool: PathBuf = here.join("../../target/python/venv/bin/componentize-py");
        assert!(tool.exists(), "there is no componentize-py: `cargo xtask test --slow` brings it");
        let (source, wasm) = (here.join("tests/it/python"), folder.join("app.wasm"));
        let mut command = Command::new(tool);
        command.arg("-d").arg(source.join("guest.wit")).args(["-w", "guest", "componentize"]);
        command.arg("-p").arg(&source).arg("app").arg("-o").arg(&wasm).current_dir(folder);
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::read(wasm).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_guest_of_python_calls_everything() {
        let folder = tempfile::tempdir().unwrap();
        let wasm = componentize(folder.path());
        // In the smaller room that guests of HTTP have.
        let mut opts = HostOpts::default();
        opts.reuse = true;
        let host = Host::new(opts).unwrap();
        let program = host.load("app", &wasm).unwrap();
        assert!(program.purposes().contains(&Purpose::Command));
        let nats = [Release::Oldest, Release::Newest].map(Row::Nats);
        for row in [Row::Memory, Row::Local].into_iter().chain(nats) {
            let rig = row.open().await;
            for sum in ["7", "14"] {
                let ctx = KeyvalueCtx::new(rig.stores.clone());
                let ended = program.run(ctx, &[]).await.unwrap();
                assert!(matches!(ended, Ended::Well), "{row:?}: {ended:?}");
                let counter = Key::parse("n").unwrap();
                let counter = rig.kv().await.get(&counter, Read::Fresh).await.unwrap();
                assert_eq!(counter.unwrap().value, sum, "{row:?}");
            }
        }
        assert_eq!(host.close(std::time::Duration::from_secs(30)).await, 0);
    }
}
