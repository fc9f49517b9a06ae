//! `pattern`, an ECMA-262 regular expression that is searched for, as one of Rust's that matches the whole string.
//!
//! What the two read differently is written with ranges of characters; what cannot be written so is refused.

use crate::structured::growth::Growth;

/// Longer patterns, deeper groups and greater counts are refused.
const MAX_BYTES: usize = 4096;
const MAX_DEPTH: usize = 32;
const MAX_COUNT: u32 = 1000;

const DIGIT: &[(u32, u32)] = &[(0x30, 0x39)];
const WORD: &[(u32, u32)] = &[(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)];
const SPACE: &[(u32, u32)] = &[
    (0x09, 0x0d),
    (0x20, 0x20),
    (0xa0, 0xa0),
    (0x1680, 0x1680),
    (0x2000, 0x200a),
    (0x2028, 0x2029),
    (0x202f, 0x202f),
    (0x205f, 0x205f),
    (0x3000, 0x3000),
    (0xfeff, 0xfeff),
];
const LINE_END: &[(u32, u32)] = &[(0x0a, 0x0a), (0x0d, 0x0d), (0x2028, 0x2029)];

/// In how many places of a pattern in Rust's syntax a text may be at once.
///
/// # Errors
/// That it cannot be looked at.
pub(super) fn growth(whole: &str) -> Result<Growth, String> {
    Ok(Growth::of_regex(whole)?.unwrap_or(Growth::UNKNOWN))
}

/// The pattern in Rust's syntax.
///
/// # Errors
/// What in it is not taken.
pub(super) fn whole(pattern: &str) -> Result<String, String> {
    if pattern.len() > MAX_BYTES {
        return Err(format!("it has {} bytes; at most {MAX_BYTES} are taken", pattern.len()));
    }
    let mut reader = Reader { left: pattern.chars().collect::<Vec<_>>(), at: 0 };
    let mut branches = Vec::new();
    loop {
        let open = !reader.take('^');
        let body = reader.sequence(0)?;
        let more = !reader.take('$');
        let any = "(?s:.*)";
        branches.push(format!("{}{body}{}", if open { any } else { "" }, if more { any } else { "" }));
        match reader.next() {
            None => {
                let whole = branches.join("|");
                growth(&whole)?.check()?;
                return Ok(whole);
            }
            Some('|') => {}
            Some(c) => return Err(format!("`{c}` at character {} is not taken there", reader.at)),
        }
    }
}

struct Reader {
    left: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.left.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn take(&mut self, c: char) -> bool {
        let there = self.peek() == Some(c);
        self.at += usize::from(there);
        there
    }

    /// Alternatives within a group.
    fn alternatives(&mut self, depth: usize) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!("its groups are nested more than {MAX_DEPTH} deep"));
        }
        let mut branches = vec![self.sequence(depth)?];
        while self.take('|') {
            branches.push(self.sequence(depth)?);
        }
        Ok(branches.join("|"))
    }

    /// Atoms with their counts, up to `|`, `)`, `$` or the end.
    fn sequence(&mut self, depth: usize) -> Result<String, String> {
        let mut text = String::new();
        while let Some(c) = self.peek() {
            let atom = match c {
                '|' | ')' | '$' => break,
                '(' => self.group(depth)?,
                '[' => self.class()?,
                '.' => {
                    self.at += 1;
                    ranges(LINE_END, true)
                }
                '\\' => {
                    self.at += 1;
                    let (set, negated) = self.escape(false)?;
                    ranges(&set, negated)
                }
                '^' | '*' | '+' | '?' | '{' | '}' | ']' => {
                    return Err(format!("`{c}` at character {} is not taken there", self.at + 1));
                }
                c => {
                    self.at += 1;
                    ranges(&[(c.into(), c.into())], false)
                }
            };
            text.push_str(&atom);
            text.push_str(&self.count()?);
        }
        Ok(text)
    }

    fn group(&mut self, depth: usize) -> Result<String, String> {
        self.at += 1;
        if self.take('?') && !self.take(':') {
            return Err("of groups that begin with `(?` only `(?:` is taken".into());
        }
        let inner = self.alternatives(depth + 1)?;
        match self.next() {
            Some(')') => Ok(format!("(?:{inner})")),
            Some('$') => Err("`$` within a group is not taken".into()),
            _ => Err("a group is not closed".into()),
        }
    }

    /// What follows an atom. That a count is lazy says nothing about what matches.
    fn count(&mut self) -> Result<String, String> {
        let text = match self.peek() {
            Some(c @ ('*' | '+' | '?')) => {
                self.at += 1;
                c.to_string()
            }
            Some('{') => {
                self.at += 1;
                self.bounds()?
            }
            _ => return Ok(String::new()),
        };
        self.take('?');
        Ok(text)
    }

    fn bounds(&mut self) -> Result<String, String> {
        let least = self.number()?;
        let most = match self.take(',') {
            false => Some(least),
            true if self.peek() == Some('}') => None,
            true => Some(self.number()?),
        };
        if !self.take('}') || most.is_some_and(|most| most < least) {
            return Err("a count is written {2}, {2,} or {2,3}".into());
        }
        Ok(most.map_or(format!("{{{least},}}"), |most| format!("{{{least},{most}}}")))
    }

    fn number(&mut self) -> Result<u32, String> {
        let mut digits = String::new();
        while let Some(c) = self.peek().filter(char::is_ascii_digit) {
            digits.push(c);
            self.at += 1;
        }
        let number = digits.parse().ok().filter(|n| *n <= MAX_COUNT);
        number.ok_or(format!("a count is a whole number up to {MAX_COUNT}"))
    }

    fn class(&mut self) -> Result<String, String> {
        self.at += 1;
        let negated = self.take('^');
        let mut set: Vec<(u32, u32)> = Vec::new();
        loop {
            match self.next() {
                None => return Err("a class is not closed".into()),
                Some(']') => break,
                Some(c) => {
                    let first = self.member(c)?;
                    let to_end = self.left.get(self.at + 1) == Some(&']');
                    if self.peek() != Some('-') || to_end {
                        set.extend(first);
                        continue;
                    }
                    self.at += 1;
                    let c = self.next().ok_or("a class is not closed")?;
                    let last = self.member(c)?;
                    match (&first[..], &last[..]) {
                        ([(a, b)], [(c, d)]) if a == b && c == d && a <= c => set.push((*a, *c)),
                        _ => return Err("a range of a class goes from one character to a later one".into()),
                    }
                }
            }
        }
        if set.is_empty() {
            return Err("an empty class is not taken".into());
        }
        Ok(ranges(&set, negated))
    }

    fn member(&mut self, c: char) -> Result<Vec<(u32, u32)>, String> {
        match c {
            '\\' => match self.escape(true)? {
                (set, false) => Ok(set),
                (_, true) => Err(r"`\D`, `\W` and `\S` within a class are not taken".into()),
            },
            c => Ok(vec![(c.into(), c.into())]),
        }
    }

    /// What a backslash begins: a set, and whether its complement is meant.
    fn escape(&mut self, in_class: bool) -> Result<(Vec<(u32, u32)>, bool), String> {
        let c = self.next().ok_or(r"a `\` ends it")?;
        let one = |code: u32| Ok((vec![(code, code)], false));
        match c {
            'd' => Ok((DIGIT.to_vec(), false)),
            'D' => Ok((DIGIT.to_vec(), true)),
            'w' => Ok((WORD.to_vec(), false)),
            'W' => Ok((WORD.to_vec(), true)),
            's' => Ok((SPACE.to_vec(), false)),
            'S' => Ok((SPACE.to_vec(), true)),
            't' => one(0x09),
            'n' => one(0x0a),
            'v' => one(0x0b),
            'f' => one(0x0c),
            'r' => one(0x0d),
            'b' if in_class => one(0x08),
            'x' => one(self.hex(2)?),
            'u' => one(self.hex(4)?),
            c if c.is_ascii_punctuation() && c != '_' => one(c.into()),
            c => Err(format!(r"`\{c}` is not taken")),
        }
    }

    fn hex(&mut self, digits: usize) -> Result<u32, String> {
        let text: String = (0..digits).filter_map(|_| self.next()).collect();
        let code = Some(&text).filter(|t| t.len() == digits && t.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = code.and_then(|text| u32::from_str_radix(text, 16).ok());
        code.filter(|code| char::from_u32(*code).is_some())
            .ok_or(format!("an escape of {digits} hexadecimal digits names no character"))
    }
}

/// A class of Rust's that means these ranges, or all but these.
fn ranges(set: &[(u32, u32)], negated: bool) -> String {
    let mut text = String::from(if negated { "[^" } else { "[" });
    for (first, last) in set {
        text.push_str(&format!("\\x{{{first:x}}}-\\x{{{last:x}}}"));
    }
    text + "]"
}
