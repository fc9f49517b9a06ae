//! Reads a grammar in Lark's syntax as far as it decides in how many places an answer may be at once ([`Growth`]). What is wrong
//! with it is left to llguidance to tell.

use crate::structured::chars::Chars;
use crate::structured::growth::Growth;
use crate::structured::lark_tokens::{Token, tokens};
use std::collections::HashMap;

/// Names within names that are looked into.
const MAX_DEPTH: usize = 300;

/// Of a whole grammar.
///
/// # Errors
/// The name of a rule or terminal that may be in too many places at once.
pub(crate) fn growth(lark: &str) -> Result<Growth, String> {
    of_tokens(&tokens(lark), 0)
}

fn of_tokens(tokens: &[Token<'_>], depth: usize) -> Result<Growth, String> {
    let mut definitions = HashMap::new();
    let mut ignored = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = at + end_of_item(&tokens[at..]);
        match &tokens[at..end] {
            [Token::Keyword("ignore"), body @ ..] => ignored.push(body),
            [Token::Name(name), rest @ ..] => {
                let head = end_of_head(rest);
                let body = rest.get(head + 1..).unwrap_or_default();
                definitions.entry(*name).or_insert(Definition { attributes: &rest[..head], body });
            }
            _ => {}
        }
        at = end + 1;
    }
    let mut reader = Reader { definitions, known: HashMap::new(), depth };
    let mut whole = reader.named("start")?;
    for body in ignored {
        whole = whole.beside(reader.read(body, false)?);
    }
    whole.check()?;
    Ok(whole)
}

/// Where the item ends that tokens begin with: at a line's end behind which no `|` goes on, and outside of a nested grammar.
fn end_of_item(tokens: &[Token<'_>]) -> usize {
    let mut braces = 0i64;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('{') => braces += 1,
            Token::Sign('}') => braces -= 1,
            Token::Line if braces <= 0 && tokens.get(at + 1) != Some(&Token::Sign('|')) => return at,
            _ => {}
        }
    }
    tokens.len()
}

/// Where the `:` is behind a name and its attributes.
fn end_of_head(tokens: &[Token<'_>]) -> usize {
    let mut brackets = 0i64;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('[') => brackets += 1,
            Token::Sign(']') => brackets -= 1,
            Token::Sign(':') if brackets <= 0 => return at,
            _ => {}
        }
    }
    tokens.len()
}

/// A rule or a terminal.
#[derive(Clone, Copy)]
struct Definition<'t, 'a> {
    attributes: &'t [Token<'a>],
    body: &'t [Token<'a>],
}

struct Reader<'t, 'a> {
    definitions: HashMap<&'a str, Definition<'t, 'a>>,
    /// What was looked into; `None` while it is.
    known: HashMap<&'a str, Option<Growth>>,
    depth: usize,
}

impl<'t, 'a> Reader<'t, 'a> {
    /// What a name stands for. Of one that leads to itself nothing is known.
    fn named(&mut self, name: &'a str) -> Result<Growth, String> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.unwrap_or(Growth::UNKNOWN));
        }
        let Some(definition) = self.definitions.get(name).copied().filter(|_| self.depth < MAX_DEPTH) else {
            return Ok(Growth::UNKNOWN);
        };
        self.known.insert(name, None);
        self.depth += 1;
        let mut growth = self.read(definition.body, is_rule(name))?;
        for attribute in definition.attributes {
            // `stop` and `suffix` come behind it.
            if matches!(attribute, Token::Text(_) | Token::Regex(..)) {
                growth = growth.then(self.read(std::slice::from_ref(attribute), false)?);
            }
        }
        self.depth -= 1;
        growth.check().map_err(|why| format!("{name}: {why}"))?;
        self.known.insert(name, Some(growth));
        Ok(growth)
    }

    fn read(&mut self, tokens: &'t [Token<'a>], is_rule: bool) -> Result<Growth, String> {
        Body { reader: self, left: tokens, is_rule }.alternatives()
    }
}

/// What stands behind a name's `:`.
struct Body<'r, 't, 'a> {
    reader: &'r mut Reader<'t, 'a>,
    left: &'t [Token<'a>],
    /// Whether a parser follows it, else a lexer.
    is_rule: bool,
}

impl<'t, 'a> Body<'_, 't, 'a> {
    fn next(&mut self) -> Option<&'t Token<'a>> {
        let (first, left) = self.left.split_first()?;
        self.left = left;
        Some(first)
    }

    fn take(&mut self, sign: char) -> bool {
        let there = self.left.first() == Some(&Token::Sign(sign));
        self.left = &self.left[usize::from(there)..];
        there
    }

    fn alternatives(&mut self) -> Result<Growth, String> {
        let mut all = self.conjunction()?;
        loop {
            while self.left.first() == Some(&Token::Line) {
                self.next();
            }
            if !self.take('|') {
                return Ok(all);
            }
            all = all.or(self.conjunction()?);
        }
    }

    fn conjunction(&mut self) -> Result<Growth, String> {
        let mut all = self.sequence()?;
        while self.take('&') {
            all = all.and(self.sequence()?);
        }
        Ok(all)
    }

    fn sequence(&mut self) -> Result<Growth, String> {
        let mut all = Growth::EMPTY;
        while let Some(token) = self.left.first() {
            match token {
                Token::Line | Token::Sign('|' | '&' | ')' | ']' | '}') => break,
                // An alias, or a condition, of which nothing is said here.
                Token::Arrow | Token::Keyword("if") => {
                    let end = |token: &Token<'_>| matches!(token, Token::Line | Token::Sign('|'));
                    self.left = &self.left[self.left.iter().position(end).unwrap_or(self.left.len())..];
                }
                _ => {
                    let atom = self.atom()?;
                    all = all.then(self.counted(atom));
                }
            }
        }
        Ok(all)
    }

    fn counted(&mut self, atom: Growth) -> Growth {
        let (least, most) = match self.left {
            [Token::Sign('?'), ..] => (0, Some(1)),
            [Token::Sign('*'), ..] => (0, None),
            [Token::Sign('+'), ..] => (1, None),
            [Token::Sign('{'), ..] => return self.braces(atom),
            [
                Token::Sign('~'),
                Token::Number(least),
                Token::Sign('.'),
                Token::Sign('.'),
                Token::Number(most),
                ..,
            ] => {
                self.left = &self.left[5..];
                return atom.repeated(*least, Some(*most));
            }
            [Token::Sign('~'), Token::Number(count), ..] => {
                self.left = &self.left[2..];
                return atom.repeated(*count, Some(*count));
            }
            _ => return atom,
        };
        self.next();
        atom.repeated(least, most)
    }

    /// `{2}`, `{2,}`, `{,3}` or `{2,3}`.
    fn braces(&mut self, atom: Growth) -> Growth {
        self.next();
        let number = |body: &mut Self| match body.left.first() {
            Some(Token::Number(number)) => {
                body.next();
                Some(*number)
            }
            _ => None,
        };
        let least = number(self);
        let most = if self.take(',') { number(self) } else { least };
        while self.next().is_some_and(|token| *token != Token::Sign('}')) {}
        atom.repeated(least.unwrap_or(0), most)
    }

    fn atom(&mut self) -> Result<Growth, String> {
        if self.take('~') {
            let within = std::mem::replace(&mut self.is_rule, false);
            let negated = self.atom()?.negated();
            self.is_rule = within;
            return Ok(if within { negated.among_rules() } else { negated });
        }
        let Some(token) = self.next() else { return Ok(Growth::EMPTY) };
        let terminal = match token {
            Token::Sign(open @ ('(' | '[')) => {
                let inner = self.alternatives()?;
                self.next();
                return Ok(if *open == '[' { inner.repeated(0, Some(1)) } else { inner });
            }
            Token::Name(name) => {
                let named = self.reader.named(name)?;
                if let [Token::Sign(':'), Token::Sign(':'), ..] = self.left {
                    self.parameter();
                }
                if is_rule(name) {
                    return Ok(named);
                }
                named
            }
            Token::Keyword("lark") => return self.nested(),
            Token::Text(text) => match self.left {
                [Token::Sign('.'), Token::Sign('.'), Token::Text(last), ..] => {
                    self.left = &self.left[3..];
                    let ends = text.chars().next().zip(last.chars().next());
                    ends.map_or(Growth::EMPTY, |(a, b)| Growth::one_of(Chars::range(a.min(b), a.max(b))))
                }
                _ => Growth::text(text),
            },
            Token::Regex(regex) => Growth::of_regex(regex)?.unwrap_or(Growth::UNKNOWN),
            Token::PartOf(text) => Growth::part_of(text),
            _ => Growth::UNKNOWN,
        };
        Ok(if self.is_rule { terminal.among_rules() } else { terminal })
    }

    /// Passes over `::name(...)`.
    fn parameter(&mut self) {
        self.left = &self.left[3.min(self.left.len())..];
        let mut brackets = 0;
        while self.left.first() == Some(&Token::Sign('(')) || brackets > 0 {
            match self.next() {
                Some(Token::Sign('(')) => brackets += 1,
                Some(Token::Sign(')')) => brackets -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// A grammar in braces.
    fn nested(&mut self) -> Result<Growth, String> {
        let mut braces = 0;
        let ends = |token: &Token<'_>| {
            match token {
                Token::Sign('{') => braces += 1,
                Token::Sign('}') => braces -= 1,
                _ => {}
            }
            braces == 0
        };
        let end = self.left.iter().position(ends).unwrap_or(self.left.len());
        let inner = self.left.get(1..end).unwrap_or_default();
        self.left = &self.left[(end + 1).min(self.left.len())..];
        // Beyond this depth llguidance refuses it.
        if self.reader.depth > MAX_DEPTH {
            Ok(Growth::UNKNOWN)
        } else {
            of_tokens(inner, self.reader.depth + 10)
        }
    }
}

/// Whether a name is one of a rule, and not of a terminal.
fn is_rule(name: &str) -> bool {
    name.chars().find(|c| c.is_alphabetic()).is_some_and(char::is_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_followed_through_names() {
        for (lark, refused) in [
            ("start: \"a\"{0,100000}", None),
            ("start: A{1,100}\nA: \"a\"{1,9}", None),
            ("start: T\nT: A{1,100}\nA: /a{1,100}/", None),
            ("start: T\nT: A{1,100}\nA: B{1,100}\nB: /a{1,100}/", Some("T: its counts")),
            ("start: T\nT: A{1,100} \"x\"\nA: B{1,100} \".\"\nB: /a{1,100}/", None),
            ("start: a{0,100}\na: b{0,100}\nb: \"x\"{0,100}", Some("a: its counts")),
            ("start: a{0,100}\na: b{0,9}\nb: \"x\"", None),
            ("start: line{1,1000}\nline: WORD{1,1000} \"\\n\"\nWORD: /[a-z]+ ?/", None),
            ("start: a~100\na: b ~ 0..100\nb: (\"x\" | \"y\")~100", Some("start: its counts")),
            ("start: (((\"a\"{,99}){,99}){,99})", Some("start: its counts")),
            ("start: [[\"a\"{9}]{9}]", None),
            // Behind comments, attributes, options, conditions and the end of a line.
            ("// a\nstart[suffix=/((a{1,100}){1,100}){1,100}/]: \"b\" # c", Some("start: its counts")),
            ("start: \"a\"\n  | ((/a{1,100}/){1,100}){1,100} -> b", Some("start: its counts")),
            ("start: \"a\"\n%ignore /((a{1,100}){1,100}){1,100}/", Some("its counts")),
            ("start: \"b\" %lark {\n start: T\n T: /((a{1,100}){1,100}){1,100}/\n}", Some("T: its counts")),
            (
                "start: a::1 b{0,100}\na::_: \"x\" a::incr(_) %if lt(_, 9)\nb: c{0,100}\nc: \"x\"{0,100}",
                Some("b: its counts"),
            ),
            // Complements, intersections, parts of texts and names that lead to themselves.
            ("start: T\nT: (~/[ab]*a[ab]{60}/){1,100}", Some("T: its counts")),
            ("start: T\nT: (/[ab]{0,99}a/ & /a[ab]{0,99}/){1,100}", Some("T: its counts")),
            (
                "start: T\nT: P{1,1000}\nP: %regex { \"substring_chars\": \"0123456789abc\" }",
                Some("T: its counts"),
            ),
            ("start: P\nP: %regex { \"substring_words\": \"a b c\" }", None),
            ("start: e\ne: e \"+\" e | \"(\" e{1,100} \")\" | /[0-9]+/", None),
            ("start: T\nT: /(?-u:x)/i \"A\"i \"a\"..\"z\" <[1-3]> @b", None),
        ] {
            match (growth(lark), refused) {
                (Ok(_), None) => {}
                (Err(why), Some(refused)) => assert!(why.starts_with(refused), "{lark}: {why}"),
                (got, _) => panic!("{lark}: {got:?}"),
            }
        }
    }
}
