//! The tokens of a grammar in Lark's syntax, as llguidance tells them apart.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Name(&'a str),
    /// What a text in quotes says; a regular expression of one that ignores case is a `Regex`.
    Text(String),
    /// With its flags written into it.
    Regex(String),
    /// The text of `%regex`, of which any part matches.
    PartOf(String),
    /// Of `%name`.
    Keyword(&'a str),
    Number(u64),
    Sign(char),
    Arrow,
    /// The end of one line or of several.
    Line,
    /// A special token, or a grammar by its name.
    Other,
}

/// Of a whole grammar. What is no token is passed over.
pub(super) fn tokens(lark: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut left = lark;
    while let Some(c) = left.chars().next() {
        let (token, len) = match c {
            '\n' => (Some(Token::Line).filter(|line| tokens.last() != Some(line)), 1),
            '#' => (None, line_end(left)),
            '/' if left.starts_with("//") => (None, line_end(left)),
            '"' => text(left),
            '/' => regex(left),
            '%' => keyword(left),
            '<' if left[1..]
                .find(['<', '>', ' ', '\n'])
                .is_some_and(|at| left[1 + at..].starts_with('>')) =>
            {
                (Some(Token::Other), left.find('>').map_or(1, |at| at + 1))
            }
            '@' => (Some(Token::Other), 1 + name(&left[1..])),
            '-' if left.starts_with("->") => (Some(Token::Arrow), 2),
            '!' if name(&left[1..]) > 0 => (None, 1),
            '?' if tokens.last().is_none_or(|last| *last == Token::Line) => (None, 1),
            c if c.is_ascii_digit() => {
                let len = left.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(left.len());
                (Some(Token::Number(left[..len].parse().unwrap_or(u64::MAX))), len)
            }
            _ if name(left) > 0 => (Some(Token::Name(&left[..name(left)])), name(left)),
            c if c.is_whitespace() => (None, c.len_utf8()),
            c => (Some(Token::Sign(c)), c.len_utf8()),
        };
        tokens.extend(token);
        left = &left[len..];
    }
    tokens
}

fn line_end(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// The bytes of a name that begins here. A blank `-` ends it, as that of an arrow does.
fn name(text: &str) -> usize {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return 0;
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).unwrap_or(text.len());
    text[..end].find("->").unwrap_or(if text[end..].starts_with('>') && text[..end].ends_with('-') {
        end - 1
    } else {
        end
    })
}

/// Where what is quoted by a character ends, behind it.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn text(left: &str) -> (Option<Token<'_>>, usize) {
    let len = quoted(left, '"');
    let json = left[..len].replace(r"\x", r"\u00");
    let says = serde_json::from_str(&json).unwrap_or_else(|_| left[..len].to_string());
    match left[len..].starts_with('i') {
        true => (Some(Token::Regex(format!("(?i){}", regex_syntax::escape(&says)))), len + 1),
        false => (Some(Token::Text(says)), len),
    }
}

fn regex(left: &str) -> (Option<Token<'_>>, usize) {
    let len = quoted(left, '/');
    let is_flag = |c: char| "imslux".contains(c);
    let flags = left[len..].find(|c| !is_flag(c)).unwrap_or(left.len() - len);
    let regex = left[1..len].strip_suffix('/').unwrap_or(&left[1..len]);
    let regex = match flags {
        0 => regex.to_string(),
        _ => format!("(?{}){regex}", &left[len..len + flags]),
    };
    (Some(Token::Regex(regex)), len + flags)
}

/// A keyword, with the JSON behind those that have some.
fn keyword(left: &str) -> (Option<Token<'_>>, usize) {
    let len = 1 + name(&left[1..]);
    let word = &left[1..len];
    if !["regex", "json", "llguidance"].contains(&word) {
        return (Some(Token::Keyword(word)), len);
    }
    let mut values = serde_json::Deserializer::from_str(&left[len..]).into_iter::<Value>();
    let value = values.next().and_then(Result::ok).unwrap_or_default();
    let len = (len + values.byte_offset()).max(len);
    if word != "regex" {
        return (Some(Token::Other), len);
    }
    let texts = value.as_object().into_iter().flat_map(|keys| keys.values());
    let part = texts.map(|text| text.as_str().map_or_else(|| text.to_string(), str::to_string)).collect();
    (Some(Token::PartOf(part)), len)
}
