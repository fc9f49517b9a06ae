//! A local S3 server, and a proxy that loses answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A server with the bucket `mill`.
pub struct S3 {
    server: Child,
    /// Host and port.
    pub address: String,
}

impl S3 {
    /// Starts a server, or prints that its tests are skipped; `REQUIRE_S3` makes that a failure.
    pub fn start() -> Option<S3> {
        let moto = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/moto_server");
        if !moto.exists() {
            let why = format!("{} is not there; tests/run installs it", moto.display());
            let required = std::env::var("REQUIRE_S3").is_ok_and(|required| !required.is_empty());
            assert!(!required, "REQUIRE_S3 is set, but: {why}");
            eprintln!("SKIPPED: no local S3 server: {why}");
            return None;
        }
        let mut server = Command::new(moto);
        server.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        let mut server =
            server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address =
            lines.find_map(|line| Some(line.split_once("Running on http://")?.1.trim().to_string()));
        std::thread::spawn(move || lines.for_each(drop));
        let s3 = S3 { server, address: address.expect("the server ended at once") };
        assert_eq!(s3.ask("PUT", "/mill", b"").0, 200);
        Some(s3)
    }

    /// Sends a request and returns status and body.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        ask(&self.address, method, path, body)
    }

    /// Puts a file into the bucket.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        put(&self.address, key, bytes);
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let (status, bytes) = self.ask("GET", &format!("/mill/{key}"), b"");
        (status == 200).then_some(bytes)
    }

    /// The keys with this prefix, sorted.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.listed(&format!("/mill?list-type=2&prefix={prefix}"))
    }

    /// The keys of uploads that were started and neither completed nor aborted.
    pub fn uploads(&self) -> Vec<String> {
        self.listed("/mill?uploads")
    }

    fn listed(&self, path: &str) -> Vec<String> {
        let (status, body) = self.ask("GET", path, b"");
        assert_eq!(status, 200);
        let body = String::from_utf8(body).unwrap();
        let keys = body.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_string());
        keys.collect()
    }

    /// Points a command to the server, or to a proxy before it.
    pub fn aim(&self, command: &mut Command, address: &str) {
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
            .env("AWS_ENDPOINT_URL", format!("http://{address}"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "miller")
            .env("AWS_SECRET_ACCESS_KEY", "grist");
    }
}

/// Puts a file into the bucket of a server.
pub fn put(address: &str, key: &str, bytes: &[u8]) {
    assert_eq!(ask(address, "PUT", &format!("/mill/{key}"), bytes).0, 200);
}

fn ask(address: &str, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    // The server wants an access key, and does not check the signature.
    let who = "AWS4-HMAC-SHA256 Credential=miller/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: {who}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// What a [`Way`] does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Forwards it, and returns the answer.
    Pass,
    /// The same without the condition `If-Match`, as a store that does not know it.
    Unconditional,
    /// Forwards it and drops the answer.
    DropAnswer,
    /// Holds it.
    Hold,
}

/// A proxy before a server.
pub struct Way {
    /// Host and port.
    pub address: String,
    /// The first lines of requests that did not pass.
    pub caught: Receiver<String>,
}

impl Way {
    /// Starts a proxy; `decide` gets the number of requests that did not pass, and a request's first line.
    pub fn to(s3: &S3, decide: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, caught) = channel();
        let server = s3.address.clone();
        let decide = std::sync::Arc::new(decide);
        let count = std::sync::Arc::new(std::sync::Mutex::new(0));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (server, sender, count) = (server.clone(), sender.clone(), count.clone());
                let decide = decide.clone();
                std::thread::spawn(move || {
                    let mut client = client.unwrap();
                    let Some((line, mut request)) = request(&client) else { return };
                    let act = {
                        let mut count = count.lock().unwrap();
                        let act = decide(*count, &line);
                        *count += usize::from(!act.passes());
                        act
                    };
                    if act == Act::Unconditional {
                        request = without_condition(&request);
                    }
                    let mut answer = Vec::new();
                    if act != Act::Hold {
                        let mut server = TcpStream::connect(&server).unwrap();
                        server.write_all(&request).unwrap();
                        server.read_to_end(&mut answer).unwrap();
                    }
                    if !act.passes() {
                        let _ = sender.send(line);
                    }
                    match act {
                        // The client may have disconnected.
                        Act::Pass | Act::Unconditional => drop(client.write_all(&answer)),
                        Act::DropAnswer => {}
                        Act::Hold => drop(client.read(&mut [0])),
                    }
                });
            }
        });
        Way { address, caught }
    }
}

impl Act {
    fn passes(self) -> bool {
        matches!(self, Act::Pass | Act::Unconditional)
    }
}

/// A request without a body, without its `If-Match`.
fn without_condition(request: &[u8]) -> Vec<u8> {
    let head = String::from_utf8(request.to_vec()).unwrap();
    let kept =
        head.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("if-match:"));
    kept.collect::<String>().into_bytes()
}

/// Reads a request: its first line, and the whole of it, changed so that the connection closes after it.
fn request(client: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(client);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|&n| n > 0)?;
    let mut head = first.clone().into_bytes();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head.extend(line.bytes());
        }
    }
    head.extend(b"Connection: close\r\n\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    head.extend(body);
    Some((first.trim().to_string(), head))
}
