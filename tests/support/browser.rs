//! Chromium without a screen, told what to do by its DevTools protocol over a pipe.

use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The names of its program.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

pub struct Browser {
    child: Child,
    orders: File,
    answers: BufReader<File>,
    session: Option<String>,
    number: u64,
    /// What the page has said: errors, and lines of its console.
    pub said: Vec<Value>,
    // Last, so that the browser has ended when it goes.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a browser with one page, or prints that the test is skipped. `REQUIRE_CHROMIUM=1` makes its absence a failure.
    pub fn open() -> Option<Browser> {
        let profile = tempfile::tempdir().unwrap();
        let (orders_out, orders) = std::io::pipe().unwrap();
        let (answers, answers_in) = std::io::pipe().unwrap();
        // The program reads orders from descriptor 3 and answers on 4; copies beyond these are out of their way.
        let fds = [orders_out.as_raw_fd(), answers_in.as_raw_fd()];
        let install = move || {
            // SAFETY: the descriptors are open, and these calls are allowed between fork and exec.
            let copies = fds.map(|fd| unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 16) });
            for (copy, place) in copies.into_iter().zip([3, 4]) {
                // SAFETY: as above.
                if copy < 0 || unsafe { libc::dup2(copy, place) } < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        };
        let child = PROGRAMS.iter().find_map(|program| {
            let mut command = Command::new(program);
            command
                .args([
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--remote-debugging-pipe",
                    "about:blank",
                ])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            // SAFETY: what runs there allocates nothing.
            unsafe { command.pre_exec(install) };
            command.spawn().ok()
        });
        let Some(child) = child else {
            let required = std::env::var("REQUIRE_CHROMIUM").is_ok_and(|value| value == "1");
            assert!(!required, "REQUIRE_CHROMIUM=1, but there is no Chromium (apt-get install chromium)");
            eprintln!("SKIPPED: no Chromium (apt-get install chromium)");
            return None;
        };
        drop((orders_out, answers_in));
        let [orders, answers] =
            [File::from(std::os::fd::OwnedFd::from(orders)), File::from(std::os::fd::OwnedFd::from(answers))];
        let answers = BufReader::new(answers);
        let (session, said) = (None, Vec::new());
        let mut browser = Browser { child, orders, answers, session, number: 0, said, _profile: profile };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attached = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", attached);
        browser.session = attached["sessionId"].as_str().map(String::from);
        for domain in ["Page", "Runtime", "Log"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Opens a file in a window of a width.
    pub fn show(&mut self, file: &Path, width: u32, scheme: &str) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", scheme);
        self.ask("Page.navigate", json!({"url": format!("file://{}", file.display())}));
        let begun = Instant::now();
        while self.evaluate("document.readyState + location.protocol") != json!("completefile:") {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} does not load", file.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of an expression of the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut order = json!({"id": self.number, "method": method, "params": params});
        if let Some(session) = &self.session {
            order["sessionId"] = session.clone().into();
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).unwrap();
        loop {
            let mut message = Vec::new();
            self.answers.read_until(0, &mut message).unwrap();
            assert_eq!(message.pop(), Some(0), "the browser has ended");
            let mut message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
            let said = ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"];
            if said.iter().any(|said| message["method"] == *said) {
                self.said.push(message["params"].take());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
