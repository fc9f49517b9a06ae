//! The texts that a template holds: what stands outside its tags, and its string constants.

/// The methods and filters that look for a text in another.
const LOOK_FOR: [&str; 14] = [
    "split",
    "rsplit",
    "partition",
    "rpartition",
    "replace",
    "startswith",
    "endswith",
    "find",
    "rfind",
    "index",
    "count",
    "strip",
    "removeprefix",
    "removesuffix",
];

/// A text that stands in a template.
#[derive(Debug, PartialEq)]
pub struct Literal {
    pub text: String,
    /// The template looks for it in another text, as in `'</think>' in content`.
    pub looked_for: bool,
}

/// All texts of a template. What is in comments is none.
pub fn literals(source: &str) -> Vec<Literal> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(open) = rest.find("{%").into_iter().chain(rest.find("{{")).chain(rest.find("{#")).min() {
        found.push(Literal { text: rest[..open].to_string(), looked_for: false });
        let tag = &rest[open + 2..];
        let length = match &rest[open..open + 2] {
            "{#" => tag.find("#}").map_or(tag.len(), |end| end + 2),
            opening => constants(tag, if opening == "{%" { "%}" } else { "}}" }, &mut found),
        };
        rest = &tag[length..];
    }
    found.push(Literal { text: rest.to_string(), looked_for: false });
    found.retain(|literal| !literal.text.is_empty());
    found
}

/// Takes the string constants of a tag. Returns the tag's length with its end.
fn constants(tag: &str, close: &str, found: &mut Vec<Literal>) -> usize {
    let mut at = 0;
    while let Some(c) = tag[at..].chars().next() {
        if tag[at..].starts_with(close) {
            return at + close.len();
        }
        if c != '\'' && c != '"' {
            at += c.len_utf8();
            continue;
        }
        let (text, length) = constant(&tag[at + 1..], c);
        let looked_for = looked_for(&tag[..at], &tag[at + 1 + length..]);
        found.push(Literal { text, looked_for });
        at += 1 + length;
    }
    tag.len()
}

/// The value of a string constant after its opening quote, and its length with the closing one.
fn constant(source: &str, quote: char) -> (String, usize) {
    let mut text = String::new();
    let mut chars = source.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, 'r')) => text.push('\r'),
                Some((at, kind @ ('x' | 'u' | 'U'))) => {
                    let digits = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code = source
                        .get(at + 1..at + 1 + digits)
                        .and_then(|code| u32::from_str_radix(code, 16).ok());
                    if let Some(c) = code.and_then(char::from_u32) {
                        text.push(c);
                        chars.nth(digits - 1);
                    }
                }
                Some((_, c)) => text.push(c),
                None => {}
            },
            c if c == quote => return (text, at + c.len_utf8()),
            c => text.push(c),
        }
    }
    (text, source.len())
}

/// Whether a constant between these texts is looked for.
fn looked_for(before: &str, after: &str) -> bool {
    let (before, after) = (before.trim_end(), after.trim_start());
    let word = |text: &str, word: &str| {
        text.strip_prefix(word)
            .is_some_and(|rest| rest.starts_with(|c: char| !c.is_alphanumeric() && c != '_'))
    };
    if word(after, "in")
        || word(after, "not")
        || ["==", "!="].iter().any(|op| before.ends_with(op) || after.starts_with(op))
    {
        return true;
    }
    let Some(call) = before.strip_suffix('(') else { return false };
    LOOK_FOR.iter().any(|name| call.trim_end().ends_with(name))
}

/// What has the form of a turn marker, as in `<|user|>`, `<｜User｜>` or `<start_of_turn>`.
pub fn marker_shaped(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('<') {
        let Some(length) = text[at..].find('>') else { break };
        let inner = &text[at + 1..at + length];
        let barred = |bar| inner.len() > 2 && inner.starts_with(bar) && inner.ends_with(bar);
        let plain = inner.len() <= 64 && !inner.contains(char::is_whitespace) && !inner.contains('<');
        if plain && (barred('|') || barred('｜') || matches!(inner, "start_of_turn" | "end_of_turn")) {
            found.push(&text[at..=at + length]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_markers_have_a_form() {
        let text = "a<|user|>b < c <｜User｜><b><start_of_turn><|a b|><|><|<|x|>";
        assert_eq!(marker_shaped(text), ["<|user|>", "<｜User｜>", "<start_of_turn>", "<|x|>"]);
    }

    #[test]
    fn texts_and_constants_are_found_and_comments_are_not() {
        let source =
            "a{# 'no' #}{{ 'b\\n' ~ \"}}\\u003c\" }}{%- if '</t>' in c or x.split(\"<s>\")[0] == 'y' -%}z";
        let found = literals(source);
        let texts: Vec<(&str, bool)> = found.iter().map(|l| (l.text.as_str(), l.looked_for)).collect();
        let expected = [
            ("a", false),
            ("b\n", false),
            ("}}<", false),
            ("</t>", true),
            ("<s>", true),
            ("y", true),
            ("z", false),
        ];
        assert_eq!(texts, expected);
        assert_eq!(literals("{{ 'open"), [Literal { text: "open".into(), looked_for: false }]);
        assert_eq!(literals("{% if x not in '<a>' %}{{ 'ä' }}")[0].text, "<a>");
    }
}
