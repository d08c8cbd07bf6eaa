//! What happens around one swap.

use std::os::unix::fs::PermissionsExt as _;

use jetbridge::template::{Missing, Reload, ReloadSignal, Stage};

use super::{Following, Rig, inode};

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_check_keeps_the_file_and_a_reload_comes_after_a_swap_alone() {
    let rig = Rig::memory();
    rig.put("config", "port", "80").await;
    rig.write("t.yml", "port: (( nats \"kv:config/port\" as int ))\n");
    let mut spec = rig.spec();
    spec.check = Some(shell("grep -q 'port: [0-9]*$' {} || { echo no port; exit 1; }"));
    spec.reload = Some(Reload::Command(shell("cat app.yml >> reloads")));
    let mut following = Following::start(rig.renderer(spec));
    following.written().await;
    assert_eq!(
        (rig.read("app.yml"), rig.read("reloads")),
        ("port: 80\n".into(), "port: 80\n".into())
    );

    rig.write("t.yml", "port: (( concat \"x\" (nats \"kv:config/port\") ))\n");
    let failure = following.failure().await;
    assert!(
        failure.starts_with("check: ") && failure.ends_with("exit status: 1: no port"),
        "{failure}"
    );
    assert_eq!(
        (rig.read("app.yml"), rig.read("reloads")),
        ("port: 80\n".into(), "port: 80\n".into())
    );

    rig.write("t.yml", "port: (( nats \"kv:config/port\" as int ))\n");
    rig.put("config", "port", "81").await;
    following.written().await;
    assert_eq!(rig.read("reloads"), "port: 80\nport: 81\n");
    let names = std::fs::read_dir(rig.folder.path()).unwrap().count();
    assert_eq!(names, 3, "nothing is left beside the file");
}

#[tokio::test]
async fn equal_bytes_are_not_written_and_mode_and_backups_are_kept() {
    let rig = Rig::memory();
    rig.write("t.yml", "a: 1\n");
    let mut spec = rig.spec();
    spec.backups = 1;
    spec.reload = Some(Reload::Command(shell("echo again >> reloads")));
    let mut renderer = rig.renderer(spec);
    assert!(renderer.render().await.written);
    let path = rig.path("app.yml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let before = inode(&path);
    let rendering = renderer.render().await;
    assert!(!rendering.written && !rendering.reloaded && rendering.failure.is_none());
    assert_eq!(inode(&path), before);
    rig.write("t.yml", "a: 22\n");
    assert!(renderer.render().await.written);
    assert_eq!((rig.read("app.yml"), rig.read("app.yml.1")), ("a: 22\n".into(), "a: 1\n".into()));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    assert_eq!(rig.read("reloads"), "again\nagain\n");
}

#[tokio::test]
async fn what_is_missing_is_an_error_null_or_kept() {
    let rig = Rig::memory();
    rig.put("config", "there", "x").await;
    rig.write("t.yml", "a: (( nats \"kv:config/none\" ))\nb: (( nats \"kv:config/there\" ))\n");
    rig.write("app.yml", "last good\n");
    let rendering = rig.renderer(rig.spec()).render().await;
    assert_eq!(rendering.failure.unwrap().stage(), Stage::Render);
    assert_eq!(rig.read("app.yml"), "last good\n");
    for (missing, expected) in [
        (Missing::Null, "a: ~\nb: x\n"),
        (Missing::Keep, "a: (( nats \"kv:config/none\" ))\nb: x\n"),
    ] {
        let mut spec = rig.spec();
        spec.options.missing = missing;
        assert!(rig.renderer(spec).render().await.written);
        assert_eq!(rig.read("app.yml"), expected);
    }
}

#[tokio::test]
async fn secrets_are_masked_in_what_a_check_says_and_in_a_preview() {
    let rig = Rig::memory();
    rig.put("secrets", "p", "hunter2").await;
    rig.write("t.yml", "url: (( concat \"x:\" (nats \"kv:secrets/p\") ))\n");
    rig.write("app.yml", "url: x:before1\n");
    let mut spec = rig.spec();
    spec.check = Some(shell("cat {} >&2; exit 3"));
    let mut renderer = rig.renderer(spec);
    let failure = renderer.render().await.failure.unwrap().to_string();
    assert!(failure.contains("***") && !failure.contains("hunter2"), "{failure}");
    let preview = renderer.preview().await.unwrap();
    assert!(preview.differs && preview.diff.contains("+url: \"***\""), "{}", preview.diff);
    assert!(!preview.diff.contains("hunter2") && !preview.diff.contains("before1"));
    assert_eq!(rig.read("app.yml"), "url: x:before1\n");
}

#[tokio::test]
async fn fields_of_secret_maps_are_masked_in_what_a_check_says() {
    let rig = Rig::memory();
    rig.put("secrets", "db", "user: app\npassword: hunter2\n").await;
    rig.write("t.yml", "db: (( nats \"kv:secrets/db\" ))\n");
    let mut spec = rig.spec();
    spec.check = Some(shell("echo bad hunter2; exit 3"));
    let failure = rig.renderer(spec).render().await.failure.unwrap().to_string();
    assert!(failure.contains("bad ***") && !failure.contains("hunter2"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_reaches_the_process_of_the_file_and_a_failed_reload_comes_again() {
    let rig = Rig::memory();
    rig.write("t.yml", "a: 1\n");
    let mut spec = rig.spec();
    spec.reload = Some(Reload::Signal { signal: ReloadSignal::Hangup, pid_file: rig.path("pid") });
    let mut following = Following::start(rig.renderer(spec));
    let failure = following.failure().await;
    assert!(failure.starts_with("reload: "), "{failure}");
    assert_eq!(rig.read("app.yml"), "a: 1\n");

    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    rig.write("pid", &format!("{}\n", child.id()));
    following
        .next(|event| match event {
            jetbridge::template::Event::Rendered(rendering) => rendering.reloaded.then_some(()),
            _ => None,
        })
        .await;
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(1));
}

#[tokio::test]
async fn an_owed_reload_is_done_though_the_next_file_fails() {
    let rig = Rig::memory();
    rig.write("t.yml", "a: 1\n");
    let mut spec = rig.spec();
    spec.reload = Some(Reload::Command(shell("test -e ready && echo again >> reloads")));
    let mut renderer = rig.renderer(spec);
    let first = renderer.render().await;
    assert!(first.written && !first.reloaded);
    rig.write("ready", "");
    rig.write("t.yml", "a: (( grab none ))\n");
    let second = renderer.render().await;
    assert_eq!(second.failure.unwrap().stage(), Stage::Render);
    assert!(second.reloaded && !second.written);
    assert!(!renderer.render().await.reloaded, "it is done once");
    assert_eq!(rig.read("reloads"), "again\n");
}

#[tokio::test]
async fn an_owed_reload_outlives_its_process() {
    let rig = Rig::memory();
    rig.write("t.yml", "a: 1\n");
    let mut spec = rig.spec();
    spec.reload = Some(Reload::Command(shell("test -e ready && echo again >> reloads")));
    let first = rig.renderer(spec.clone()).render().await;
    assert!(first.written && !first.reloaded);
    rig.write("ready", "");
    let second = rig.renderer(spec.clone()).render().await;
    assert!(second.reloaded && !second.written);
    assert!(!rig.renderer(spec).render().await.reloaded, "it is done once");
    let names = std::fs::read_dir(rig.folder.path()).unwrap().count();
    assert_eq!(names, 4, "nothing is left beside the file");
}

/// What a failed check that runs `script` says of a file whose only value is `secret`.
async fn said_of(secret: &str, script: &str) -> String {
    let rig = Rig::memory();
    rig.put("secrets", "p", secret).await;
    rig.write("t.yml", "p: (( nats \"kv:secrets/p\" ))\n");
    let mut spec = rig.spec();
    spec.check = Some(shell(script));
    rig.renderer(spec).render().await.failure.unwrap().to_string()
}

#[tokio::test]
async fn secrets_are_masked_however_a_check_prints_them() {
    let cut = "t0ken".repeat(1000);
    let failure = said_of(&cut, "cut -c 4- {}; echo bad; exit 1").await;
    assert!(failure.contains("bad") && !failure.contains("t0ken"), "a cut one: {failure}");
    let failure = said_of(&cut, "head -c 4000 {} | tail -c 3000; exit 1").await;
    assert!(!failure.contains("t0ken"), "a part of a line: {failure}");
    let failure = said_of("say \"hunter2\" # now", "cat {}; exit 1").await;
    assert!(failure.contains("***") && !failure.contains("hunter2"), "a quoted one: {failure}");
    let failure = said_of("  hunter2  ", "echo '  hunter2 '; exit 1").await;
    assert!(failure.contains("***") && !failure.contains("hunter2"), "a trimmed one: {failure}");
    let folded = "correct horsebattery ".repeat(6);
    let failure = said_of(folded.trim(), "tr ' ' '\\n' < {}; exit 1").await;
    assert!(!failure.contains("battery"), "a folded one: {failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_starts_a_daemon_is_done_when_it_ends() {
    let rig = Rig::memory();
    rig.write("t.yml", "a: 1\n");
    let mut spec = rig.spec();
    // It holds the outputs of the command that started it.
    spec.reload = Some(Reload::Command(shell(
        "setsid sh -c 'echo $$ > pid; exec sleep 600' & while [ ! -s pid ]; do sleep 0.01; done",
    )));
    spec.command_timeout = std::time::Duration::from_secs(20);
    let rendering = rig.renderer(spec).render().await;
    assert!(rendering.reloaded && rendering.failure.is_none(), "{rendering:?}");
    let pid = rig.read("pid");
    let ended = std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(ended.success(), "it outlived the command");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_key_is_also_found_out_later() {
    let rig = Rig::memory();
    rig.put("config", "gone", "1").await;
    let key = jetbridge_core::Key::parse("gone").unwrap();
    let kv = rig.kv("config").await;
    kv.delete(&key, jetbridge_core::DeleteOpts::new()).await.unwrap();
    rig.write("t.yml", "k: (( nats \"kv:config/gone\" || 1 ))\n");
    let mut following = Following::start(rig.renderer(rig.spec()));
    following.written().await;
    rig.write("t.yml", "k: (( nats \"kv:config/gone\" ))\n");
    let failure = following.failure().await;
    assert!(failure.contains("key was deleted at revision 2"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_check_is_killed() {
    let rig = Rig::memory();
    rig.write("t.yml", "a: 1\n");
    let mut spec = rig.spec();
    spec.check = Some(shell("sleep 600"));
    spec.command_timeout = std::time::Duration::from_millis(200);
    let failure = rig.renderer(spec).render().await.failure.unwrap();
    assert_eq!(failure.stage(), Stage::Check);
    assert!(failure.to_string().contains("killed"), "{failure}");
    assert!(!rig.path("app.yml").exists());
}
