//! What llguidance is asked: a grammar of each kind of structure.

use crate::schema::{AnswerSchema, MAX_TEXT, SMALLER};
use crate::structured::StructuredOutputs;
use crate::structured::growth::Growth;
use crate::structured::lark;
use llguidance::api::TopLevelGrammar;

/// A longer text of a structure is refused, for the time and the memory that its grammar would take; that of a regular
/// expression or a grammar at a shorter length.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_PATTERN_BYTES: usize = 64 << 10;

/// More choices are refused: each takes a kilobyte to compile.
const MAX_CHOICES: usize = 50_000;

/// Deeper brackets are refused, and more lines of a grammar: parsers go down by recursion, and so do rules of rules.
const MAX_DEPTH: usize = 200;
const MAX_LINES: usize = 4000;

/// More intersections in a grammar are refused: the states of a lexer may double with each.
const MAX_INTERSECTIONS: usize = 8;

/// What in a grammar is not enforced, or not as a user may think, and what to do.
const REFUSED: [(&str, &str); 7] = [
    ("temperature", "set --temperature for all tokens"),
    ("stop", "tokens cannot be taken back; write what follows as a part of the rule"),
    ("stop_capture", "captures are not shown"),
    ("capture", "captures are not shown"),
    ("%json", "give a schema with --json-schema, which checks what it says"),
    ("%llguidance", "its options change what a grammar means; leave them out"),
    ("%override", "llguidance passes it over"),
];

/// What is followed for a structure.
pub struct Grammar {
    /// What llguidance is asked.
    pub rules: TopLevelGrammar,
    /// Whether it allows names of objects that it does not list, of which none may come twice.
    pub has_other_names: bool,
}

impl Grammar {
    fn of(rules: TopLevelGrammar) -> Grammar {
        Grammar { rules, has_other_names: false }
    }
}

/// The grammar of a structure.
///
/// # Errors
/// What of it cannot be enforced.
pub fn grammar(outputs: &StructuredOutputs) -> Result<Grammar, String> {
    let most = match outputs {
        StructuredOutputs::Json(_) | StructuredOutputs::Choice(_) => MAX_BYTES,
        StructuredOutputs::Regex(_) | StructuredOutputs::Grammar(_) => MAX_PATTERN_BYTES,
    };
    let bytes = outputs.text().len();
    if bytes > most {
        let smaller = match outputs {
            StructuredOutputs::Json(_) => SMALLER,
            StructuredOutputs::Choice(_) => "give fewer or shorter texts",
            StructuredOutputs::Regex(_) => "give a list of texts as `choice`, or say less of them",
            StructuredOutputs::Grammar(_) => "give a list of texts as `choice`, or give it fewer rules",
        };
        return Err(format!("it has {bytes} bytes; at most {most} are taken; {smaller}"));
    }
    match outputs {
        StructuredOutputs::Json(schema) => {
            let schema = AnswerSchema::read(schema).map_err(|error| error.to_string())?;
            let rules = TopLevelGrammar::from_json_schema(schema.grammar());
            Ok(Grammar { rules, has_other_names: schema.has_other_names() })
        }
        StructuredOutputs::Regex(regex) => {
            check_depth(regex)?;
            Growth::of_regex(regex)?.map_or(Ok(()), |growth| growth.check())?;
            Ok(Grammar::of(TopLevelGrammar::from_regex(regex)))
        }
        StructuredOutputs::Choice(texts) => {
            if let Some(long) = texts.iter().position(|text| text.len() > MAX_TEXT) {
                return Err(format!(
                    "choice {} has more than {MAX_TEXT} bytes, which are not taken",
                    long + 1
                ));
            }
            if texts.len() > MAX_CHOICES {
                return Err(format!("it has {} choices; at most {MAX_CHOICES} are taken", texts.len()));
            }
            let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
            let lark = format!("start: CHOICE\nCHOICE: {}\n", texts.join("\n  | "));
            Ok(Grammar::of(TopLevelGrammar::from_lark(lark)))
        }
        StructuredOutputs::Grammar(grammar) => {
            check_depth(grammar)?;
            let lines = grammar.lines().count();
            if lines > MAX_LINES {
                return Err(format!("it has {lines} lines; at most {MAX_LINES} are taken"));
            }
            check_lark(grammar)?;
            lark::growth(grammar)?;
            Ok(Grammar::of(TopLevelGrammar::from_lark(grammar.clone())))
        }
    }
}

/// A text as a literal of Lark: a JSON string, without the escapes that Lark does not have.
fn literal(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            c if c.is_control() => literal.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal + "\""
}

/// Refuses brackets within brackets beyond what parsers can take. Those in literals count, too.
fn check_depth(text: &str) -> Result<(), String> {
    let (mut depth, mut deepest) = (0usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_DEPTH {
        return Err(format!("its brackets are nested {deepest} deep; at most {MAX_DEPTH} are taken"));
    }
    Ok(())
}

/// Refuses what llguidance takes and does not enforce.
fn check_lark(lark: &str) -> Result<(), String> {
    let intersections: usize = lark.lines().map(|line| without_literals(line).matches('&').count()).sum();
    if intersections > MAX_INTERSECTIONS {
        return Err(format!(
            "it has {intersections} intersections (`&`); at most {MAX_INTERSECTIONS} are taken"
        ));
    }
    for (number, line) in lark.lines().enumerate() {
        let line = line.trim_start();
        let attributes = attributes(line);
        for (word, instead) in REFUSED {
            let written = match word.strip_prefix('%') {
                Some(_) => line.starts_with(word) || without_literals(line).contains(word),
                None => attributes.contains(&word),
            };
            if written {
                return Err(format!("line {}: `{word}` is not taken: {instead}", number + 1));
            }
        }
    }
    Ok(())
}

/// Refuses a grammar that names a token which ends answers: none goes on behind one.
///
/// # Errors
/// Where it does.
pub fn check_end_tokens(lark: &str, ends: &[(u32, String)]) -> Result<(), String> {
    for (number, line) in lark.lines().enumerate() {
        for named in special_tokens(line) {
            let ids = named.strip_prefix("<[").and_then(|list| list.strip_suffix("]>"));
            let is_named = |(id, written): &&(u32, String)| match ids {
                None => *written == named,
                Some(list) => list.split(',').any(|range| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let place = |text: &str| text.trim().parse::<u32>().ok();
                    place(first).zip(place(last)).is_some_and(|(first, last)| (first..=last).contains(id))
                }),
            };
            if let Some((_, written)) = ends.iter().find(is_named) {
                return Err(format!(
                    "line {}: {named} is taken for {written}, which ends an answer; leave it out: an answer ends where the \
                     grammar does",
                    number + 1
                ));
            }
        }
    }
    Ok(())
}

/// What stands in angle brackets outside of literals and regular expressions.
fn special_tokens(line: &str) -> Vec<&str> {
    let (mut tokens, mut begun, mut within, mut escaped) = (Vec::new(), None, None, false);
    for (at, c) in line.char_indices() {
        match (within, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(end), c) => within = Some(end).filter(|end| *end != c),
            (None, '/') if line[at..].starts_with("//") && begun.is_none() => break,
            (None, '"' | '/') if begun.is_none() => within = Some(c),
            (None, '<') => begun = Some(at),
            (None, '>') => tokens.extend(begun.take().map(|begun: usize| &line[begun..=at])),
            _ => {}
        }
    }
    tokens
}

/// The attributes of the rule that a line begins: `name[capture, max_tokens=3]: ...`.
fn attributes(line: &str) -> Vec<&str> {
    let name = line.find(|c: char| !(c.is_alphanumeric() || "_!?.-".contains(c))).unwrap_or(line.len());
    let rest = line[name..].trim_start();
    let Some(list) = rest.strip_prefix('[').filter(|_| name > 0) else { return Vec::new() };
    let plain = without_literals(list);
    let end = plain.find(']').unwrap_or(plain.len());
    let list = &list[..list.len().min(end)];
    list.split(',').map(|attribute| attribute.split('=').next().unwrap_or_default().trim()).collect()
}

/// A line with blanks in place of what stands in quotes, and without its comment.
fn without_literals(line: &str) -> String {
    let (mut plain, mut quoted, mut escaped) = (String::with_capacity(line.len()), false, false);
    for (at, c) in line.char_indices() {
        if !quoted && line[at..].starts_with("//") {
            break;
        }
        let was = quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        if was || quoted { (0..c.len_utf8()).for_each(|_| plain.push(' ')) } else { plain.push(c) }
    }
    plain
}
