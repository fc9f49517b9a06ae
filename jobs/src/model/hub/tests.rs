#![allow(clippy::unwrap_used)]
use super::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub on this machine, with what it was asked for.
struct LocalHub {
    hub: Hub,
    asked: Arc<Mutex<Vec<String>>>,
    _cache: tempfile::TempDir,
}

fn local_hub(files: &[(&str, &str)]) -> LocalHub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let files: BTreeMap<String, String> = files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (files, log) = (files.clone(), log.clone());
            std::thread::spawn(move || serve(stream.unwrap(), &files, &log));
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub { endpoint, cache: cache.path().into(), offline: false, token: Some("secret".into()) };
    LocalHub { hub, asked, _cache: cache }
}

fn serve(mut stream: TcpStream, files: &BTreeMap<String, String>, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_string();
        log.lock().unwrap().push(path.clone());
        let (status, body) = answer(&path, files, head.contains("Bearer secret"));
        let range =
            head.to_ascii_lowercase().lines().find_map(|l| l.strip_prefix("range: bytes=").map(String::from));
        let (status, body, total) = match range.filter(|_| status == 200) {
            Some(range) => {
                let (from, to) = range.split_once('-').unwrap();
                let from: usize = from.parse().unwrap();
                let to = to.parse().map_or(body.len(), |to: usize| (to + 1).min(body.len()));
                (206, body[from.min(to)..to].to_string(), body.len())
            }
            None => (status, body.clone(), body.len()),
        };
        let reply = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nContent-Range: bytes 0-0/{total}\r\nETag: \"{}\"\r\n\
             x-repo-commit: {SHA}\r\n\r\n{body}",
            body.len(),
            path.replace('/', "_")
        );
        stream.write_all(reply.as_bytes()).unwrap();
    }
}

fn answer(path: &str, files: &BTreeMap<String, String>, signed_in: bool) -> (u16, String) {
    if !signed_in {
        return (401, String::new());
    }
    let api = [format!("/api/models/org/name/revision/{SHA}"), "/api/models/org/name/revision/main".into()];
    if api.contains(&path.to_string()) {
        let siblings: Vec<_> = files.keys().map(|name| serde_json::json!({ "rfilename": name })).collect();
        return (200, serde_json::json!({ "sha": SHA, "siblings": siblings }).to_string());
    }
    let file = path.strip_prefix(&format!("/org/name/resolve/{SHA}/"));
    file.and_then(|file| files.get(file)).map_or((404, String::new()), |text| (200, text.clone()))
}

const INDEX_TEXT: &str = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

#[test]
fn a_model_is_fetched_once_and_found_offline() {
    let local = local_hub(&[
        ("config.json", "{}"),
        ("tokenizer.json", "tok"),
        ("README.md", "never fetched"),
        (INDEX, INDEX_TEXT),
        ("model-1.safetensors", "one"),
        ("model-2.safetensors", "two"),
    ]);
    let offline = Hub { offline: true, ..local.hub.clone() };
    let error = offline.folder("org/name", "main", Need::All).unwrap_err().to_string();
    assert!(error.contains("org/name@main: config.json is not in the cache"), "{error}");
    assert!(local.asked.lock().unwrap().is_empty(), "offline asks nobody");
    let folder = local.hub.folder("org/name", "main", Need::All).unwrap();
    for (name, text) in [("config.json", "{}"), ("tokenizer.json", "tok"), ("model-2.safetensors", "two")] {
        assert_eq!(std::fs::read_to_string(folder.join(name)).unwrap(), text);
    }
    assert!(!folder.join("README.md").exists());
    let asked = local.asked.lock().unwrap().len();
    assert_eq!(local.hub.folder("org/name", "main", Need::All).unwrap(), folder);
    assert_eq!(local.asked.lock().unwrap().len(), asked + 1, "only what the newest commit is");
    assert_eq!(offline.folder("org/name", "main", Need::All).unwrap(), folder);
    assert_eq!(offline.folder("org/name", SHA, Need::NoWeights).unwrap(), folder);
}

#[test]
fn what_cannot_be_used_is_refused() {
    let refuse = |files: &[(&str, &str)], need, message: &str| {
        let local = local_hub(files);
        let error = local.hub.folder("org/name", "main", need).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    refuse(&[("README.md", "")], Need::All, "has no config.json");
    refuse(&[("config.json", "{}"), ("pytorch_model.bin", "")], Need::All, "pytorch_model.bin is a pickle");
    let outside = r#"{"weight_map": {"a": "../../evil.safetensors"}}"#;
    refuse(&[("config.json", "{}"), (INDEX, outside)], Need::All, "only plain names");
    refuse(
        &[("config.json", "{}"), (INDEX, INDEX_TEXT)],
        Need::All,
        "names model-1.safetensors, which does not exist",
    );
    let local = local_hub(&[("config.json", "{}")]);
    assert!(local.hub.folder("org/name", "main", Need::NoWeights).is_ok());
    let unknown = local.hub.folder("org/other", "main", Need::All).unwrap_err().to_string();
    assert!(unknown.contains("404") && unknown.contains("check the name"), "{unknown}");
    let stranger = Hub { token: None, ..local.hub.clone() };
    let error = stranger.folder("org/name", "main", Need::All).unwrap_err().to_string();
    assert!(error.contains("HF_TOKEN"), "{error}");
    for name in ["a/b/c", "../x", "org/..", "", "org/na me", "/etc"] {
        assert!(local.hub.folder(name, "main", Need::All).is_err(), "{name}");
    }
}
