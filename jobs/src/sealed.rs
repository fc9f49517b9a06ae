//! JSON whose last key is the digest of all text before it.

use crate::digest::digest_bytes;
use serde::Serialize;

/// A value as JSON with a seal under this key.
pub fn sealed(value: &impl Serialize, key: &str) -> String {
    // Maps with keys that are not text are all that could fail.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let head = text.strip_suffix("\n}").unwrap_or(&text);
    format!("{head}{}", seal(head, key))
}

/// Whether a text has the seal that it was written with.
pub fn is_sealed(text: &str, key: &str) -> bool {
    let end = text.rfind(&format!(",\n  \"{key}\""));
    end.is_some_and(|end| text[end..] == seal(&text[..end], key))
}

fn seal(head: &str, key: &str) -> String {
    format!(",\n  \"{key}\": \"{}\"\n}}\n", digest_bytes(head.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_text_has_no_seal() {
        let text = sealed(&serde_json::json!({ "a": 1, "b": "x" }), "digest");
        assert!(is_sealed(&text, "digest") && !is_sealed(&text, "other"));
        for (from, to) in [("1", "2"), ("x", "y"), ("}\n", "}"), ("{", " {")] {
            assert!(!is_sealed(&text.replacen(from, to, 1), "digest"), "{from}");
        }
        assert!(!is_sealed("", "digest"));
    }
}
