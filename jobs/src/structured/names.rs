//! The names of an answer's objects: none comes twice in one object.
//!
//! JSON lets a name come twice, a schema cannot forbid it of names that it does not list, and of two equal ones readers take
//! one. What a grammar cannot say is said here, of JSON that the grammar allows.

use std::collections::HashSet;

/// Where a JSON text stands, and which names its open objects have.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The names of each open object, and nothing for an array; the outermost first.
    open: Vec<Option<HashSet<Vec<u8>>>>,
    /// The string that is being written, from behind its quote, and whether it is a name.
    string: Option<(Vec<u8>, bool)>,
    /// Whether a string that begins now is a name.
    name_next: bool,
}

impl Names {
    /// Whether a name would come twice if these bytes came next.
    pub fn would_repeat(&self, bytes: &[u8]) -> bool {
        let Some(quote) = bytes.iter().position(|byte| *byte == b'"') else { return false };
        // Most tokens end a string, and begin none.
        if let Some((string, is_name)) = &self.string
            && !bytes[quote + 1..].contains(&b'"')
            && !bytes.contains(&b'\\')
            && !string.ends_with(b"\\")
        {
            return *is_name && self.has([string, &bytes[..quote]].concat());
        }
        !self.clone().take(bytes)
    }

    /// Takes what comes next. False if a name has come twice.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.take_byte(*byte))
    }

    fn take_byte(&mut self, byte: u8) -> bool {
        if let Some((string, is_name)) = &mut self.string {
            if byte != b'"' || is_escaped(string) {
                string.push(byte);
                return true;
            }
            let name = plain(std::mem::take(string));
            let is_name = *is_name;
            self.string = None;
            let names = self.open.last_mut().and_then(Option::as_mut).filter(|_| is_name);
            return names.is_none_or(|names| names.insert(name));
        }
        match byte {
            b'{' => self.open.push(Some(HashSet::new())),
            b'[' => self.open.push(None),
            b'}' | b']' => _ = self.open.pop(),
            b'"' => self.string = Some((Vec::new(), self.name_next)),
            _ => {}
        }
        self.name_next = match byte {
            b'{' => true,
            b',' => self.open.last().is_some_and(Option::is_some),
            b' ' => self.name_next,
            _ => false,
        };
        true
    }

    /// Whether the innermost object has a name, as it is written.
    fn has(&self, written: Vec<u8>) -> bool {
        self.open.last().and_then(Option::as_ref).is_some_and(|names| names.contains(&plain(written)))
    }
}

/// Whether the next character is a part of an escape.
fn is_escaped(string: &[u8]) -> bool {
    string.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// A name without escapes: it may be written in several ways.
fn plain(written: Vec<u8>) -> Vec<u8> {
    if !written.contains(&b'\\') {
        return written;
    }
    let quoted = [b"\"", &written[..], b"\""].concat();
    serde_json::from_slice::<String>(&quoted).map_or(written, String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_once_in_an_object() {
        for (begun, next, repeats) in [
            (r#"{"a": 1, "#, r#""a"#, false),
            (r#"{"a": 1, "#, r#""a""#, true),
            (r#"{"a": 1, "#, r#""ab""#, false),
            (r#"{"a": 1, "a"#, r#"""#, true),
            (r#"{"a": 1, "a"#, r#"b": "#, false),
            // Values are no names, and each object has its own.
            (r#"{"a": "#, r#""a""#, false),
            (r#"{"a": "a", "b": ["a", "#, r#""a""#, false),
            (r#"{"a": {"#, r#""a""#, false),
            (r#"{"a": {"b": 1}, "#, r#""b""#, false),
            (r#"{"a": [{"b": 1}, {"c": []}], "#, r#""a": "#, true),
            // Within what comes next.
            (r#"{"a": {"b": 1"#, r#"}, "a""#, true),
            ("", r#"{"a": 1, "a": 2}"#, true),
            ("[", r#"{"a": 1}, {"a": 2}"#, false),
            // However it is written.
            (r#"{"\n": 1, "\u000"#, r#"a""#, true),
            (r#"{"\"": 1, "\"#, r#"""#, false),
            (r#"{"\"": 1, "\"#, r#""""#, true),
            (r#"{"\\": 1, "\\"#, r#"""#, true),
        ] {
            let mut names = Names::default();
            assert!(names.take(begun.as_bytes()), "{begun}");
            assert_eq!(names.would_repeat(next.as_bytes()), repeats, "{begun} {next}");
            assert_eq!(names.take(next.as_bytes()), !repeats, "{begun} {next}");
        }
    }
}
