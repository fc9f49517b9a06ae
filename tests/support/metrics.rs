//! A run whose metrics are read while it goes on.

use super::job::Bench;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Watched {
    pub child: Child,
    /// As in `127.0.0.1:9400`.
    pub address: String,
}

impl Watched {
    /// Starts a run and waits until it says where its metrics are.
    pub fn start(mut command: Command) -> Watched {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let address = lines.by_ref().find_map(|line| {
            let address = line
                .split_once("metrics: http://")
                .map(|(_, rest)| rest.split('/').next().unwrap().to_string());
            said.push(line);
            address
        });
        let address = address.unwrap_or_else(|| panic!("{said:?}"));
        // A pipe that nobody reads would fill up.
        std::thread::spawn(move || lines.count());
        Watched { child, address }
    }

    /// What a request is answered with, head and all.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = format!("{request} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(host.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The metrics, once they are as wanted.
    pub fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let text = self.ask("GET /metrics");
            if wanted(&text) {
                return text;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the metrics have as many rows of the job as its journal.
    pub fn wait_for_rows(&self, bench: &Bench, output: &str) -> (String, u64) {
        let finished = || {
            let ran = bench.run(&["status", output, "--json"]);
            let status: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
            status["finished"].as_u64().unwrap_or(0)
        };
        let text = self.wait_for(|text| {
            let now = value(text, "gristmill_job_rows_finished");
            // Twice the same, while nothing goes on.
            now > Some(0.0) && now == Some(finished() as f64) && {
                std::thread::sleep(Duration::from_secs(1));
                now == Some(finished() as f64)
                    && value(&self.ask("GET /metrics"), "gristmill_job_rows_finished") == now
            }
        });
        let finished = value(&text, "gristmill_job_rows_finished").unwrap() as u64;
        (text, finished)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a metric without labels.
pub fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}
