//! Text of data as a terminal or a page may show it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Writes out what nobody sees or what a terminal obeys: control characters, ends of lines among them, and changes of
/// direction.
pub fn printable(text: &str) -> Cow<'_, str> {
    written_out(text, is_unseen)
}

/// The same, but for ends of lines and tabs.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    written_out(text, |c| is_unseen(c) && !matches!(c, '\n' | '\t'))
}

fn written_out(text: &str, out: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&out) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match out(c) {
            true => _ = write!(shown, "{}", c.escape_unicode()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Whether nobody sees a character.
fn is_unseen(c: char) -> bool {
    let turns = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{feff}'].contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    c.is_control() || turns || ('\u{2028}'..='\u{2029}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(printable("a\x1b[2J\u{9b}1m\n\u{202e}b"), "a\\u{1b}[2J\\u{9b}1m\\u{a}\\u{202e}b");
        assert_eq!(printable_lines("a\r\n\tb\u{7}"), "a\\u{d}\n\tb\\u{7}");
        assert!(matches!(printable("grüße 你好"), Cow::Borrowed(_)));
    }
}
