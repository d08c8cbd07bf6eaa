//! Chromium without a screen, told what to do by the DevTools protocol over two pipes: it listens
//! on no port, and ends with the test.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetbridge_testkit::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::rig::WITHIN;

/// Who waits gives up so much sooner than [`eventually`], to say what it saw.
const PATIENCE_LEFT: Duration = Duration::from_secs(1);
/// Its pipes are the descriptors 3 and 4.
const START: &str = "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
const OPTIONS: [&str; 8] = [
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
];

/// A browser with one tab.
pub(crate) struct Browser {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    asked: u64,
    session: Option<String>,
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh"]).args(OPTIONS);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        if rustix::process::geteuid().is_root() {
            // Its sandbox is not for root.
            command.arg("--no-sandbox");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.arg("about:blank").spawn().unwrap();
        let (requests, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let answers = BufReader::new(answers);
        let (session, complaints) = (None, Vec::new());
        let mut browser =
            Self { child, requests, answers, asked: 0, session, complaints, _profile: profile };
        let tab = browser.ask("Target.createTarget", json!({"url": "about:blank"})).await;
        let tab = json!({"targetId": tab["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", tab).await;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({})).await;
        }
        browser
    }

    /// Asks for something, and returns what it answers.
    pub(crate) async fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let answer = self.exchange(method, parameters).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn exchange(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut request = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.requests.write_all(&bytes).await.unwrap();
        loop {
            let mut bytes = Vec::new();
            let read = timeout(WITHIN, self.answers.read_until(0, &mut bytes)).await;
            let read = read.unwrap_or_else(|_elapsed| panic!("{method}: no answer")).unwrap();
            assert_ne!(read, 0, "{method}: chromium has ended; is it installed?");
            let message: Value = serde_json::from_slice(&bytes[..read - 1]).unwrap();
            if message["id"] == self.asked {
                return message;
            }
            self.listen(&message);
        }
    }

    /// Keeps what the page complains about: exceptions, the console, what its policy forbids.
    fn listen(&mut self, event: &Value) {
        let is_complaint = match event["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" => true,
            "Log.entryAdded" => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        if is_complaint {
            self.complaints.push(event["params"].to_string());
        }
    }

    /// What was complained about so far.
    pub(crate) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    pub(crate) async fn open(&mut self, url: &str) {
        let opened = self.ask("Page.navigate", json!({"url": url})).await;
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.until("it is loaded", "document.readyState === 'complete'").await;
    }

    /// What an expression comes to; nothing while the tab goes from one page to another.
    async fn look(&mut self, expression: &str) -> Option<Value> {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let answer = self.exchange("Runtime.evaluate", parameters).await;
        let result = answer.get("result")?;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        Some(result["result"]["value"].clone())
    }

    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        self.look(expression).await.unwrap_or_else(|| panic!("{expression}: there is no page"))
    }

    pub(crate) async fn text(&mut self, expression: &str) -> String {
        self.value(expression).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, what: &str, expression: &str) {
        let found =
            eventually(what, WITHIN, async || (self.look(expression).await? == true).then_some(()));
        found.await;
    }

    /// Waits until what `selector` finds has the text `words`.
    pub(crate) async fn until_says(&mut self, selector: &str, words: &str) {
        let text = format!("document.querySelector({})?.textContent ?? ''", json!(selector));
        let mut last = String::new();
        let says = eventually(words, WITHIN, async || {
            last = self.look(&text).await?.as_str()?.to_owned();
            last.contains(words).then_some(())
        });
        let says = timeout(WITHIN - PATIENCE_LEFT, says).await;
        if says.is_err() {
            let page = self.text("location.href + document.body.innerText").await;
            panic!("{selector} says `{last}`, not `{words}`, on {page}");
        }
    }

    /// Presses and lets go of the mouse in the middle of what `selector` finds.
    pub(crate) async fn click(&mut self, selector: &str) {
        // What still loads moves away from under the mouse.
        self.until("it is loaded", "document.readyState === 'complete'").await;
        let place = format!(
            "(() => {{ const it = document.querySelector({}); it.scrollIntoView({{block: 'center'}}); \
             const at = it.getBoundingClientRect(); \
             return [at.left + at.width / 2, at.top + at.height / 2]; }})()",
            json!(selector)
        );
        let place = self.value(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": place[0], "y": place[1], "button": "left",
                               "clickCount": 1});
            self.ask("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Presses and lets go of a key.
    pub(crate) async fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key,
                               "windowsVirtualKeyCode": code});
            self.ask("Input.dispatchKeyEvent", event).await;
        }
    }

    pub(crate) async fn size(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1,
                          "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`.
    pub(crate) async fn scheme(&mut self, scheme: &str) {
        let scheme = json!({"name": "prefers-color-scheme", "value": scheme});
        self.ask("Emulation.setEmulatedMedia", json!({"features": [scheme]})).await;
    }

    pub(crate) async fn without_scripts(&mut self) {
        self.ask("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    }

    /// Writes what is seen now as a picture.
    pub(crate) async fn picture(&mut self, path: &Path) {
        let picture = self.ask("Page.captureScreenshot", json!({"format": "png"})).await;
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) async fn close(mut self) {
        self.session = None;
        self.ask("Browser.close", json!({})).await;
        timeout(WITHIN, self.child.wait()).await.unwrap().unwrap();
    }
}
