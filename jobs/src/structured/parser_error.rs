//! What llguidance says when it cannot go on, in words of what a user wrote.

use crate::structured::vocabulary::{LEXER_STATES, MASK_FUEL};
use engine::constraint::NoToken;

/// Characters of a long message that are shown at its beginning and at its end.
const LONGEST_END: usize = 300;

/// What is beyond a limit while a structure is compiled, by what llguidance says of it.
const COMPILING: [(&str, &str); 6] = [
    (
        "initial lexer configuration (grammar) too big",
        "its texts and patterns are too large together; make it smaller",
    ),
    (
        "grammar size (number of symbols) too big",
        "it has too many rules and alternatives together; make it smaller",
    ),
    (
        "lexer precomputation failed",
        "its regular expressions take too much work to begin with; give them fewer optional parts and classes",
    ),
    (
        "fuel exhausted when checking relevance",
        "whether its regular expressions match any text takes too much work to find out; give them fewer intersections",
    ),
    (
        "Unable to determine if regex is empty",
        "whether a text may match one of its patterns with the length beside it takes too much work to find out; leave one out",
    ),
    ("DNF too large", "its conditions (`%if`) have too many cases; give it fewer"),
];

/// What to do where the rules of a structure have too many ways.
const FEWER_RULES: &str =
    "make them less ambiguous, and write alternatives that are texts as one terminal (WORD: \"a\" | \"b\")";

/// A limit that an answer meets, by what llguidance says of it.
fn limit(error: &str) -> Option<String> {
    let most = |before: &str| {
        let digits = error.split(before).nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?;
        (!digits.is_empty()).then(|| format!(" than {digits}"))
    };
    if error.contains("too many expressions constructed") {
        Some(format!(
            "its regular expressions may match in too many ways here: a mask takes more work than is allowed ({MASK_FUEL} steps of a \
             lexer); lower their counts"
        ))
    } else if error.contains("too many states") {
        Some(format!(
            "its regular expressions may match in too many ways here: a lexer takes more than {LEXER_STATES} states; lower their \
             counts"
        ))
    } else if error.contains("Too many items") {
        let most = most("limit ").unwrap_or_default();
        Some(format!(
            "its rules may match in too many ways here: a mask takes more{most} items of a parser; {FEWER_RULES}"
        ))
    } else if error.contains("Current row has") {
        let most = most("max is ").unwrap_or_default();
        Some(format!(
            "its rules may go on in too many ways here: more{most} items of a parser; {FEWER_RULES}"
        ))
    } else {
        None
    }
}

/// Why an answer cannot go on.
pub(crate) fn no_token(error: &str) -> NoToken {
    if error.starts_with("NoExtension") {
        return NoToken::DeadEnd("nothing fits that could come next".into());
    }
    limit(error).map_or_else(|| NoToken::Failed(plain(error)), NoToken::TooComplex)
}

/// llguidance's message without what it says of its own state.
pub(crate) fn plain(error: &str) -> String {
    if error.starts_with("NoExtension") {
        return "nothing fits that could come next".into();
    }
    let known = |(part, plain): &(&str, &str)| error.contains(part).then(|| plain.to_string());
    if let Some(plain) = COMPILING.iter().find_map(known).or_else(|| limit(error)) {
        return plain;
    }
    let text = error.split("\n<").next().unwrap_or_default();
    shortened(text.trim().trim_end_matches('.'))
}

/// What is wrong with a regular expression, of which llguidance makes a grammar of one line with places of its own.
pub(crate) fn of_regex(error: &str) -> String {
    let Some((_, why)) = error.split_once("(in regex): ") else { return error.into() };
    let why = why.rsplit_once(" in regex /").map_or(why, |(why, _)| why);
    let part = match why.strip_prefix("lookarounds not supported yet; ") {
        Some("Start" | "StartLF" | "StartCRLF") => "`^` behind its beginning",
        Some("End" | "EndLF" | "EndCRLF") => "`$` before its end",
        Some(_) => "a word boundary (such as `\\b`)",
        None if why.contains("look-around") => "a lookaround, such as (?=...)",
        None if why.contains("backreferences") => "a backreference, such as \\1",
        None => return why.into(),
    };
    format!(
        "{part} is not taken; leave it out: it matches a text as a whole, so write which characters may stand there"
    )
}

/// A message that repeats what a user wrote, which may be long, by its beginning and its end.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= 2 * LONGEST_END {
        return text.into();
    }
    let begins: String = text.chars().take(LONGEST_END).collect();
    let ends: String = text.chars().skip(count - LONGEST_END).collect();
    format!("{begins} ... {ends}")
}
