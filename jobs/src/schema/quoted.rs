//! Patterns of texts that stand in JSON, where `"`, `\` and control characters are escaped.
//!
//! derivre 0.3.13, which writes the escapes into a pattern, takes a class of all control characters, or of all but the line feed,
//! for one that has `"` and `\`, too, also where it has made the class of several. No class has all of them here that lacks one of
//! the two: it goes without U+0000, which no answer then has there.

use regex_syntax::hir::print::Printer;
use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};

/// A pattern in Rust's syntax, without U+0000 where it must not be. It matches nothing that the pattern does not match.
///
/// # Errors
/// That nothing else is left of a character.
pub(super) fn within_json(pattern: &str) -> Result<String, String> {
    // What cannot be parsed is told by the engine.
    let Ok(hir) = regex_syntax::parse(pattern) else { return Ok(pattern.into()) };
    let less = without_nul(&hir)?;
    if less == hir {
        return Ok(pattern.into());
    }
    let mut text = String::new();
    Printer::new().print(&less, &mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

fn without_nul(hir: &Hir) -> Result<Hir, String> {
    let all = |parts: &[Hir]| parts.iter().map(without_nul).collect::<Result<Vec<_>, _>>();
    Ok(match hir.kind() {
        HirKind::Literal(text) if text.0.contains(&0) => return Err(only_nul()),
        HirKind::Class(Class::Unicode(class)) => Hir::class(Class::Unicode(class_without_nul(class)?)),
        HirKind::Repetition(repeated) => {
            Hir::repetition(Repetition { sub: Box::new(without_nul(&repeated.sub)?), ..repeated.clone() })
        }
        HirKind::Capture(group) => {
            Hir::capture(Capture { sub: Box::new(without_nul(&group.sub)?), ..group.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(all(parts)?),
        HirKind::Alternation(branches) => Hir::alternation(all(branches)?),
        _ => hir.clone(),
    })
}

fn class_without_nul(class: &ClassUnicode) -> Result<ClassUnicode, String> {
    let has = |c: char| class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&c));
    if !has('\0') || has('"') && has('\\') {
        return Ok(class.clone());
    }
    let mut less = class.clone();
    less.difference(&ClassUnicode::new([ClassUnicodeRange::new('\0', '\0')]));
    if less.ranges().is_empty() { Err(only_nul()) } else { Ok(less) }
}

fn only_nul() -> String {
    "U+0000 alone is not taken; leave it out".into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn classes_without_quotes_go_without_nul() {
        for (pattern, expected) in [
            (r#"[^"]"#, "(?:[\u{1}-!#-\u{10FFFF}])"),
            (r"a[\x00-\x1f]{2}", "(?:a(?:[\u{1}-\u{1f}]){2})"),
            (r#"(?:[^\\]|x)+"#, "(?:[\u{1}-\\[\\]-\u{10FFFF}]|x)+"),
        ] {
            let less = within_json(pattern).unwrap();
            assert_eq!(regex_syntax::parse(&less), regex_syntax::parse(expected), "{pattern}: {less}");
        }
        for unchanged in ["(?s:.*)", r"[^\n\r]", r"[\x01-\x1f]", "[a-z]{3}", r#"[\x00-\x7f]"#] {
            assert_eq!(within_json(unchanged).unwrap(), unchanged);
        }
        assert!(within_json(r"a\x00").is_err() && within_json(r"[\x00]{2}").is_err());
    }
}
