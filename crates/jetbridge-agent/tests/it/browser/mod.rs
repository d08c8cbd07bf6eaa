//! The status page in a browser: what a person sees, and does with mouse and keyboard.

mod chromium;

mod slow {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use jetbridge::local::{LocalBackend, LocalOptions};
    use jetbridge::nats::{ConnectOptions, NatsBackend};
    use jetbridge_core::{Backend, BucketName, Key, Open, PutOpts};
    use jetbridge_testkit::{NatsServer, Release, ServerOptions, eventually};
    use serde_json::json;

    use super::chromium::Browser;
    use crate::api::{Ask, ask};
    use crate::databases::{CREATE, application};
    use crate::rig::{Rig, WITHIN};

    const FILE: &str = "
http: {listen: '127.0.0.1:0'}
buckets: {config: {max_bytes: 1MiB, history: 3}, secrets: {secret: true}, backups: {kind: object}}
limiters: {api: {period: 1h, burst: 5}}
templates:
  - {from: app.t, to: app.yml, wait: '0s..0s'}
  - {from: mail.t, to: mail.yml, wait: '0s..0s'}
handlers:
  - {subject: 'orders.>', stream: ORDERS, durable: mailer, attempts: 2, backoff: 10ms,
     concurrency: 4, run: [sh, -c, 'test -e mended && cat >> done || { echo no paper >&2; exit 1; }']}
  - {subject: 'prints.>', stream: PRINTS, durable: printer, run: [sh, -c, 'cat pipe']}
dbs: [{path: HERE/shop.db, replica: {bucket: backups, path: shop}}]
";

    const CONFIG: &str = "#bucket-config_20_28kv_29";
    const LIMIT: &str = "#limiter-api";
    const APP: &str = "#template-app_2eyml";
    const MAIL: &str = "#template-mail_2eyml";
    const MAILER: &str = "#handler-mailer";
    const PRINTER: &str = "#handler-printer";

    /// Whether pictures for the guide are left in the folder of temporary files of the build.
    #[derive(Eq, PartialEq)]
    enum Pictures {
        Taken,
        None,
    }

    /// A page of everything, looked at.
    struct Sight {
        rig: Rig,
        browser: Browser,
        url: String,
    }

    impl Sight {
        async fn of(backend: Arc<dyn Backend>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| {
                std::fs::write(folder.path().join(name), text).unwrap();
            };
            write(
                "app.t",
                "port: (( nats \"kv:config/port\" ))\npassword: (( nats \"kv:secrets/password\" ))\n",
            );
            write("mail.t", "from: (( nats \"kv:config/from\" ))\n");
            application(&folder.path().join("shop.db"), CREATE);
            let pipe = folder.path().join("pipe");
            assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
            // Paths of databases are the process's own.
            let file = FILE.replace("HERE", &folder.path().display().to_string());
            let rig = Rig::start_on(backend, folder, &file).await;
            put(&rig, "config", "port", "8080").await;
            put(&rig, "secrets", "password", "hunter2").await;
            let url = rig.agent.http_url().unwrap();
            let mut browser = Browser::start().await;
            browser.size(1100, 900).await;
            browser.open(&url).await;
            // A page that is loaded anew has no such mark.
            browser.value("window.mark = true").await;
            Self { rig, browser, url }
        }

        async fn acquire(&self) {
            let address = self.rig.agent.http_address().unwrap();
            let path = "/v1/limits/api/acquire";
            let answer = ask(address, Ask { method: "POST", path, head: "", body: b"" }).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }

        async fn end(self) {
            assert!(self.browser.complaints().is_empty(), "{:#?}", self.browser.complaints());
            self.browser.close().await;
            // Whoever waits for the pipe finds its end. To open it both ways waits for nobody.
            let pipe = self.rig.path("pipe");
            drop(std::fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap());
            assert!(self.rig.stop().await.0.is_clean());
        }
    }

    async fn put(rig: &Rig, bucket: &str, key: &str, value: &'static str) {
        let bucket = BucketName::parse(bucket).unwrap();
        let kv = eventually("the bucket", WITHIN, async || {
            rig.backend.kv(&bucket, Open::existing()).await.ok()
        })
        .await;
        kv.put(&Key::parse(key).unwrap(), value.into(), PutOpts::new()).await.unwrap();
    }

    /// Every section with what there is to know of it, and what changes without a reload.
    async fn sees_what_runs_and_what_changes(sight: &mut Sight) {
        let browser = &mut sight.browser;
        browser.until_says("#stream", "live").await;
        browser.until_says("#summary", "1 section is degraded").await;
        browser.until_says("#summary", "connected").await;
        for running in [CONFIG, LIMIT, APP, MAILER, PRINTER] {
            browser.until_says(&format!("{running} .pill"), "running").await;
        }
        browser.until_says(&format!("{MAIL} .pill"), "degraded").await;
        browser.until_says(&format!("{MAIL} .reason"), "config").await;
        browser.until_says("#attention a", "mail.yml").await;
        browser.until_says(CONFIG, "of 1.0 MiB").await;
        browser.until_says(LIMIT, "0 of 5").await;
        browser.until_says(".database", "all shipped").await;

        browser.click(&format!("{APP} summary")).await;
        browser.until_says(&format!("{APP} pre"), "+port: \"8080\"").await;
        browser.until_says(&format!("{APP} pre"), "password: \"***\"").await;
        sight.acquire().await;
        sight.acquire().await;
        put(&sight.rig, "config", "port", "9090").await;
        sight.rig.append("orders.1", "a chair").await;
        sight.rig.append("prints.1", "a page").await;
        let browser = &mut sight.browser;
        browser.until_says(LIMIT, "2 of 5").await;
        browser.until_says(&format!("{APP} details[open] pre"), "+port: \"9090\"").await;
        browser.until_says(PRINTER, "1 of 1").await;
        browser.until_says(MAILER, "1 message in JETBRIDGE_DEAD_LETTERS").await;
        browser.until_says(MAILER, "Failed attempts2").await;
        put(&sight.rig, "config", "from", "shop@example.com").await;
        let browser = &mut sight.browser;
        browser.until_says("#summary", "Everything runs").await;
        assert_eq!(browser.value("document.querySelector('#attention')").await, json!(null));
        let page = browser.text("document.documentElement.outerHTML").await;
        assert!(!page.contains("hunter2"), "a secret is shown");
        assert_eq!(browser.value("window.mark").await, true, "it was loaded anew");
        // What was clicked keeps the focus, though its card is another by now.
        let focus = "document.activeElement.closest('.card').id";
        assert_eq!(browser.text(focus).await, APP[1..]);
    }

    /// A dead letter is looked at and sent again by two clicks.
    async fn sends_a_letter_again(sight: &mut Sight) {
        let browser = &mut sight.browser;
        browser.click(&format!("{MAILER} .links a")).await;
        browser.until_says("h1", "Dead letters in JETBRIDGE_DEAD_LETTERS").await;
        browser.until_says("#letter-1 .reason", "no paper").await;
        browser.until_says("#letter-1 pre", "a chair").await;
        fits(browser, "dead letters").await;
        std::fs::write(sight.rig.path("mended"), "").unwrap();
        browser.click("#letter-1 button").await;
        browser.until_says("[role=status]", "Letter 1 was sent again.").await;
        browser.until_says("#letter-1 .links", "sent again").await;
        assert_eq!(sight.rig.wait_lines("done", 1).await, ["a chair"]);
        browser.click("main a").await;
        browser.until_says(MAILER, "Done1").await;
    }

    /// Nothing is wider than the smallest screen, and nothing is hard to read, by day and night.
    async fn fits(browser: &mut Browser, what: &str) {
        for scheme in ["light", "dark"] {
            browser.scheme(scheme).await;
            let pale = browser.value(PALE).await;
            assert_eq!(pale, json!([]), "{what}, {scheme}: text with too little contrast");
        }
        browser.scheme("light").await;
        browser.size(320, 640).await;
        let wide = browser.value(WIDE).await;
        assert_eq!(wide, json!([]), "{what}: wider than the screen");
        browser.size(1100, 900).await;
    }

    /// What sticks out of the screen, where it is not shown in a box of its own that scrolls.
    const WIDE: &str = "
(() => {
  const root = document.documentElement;
  const most = root.clientWidth;
  const all = [...document.querySelectorAll('body *')].filter(it => !it.closest('pre, svg, .skip'));
  const wide = all.filter(it => it.getBoundingClientRect().right > most + 0.5);
  return [...wide.map(it => it.outerHTML.slice(0, 200)), ...(root.scrollWidth > most ? ['page'] : [])];
})()";

    /// Texts whose contrast is below 4.5 to 1, which is what WCAG asks for at level AA.
    const PALE: &str = "
(() => {
  const parts = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = (text) => parts(text).slice(0, 3)
    .map(it => it / 255).map(it => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4)
    .reduce((sum, it, at) => sum + it * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (it) => {
    for (; it; it = it.parentElement) {
      const colour = getComputedStyle(it).backgroundColor;
      if ((parts(colour)[3] ?? 1) > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const own = (it) => [...it.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll('body *:not(script, title, meter)')].filter(own).map(it => {
    const [a, b] = [light(getComputedStyle(it).color), light(ground(it))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), it.outerHTML.slice(0, 120)];
  }).filter(([contrast]) => contrast < 4.5);
})()";

    /// Every control is come to by the tab key, in the order of the page, and is seen to be.
    async fn goes_by_keyboard(browser: &mut Browser, url: &str) {
        const CONTROLS: &str = "[...document.querySelectorAll('a[href], button, summary, \
            [tabindex=\"0\"]')].filter(it => it.checkVisibility())";
        let focused = format!(
            "(() => {{ const it = document.activeElement; \
             const [style, at] = [getComputedStyle(it), it.getBoundingClientRect()]; \
             const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 \
               && at.right > 0 && at.bottom > 0 && at.left < innerWidth && at.top < innerHeight; \
             return [{CONTROLS}.indexOf(it), seen]; }})()"
        );
        // A page of its own: the tab key goes on from the last click.
        browser.open(url).await;
        let controls = browser.value(&format!("{CONTROLS}.length")).await.as_u64().unwrap();
        assert!(controls > 6, "{controls} controls");
        for number in 0..controls {
            browser.press("Tab", 9).await;
            let found = browser.value(&focused).await;
            let it = browser.text("document.activeElement.outerHTML.slice(0, 200)").await;
            assert_eq!(found, json!([number, true]), "{it}");
        }
        // The first leads behind what stands on every page.
        browser.value(&format!("{CONTROLS}[0].focus()")).await;
        browser.press("Enter", 13).await;
        browser.until("it was followed", "location.hash === '#main'").await;
    }

    /// Without scripts the page is whole and is loaded anew by itself, and letters can be sent again.
    async fn does_without_scripts(sight: &mut Sight) {
        let browser = &mut sight.browser;
        browser.without_scripts().await;
        browser.open(&sight.url).await;
        browser.until_says(LIMIT, "2 of 5").await;
        assert_eq!(browser.value("document.querySelector('#stream').hidden").await, true);
        sight.acquire().await;
        let browser = &mut sight.browser;
        browser.until_says(LIMIT, "3 of 5").await;
        let letters =
            browser.text(&format!("document.querySelector('{MAILER} .links a').href")).await;
        browser.open(&letters).await;
        browser.until_says("#letter-1 pre", "a chair").await;
        // What sends one again is a form, on a page that has no script at all: that was clicked.
        let form = "document.querySelector('#letter-1 form[method=post] button').type";
        assert_eq!(browser.text(form).await, "submit");
        assert_eq!(browser.value("document.scripts.length").await, 0);
    }

    async fn takes_pictures(browser: &mut Browser) {
        let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        std::fs::create_dir_all(&folder).unwrap();
        browser.value("scrollTo(0, 0)").await;
        for (name, scheme, (width, height)) in [
            ("up-light", "light", (1100, 900)),
            ("up-dark", "dark", (1100, 900)),
            ("up-narrow", "light", (360, 740)),
        ] {
            browser.scheme(scheme).await;
            browser.size(width, height).await;
            browser.picture(&folder.join(format!("{name}.png"))).await;
        }
        browser.scheme("light").await;
        browser.size(1100, 900).await;
    }

    async fn a_person_sees_and_does(backend: Arc<dyn Backend>, pictures: Pictures) {
        let mut sight = Sight::of(backend).await;
        sees_what_runs_and_what_changes(&mut sight).await;
        if pictures == Pictures::Taken {
            takes_pictures(&mut sight.browser).await;
        }
        fits(&mut sight.browser, "sections").await;
        goes_by_keyboard(&mut sight.browser, &sight.url).await;
        sends_a_letter_again(&mut sight).await;
        does_without_scripts(&mut sight).await;
        sight.end().await;
    }

    async fn connect(server: &NatsServer) -> Arc<dyn Backend> {
        let mut options = ConnectOptions::default();
        options.servers = vec![server.url()];
        Arc::new(NatsBackend::connect(&options).await.unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_the_embedded_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = LocalBackend::open(&path, LocalOptions::default()).await.unwrap();
        a_person_sees_and_does(Arc::new(store), Pictures::Taken).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_a_server() {
        let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
        a_person_sees_and_does(connect(&server).await, Pictures::None).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_goes_and_comes_back_is_seen() {
        let server = NatsServer::start(Release::Newest, ServerOptions::new()).await;
        let mut sight = Sight::of(connect(&server).await).await;
        let browser = &mut sight.browser;
        browser.until_says("#summary", "connected").await;
        server.kill();
        browser.until_says("#summary", "The store cannot be reached").await;
        server.restart().await;
        browser.until_says("#summary", "1 section is degraded").await;
        assert_eq!(browser.value("window.mark").await, true, "it was loaded anew");
        sight.end().await;
    }
}
