//! The outer object of a request: what it is called, and where it goes.

use crate::input::json;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

/// A line that is a request.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub custom_id: String,
    pub endpoint: Endpoint,
    /// JSON of an object.
    pub body: Box<RawValue>,
}

/// A line that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// If it has one.
    pub custom_id: Option<String>,
    /// A short name of what is wrong.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Envelope {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, body aside.
    pub fn read(line: &[u8]) -> Result<Envelope, BadLine> {
        let wrong = |code, message: String| BadLine { custom_id: None, code, message };
        if let Some(why) = json::wrong_line(line) {
            return Err(wrong("invalid_json_line", why));
        }
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(line).map_err(|error| wrong("invalid_json_line", error.to_string()))?;
        let missing = |name: &str| format!("`{name}` is missing");
        let custom_id = match fields.remove("custom_id") {
            None => return Err(wrong("missing_required_parameter", missing("custom_id"))),
            Some(id) => match serde_json::from_str::<String>(id.get()) {
                Ok(id) if !id.is_empty() => id,
                _ => {
                    return Err(wrong(
                        "invalid_custom_id",
                        "`custom_id` must be a string, and not empty".into(),
                    ));
                }
            },
        };
        let wrong = |code, message: String| BadLine { custom_id: Some(custom_id.clone()), code, message };
        let mut field = |name: &str| {
            fields.remove(name).ok_or_else(|| wrong("missing_required_parameter", missing(name)))
        };
        let (method, url, body) = (field("method")?, field("url")?, field("body")?);
        if method.get() != "\"POST\"" {
            return Err(wrong("invalid_method", format!("`method` is {method}; it must be \"POST\"")));
        }
        let asked: Option<String> = serde_json::from_str(url.get()).ok();
        let known = [Endpoint::Chat, Endpoint::Completions];
        let Some(endpoint) = known.into_iter().find(|endpoint| asked.as_deref() == Some(endpoint.url()))
        else {
            let known = known.map(Endpoint::url).join(" and ");
            return Err(wrong("invalid_url", format!("`url` is {url}; answered are {known}")));
        };
        if !body.get().starts_with('{') {
            return Err(wrong("invalid_body", "`body` must be an object".into()));
        }
        if let Some(name) = fields.keys().next() {
            let message =
                format!("`{name}` is no field of a request, which has custom_id, method, url and body");
            return Err(wrong("unknown_parameter", message));
        }
        Ok(Envelope { custom_id, endpoint, body })
    }

    /// The custom_id of a line, if it has one, whatever else is wrong with it.
    pub fn custom_id_of(line: &[u8]) -> Option<String> {
        match Envelope::read(line) {
            Ok(envelope) => Some(envelope.custom_id),
            Err(bad) => bad.custom_id,
        }
    }
}

impl Endpoint {
    /// Where requests for it go.
    pub fn url(self) -> &'static str {
        match self {
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Completions => "/v1/completions",
        }
    }

    /// The field that says what is asked.
    pub fn asks_in(self) -> &'static str {
        match self {
            Endpoint::Chat => "messages",
            Endpoint::Completions => "prompt",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_a_request_or_says_why_not() {
        let good =
            r#"{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x"}}"#;
        let envelope = Envelope::read(good.as_bytes()).unwrap();
        assert_eq!((envelope.custom_id.as_str(), envelope.endpoint), ("a", Endpoint::Completions));
        assert_eq!(envelope.body.get(), r#"{"prompt": "x"}"#);
        let rest = r#""method": "POST", "url": "/v1/completions", "body": {}"#;
        for (line, id, code) in [
            ("{", None, "invalid_json_line"),
            ("[]", None, "invalid_json_line"),
            (r#"{"custom_id": "a", "custom_id": "a"}"#, None, "invalid_json_line"),
            (r#"{"custom_id": "\ud800"}"#, None, "invalid_json_line"),
            (&format!("{{{rest}}}"), None, "missing_required_parameter"),
            (&format!("{{\"custom_id\": 7, {rest}}}"), None, "invalid_custom_id"),
            (&format!("{{\"custom_id\": \"\", {rest}}}"), None, "invalid_custom_id"),
            (&format!("{{\"custom_id\": \"a\", {rest}, \"x\": 1}}"), Some("a"), "unknown_parameter"),
            (r#"{"custom_id": "a"}"#, Some("a"), "missing_required_parameter"),
            (&good.replace("POST", "GET"), Some("a"), "invalid_method"),
            (&good.replace("/v1/completions", "/v1/embeddings"), Some("a"), "invalid_url"),
            (&good.replace(r#"{"prompt": "x"}"#, "[]"), Some("a"), "invalid_body"),
        ] {
            let bad = Envelope::read(line.as_bytes()).unwrap_err();
            assert_eq!((bad.custom_id.as_deref(), bad.code), (id, code), "{line}");
            assert_eq!(Envelope::custom_id_of(line.as_bytes()).as_deref(), id);
        }
        assert_eq!(Envelope::read(b"{\"custom_id\": \"\xff\"}").unwrap_err().code, "invalid_json_line");
    }
}
