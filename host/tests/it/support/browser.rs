//! A real browser without a window, driven over WebDriver, which is JSON over HTTP: <https://www.w3.org/TR/webdriver2/>.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ports::free_port;
use super::until;

/// By WebDriver's own word for the field that names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys, as WebDriver names them: <https://www.w3.org/TR/webdriver2/#keyboard-actions>.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";

/// A browser with one window.
pub(crate) struct Browser {
    driver: Child,
    session: String,
    agent: ureq::Agent,
}

impl Browser {
    /// Starts one with a window of this size.
    pub(crate) fn start(width: u32, height: u32) -> Self {
        let port = free_port();
        let driver = Command::new(driver())
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .build()
            .into();
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}"), agent };
        until("the browser's driver answers", Duration::from_secs(60), || {
            browser.agent.get(format!("{}/status", browser.session)).call().is_ok()
        });
        // Tests run as root in containers, where the browser's own sandbox cannot be made.
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--lang=en",
            format!("--window-size={width},{height}")
        ]);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "unhandledPromptBehavior": "ignore",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let made = browser.post("/session", &wanted);
        browser.session += &format!("/session/{}", made["sessionId"].as_str().unwrap());
        browser
    }

    /// Opens an address.
    pub(crate) fn open(&self, address: &str) {
        self.post("/url", &json!({ "url": address }));
    }

    /// What a piece of JavaScript returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until the page holds a text that a person could read.
    pub(crate) fn sees(&self, text: &str) {
        until(&format!("the page says `{text}`"), Duration::from_secs(60), || self.text().contains(text));
    }

    /// All that a person could read on the page.
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Presses the button or link that says this, as a person would: it has to be seen and to be what lies there.
    pub(crate) fn press(&self, name: &str) {
        let find = json!({ "using": "xpath", "value": format!(
            "//*[self::button or self::a][normalize-space()='{name}' or @aria-label='{name}'][not(@disabled)][last()]") });
        until(&format!("there is a button `{name}` to press"), Duration::from_secs(60), || {
            let found = self.post("/elements", &find);
            // The last one: a dialog lies above what asked for it.
            let mut ids = found.as_array().unwrap().iter().filter_map(|element| element[ELEMENT].as_str());
            ids.next_back().is_some_and(|id| self.try_post(&format!("/element/{id}/click"), &json!({})).is_ok())
        });
    }

    /// Types into the field of this selector; for a file's field, the file's path.
    pub(crate) fn enter(&self, selector: &str, text: &str) {
        let id = self.element(selector);
        self.post(&format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// Chooses an option of a list by its value.
    pub(crate) fn choose(&self, selector: &str, value: &str) {
        let option = self.element(&format!("{selector} option[value='{value}']"));
        self.post(&format!("/element/{option}/click"), &json!({}));
    }

    /// Presses a key, on whatever has the focus.
    pub(crate) fn key(&self, key: &str) {
        let (down, up) = (json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key }));
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": [down, up] }] }));
    }

    /// The name of what has the focus.
    pub(crate) fn focus(&self) -> Value {
        self.run("return document.activeElement.textContent || document.activeElement.getAttribute('aria-label')")
    }

    /// Presses the tabulator until something has the focus.
    pub(crate) fn tab_to(&self, name: &str) {
        for _ in 0..60 {
            self.key(TAB);
            if self.focus() == name {
                return;
            }
        }
        panic!("the focus never comes to `{name}`");
    }

    fn element(&self, selector: &str) -> String {
        let mut id = None;
        until(&format!("there is a `{selector}`"), Duration::from_secs(60), || {
            let found = self.post("/elements", &json!({ "using": "css selector", "value": selector }));
            id = found[0][ELEMENT].as_str().map(ToOwned::to_owned);
            id.is_some()
        });
        id.unwrap()
    }

    /// Makes the window this wide and high.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.post("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// Keeps a picture of the window under `target/console`, for people to look at.
    pub(crate) fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/console");
        std::fs::create_dir_all(&folder).unwrap();
        let picture = self.get("/screenshot");
        let bytes = STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// What the browser itself complained of since the last time: refused scripts, errors, files that were not there.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        log.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = self.agent.get(format!("{}{path}", self.session)).call().unwrap();
        let answer: Value = answer.body_mut().read_json().unwrap();
        answer["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.try_post(path, body).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    fn try_post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let mut answer = self.agent.post(format!("{}{path}", self.session)).send_json(body).unwrap();
        let status = answer.status();
        let answer: Value = answer.body_mut().read_json().unwrap();
        if status.is_success() { Ok(answer["value"].clone()) } else { Err(answer["value"]["message"].to_string()) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser that it began; killed at once, it would leave it running.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The driver; installed when it is missing. A test never goes on without it.
fn driver() -> &'static PathBuf {
    static DRIVER: OnceLock<PathBuf> = OnceLock::new();
    DRIVER.get_or_init(|| {
        if let Some(path) = std::env::var_os("TIDEGATE_CHROMEDRIVER") {
            return PathBuf::from(path);
        }
        let path = PathBuf::from("/usr/bin/chromedriver");
        if !path.is_file() {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
            let fetched = Command::new(env!("CARGO")).args(["xtask", "servers"]).current_dir(root).output().unwrap();
            let said = String::from_utf8_lossy(&fetched.stderr);
            assert!(fetched.status.success() && path.is_file(), "could not get a browser: {said}");
        }
        path
    })
}
