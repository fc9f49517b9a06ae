//! In how many places of itself a structure may be at once, reckoned before any answer is made.
//!
//! A lexer follows a regular expression as the list of all that may still come, a parser a grammar as a list of items. Each byte
//! that a mask tries costs as much as that list is long. Counts make long lists where it is open to which repetition a character
//! belongs: `(a{1,100}){1,100}` may be in any of 10,000 places behind some `a`, and `([a-z]{1,100}\n){1,100}` is in one.

use crate::structured::chars::Chars;
use regex_syntax::ast::parse::Parser as AstParser;
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Class, Hir, HirKind};

/// More places at once are refused. Of 10,000, steps of a large vocabulary take a tenth of a second, and answers of some hundred
/// tokens teach a lexer 100 MiB.
const MAX_WAYS: u64 = 10_000;

/// More optional parts in a row are refused: the time of one step grows with the square of their number.
const MAX_SKIPS: u64 = 1_000;

/// Places of a character that may be beyond ASCII.
const BYTES: u64 = 3;

/// What the length of a text costs beside each place of its pattern.
const LENGTH: u64 = 10;

/// What an item of a parser costs in places of a lexer.
const ITEM: u64 = 10;

/// What is known of an expression. Where it cannot be told apart, it is taken for the harder case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    /// Characters that it may begin with, and all that it may have.
    first: Chars,
    any: Chars,
    /// Characters with which it may go on where it may also have ended.
    on: Chars,
    is_nullable: bool,
    /// Places that it may be in at once where it began once.
    ways: u64,
    /// Places that it has: it may be in all of them where it began again and again.
    places: u64,
    /// Optional parts in a row, at most, and at its end.
    skips: u64,
    last_skips: u64,
    /// Whether there is a count in it: without one, it has no more places than its text.
    is_counted: bool,
}

impl Growth {
    pub const EMPTY: Growth = Growth {
        first: Chars::NONE,
        any: Chars::NONE,
        on: Chars::NONE,
        is_nullable: true,
        ways: 0,
        places: 0,
        skips: 0,
        last_skips: 0,
        is_counted: false,
    };

    /// Of which nothing is known but that it has no counts.
    pub const UNKNOWN: Growth = Growth {
        first: Chars::ALL,
        any: Chars::ALL,
        on: Chars::ALL,
        is_nullable: false,
        ways: 1,
        places: 1,
        ..Growth::EMPTY
    };

    /// Any part of a text, from anywhere to anywhere.
    pub fn part_of(text: &str) -> Growth {
        Growth { places: text.len() as u64, ..Growth::UNKNOWN }.repeated(0, Some(1))
    }

    /// A character, of which those beyond ASCII have several bytes, and so several places.
    pub fn one_of(chars: Chars) -> Growth {
        let places = if chars.is_ascii() { 1 } else { BYTES };
        Growth { first: chars, any: chars, is_nullable: false, ways: 1, places, ..Growth::EMPTY }
    }

    pub fn text(text: &str) -> Growth {
        let Some(first) = text.chars().next() else { return Growth::EMPTY };
        let any = text.chars().fold(Chars::NONE, |all, c| all.or(Chars::one(c)));
        Growth { any, places: text.chars().count() as u64, ..Growth::one_of(Chars::one(first)) }
    }

    /// Of a regular expression, as llguidance reads it; `None` if it cannot be parsed, which llguidance then tells.
    ///
    /// # Errors
    /// That it has too many classes to be looked at.
    pub fn of_regex(regex: &str) -> Result<Option<Growth>, String> {
        let Ok(ast) = AstParser::new().parse(regex) else { return Ok(None) };
        super::chars::check_classes(&ast)?;
        Ok(Translator::new().translate(regex, &ast).ok().map(|hir| of_hir(&hir)))
    }

    /// This, then another.
    pub fn then(self, next: Growth) -> Growth {
        // Where this may end and may go on, the next may begin at many places.
        let is_open = self.on.meets(next.first);
        let any = self.any.or(next.any);
        let last_skips =
            if next.is_nullable { self.last_skips + next.last_skips.max(1) } else { next.last_skips };
        Growth {
            first: if self.is_nullable { self.first.or(next.first) } else { self.first },
            any,
            on: match (is_open, next.is_nullable) {
                (true, _) => any,
                (false, true) => self.on.or(next.on),
                (false, false) => next.on,
            },
            is_nullable: self.is_nullable && next.is_nullable,
            ways: if is_open { self.ways.saturating_add(next.places) } else { self.ways.max(next.ways) },
            places: self.places.saturating_add(next.places),
            skips: self.skips.max(next.skips).max(last_skips),
            last_skips,
            is_counted: self.is_counted || next.is_counted,
        }
    }

    /// This or another.
    pub fn or(self, other: Growth) -> Growth {
        let (first, any) = (self.first.or(other.first), self.any.or(other.any));
        let is_open = self.first.meets(other.first);
        let is_nullable = self.is_nullable || other.is_nullable;
        let on = if is_open { any } else { self.on.or(other.on) };
        Growth {
            first,
            any,
            on: if is_nullable { on.or(first) } else { on },
            is_nullable,
            ways: if is_open { self.ways.saturating_add(other.ways) } else { self.ways.max(other.ways) },
            places: self.places.saturating_add(other.places),
            skips: self.skips.max(other.skips),
            last_skips: self.last_skips.max(other.last_skips),
            is_counted: self.is_counted || other.is_counted,
        }
    }

    /// This, at least and at most so many times.
    pub fn repeated(self, least: u64, most: Option<u64>) -> Growth {
        let is_nullable = self.is_nullable || least == 0;
        let on = match most {
            Some(0) => return Growth::EMPTY,
            Some(1) => self.on,
            _ if self.on.meets(self.first) => self.any,
            most if most == Some(least) => self.on,
            _ => self.on.or(self.first),
        };
        // Without an upper bound, all repetitions behind the last that must be are one.
        let places = self.places.saturating_mul(most.unwrap_or(least.max(1)));
        let is_open = most != Some(1) && self.on.meets(self.first);
        Growth {
            on: if is_nullable { on.or(self.first) } else { on },
            is_nullable,
            ways: if is_open { places.max(self.ways) } else { self.ways },
            places,
            last_skips: 0,
            is_counted: self.is_counted || least > 1 || most.is_some_and(|most| most > 1),
            ..self
        }
    }

    /// What both match.
    pub fn and(self, other: Growth) -> Growth {
        let any = self.any.or(other.any);
        Growth {
            first: self.first.or(other.first),
            any,
            on: any,
            is_nullable: self.is_nullable && other.is_nullable,
            ways: self.ways.saturating_add(other.ways),
            places: self.places.saturating_mul(other.places),
            skips: self.skips.max(other.skips),
            last_skips: 0,
            is_counted: self.is_counted || other.is_counted,
        }
    }

    /// All that this does not match. Where it begins again and again, it may be in any set of its places.
    pub fn negated(self) -> Growth {
        let places = if self.ways > 1 { 1 << self.places.min(62) } else { self.places };
        let all = Chars::ALL;
        Growth { first: all, any: all, on: all, is_nullable: !self.is_nullable, places, ..self }
    }

    /// As a terminal among rules: there it is an item of the parser, and its end is the lexer's matter.
    pub fn among_rules(self) -> Growth {
        Growth { on: Chars::NONE, ways: self.ways.max(ITEM), places: ITEM, last_skips: 0, ..self }
    }

    /// Of a text whose length is counted, too: a lexer follows both, and looks ahead for how they end together.
    pub fn with_length(self) -> Growth {
        Growth { ways: self.ways.saturating_mul(LENGTH), ..self }
    }

    /// With the places of another that is followed beside it.
    pub fn beside(self, other: Growth) -> Growth {
        Growth {
            ways: self.ways.saturating_add(other.ways),
            skips: self.skips.max(other.skips),
            is_counted: self.is_counted || other.is_counted,
            ..self
        }
    }

    /// # Errors
    /// That it may be in too many places at once.
    pub fn check(&self) -> Result<(), String> {
        if self.skips > MAX_SKIPS {
            return Err(format!(
                "it has {} optional parts in a row; at most {MAX_SKIPS} are taken; write them as one part with a count",
                self.skips
            ));
        }
        if self.is_counted && self.ways > MAX_WAYS {
            return Err(format!(
                "its counts (as in `{{1,100}}`) are nested, or follow parts of no certain end, so that a text may be in {} places \
                 of it at once; at most {MAX_WAYS} are taken; lower the counts, or put between repetitions what is in none of \
                 them, as a line end",
                self.ways
            ));
        }
        Ok(())
    }
}

fn of_hir(hir: &Hir) -> Growth {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Growth::EMPTY,
        HirKind::Literal(text) => Growth::text(&String::from_utf8_lossy(&text.0)),
        HirKind::Class(Class::Unicode(class)) => {
            let ranges = class.ranges().iter().map(|range| Chars::range(range.start(), range.end()));
            Growth::one_of(ranges.fold(Chars::NONE, Chars::or))
        }
        HirKind::Class(Class::Bytes(class)) => {
            // Bytes beyond ASCII may be a part of any character beyond it.
            let last = |byte: u8| if byte.is_ascii() { byte.into() } else { char::MAX };
            let ranges =
                class.ranges().iter().map(|range| Chars::range(range.start().into(), last(range.end())));
            Growth::one_of(ranges.fold(Chars::NONE, Chars::or))
        }
        HirKind::Repetition(repeated) => {
            of_hir(&repeated.sub).repeated(repeated.min.into(), repeated.max.map(u64::from))
        }
        HirKind::Capture(group) => of_hir(&group.sub),
        HirKind::Concat(parts) => parts.iter().map(of_hir).fold(Growth::EMPTY, Growth::then),
        HirKind::Alternation(branches) => {
            branches.iter().map(of_hir).reduce(Growth::or).unwrap_or(Growth::EMPTY)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn counts_multiply_where_it_is_open_to_which_repetition_a_character_belongs() {
        for (regex, ways) in [
            ("a{0,100000}", 1),
            ("(a{1,100}){1,100}", 10_000),
            ("(a{1,100}b){1,100}", 1),
            (r"([a-z ]{1,100}\n){1,100}", 1),
            (r"((\w{1,100},){1,100}\n){1,100}", 1),
            ("((a{1,100}){1,100}){1,100}", 1_000_000),
            ("(((a{1,100}){1,100}){1,100}){1,100}", 100_000_000),
            ("((a{1,100}){1,100}b){1,100}", 10_000),
            ("((a?){1,100}){1,100}", 10_000),
            ("((a|b)(c|a){0,50}){30}", 30 * 51),
            ("(a{1,100})*", 100),
            ("(a{100,}){100,}", 10_000),
            // Repetitions that begin wherever the first part may end.
            ("[ab]*a[ab]{200}", 202),
            ("(?s:.*)([a-z]{1,100} ){1,50}", 5_051),
            ("x{1,9}([a-z]{1,100} ){1,50}", 5_051),
            ("x{9}([a-z]{1,100} ){1,50}", 1),
            // Characters beyond ASCII.
            ("([一-龥]{1,100}。){1,100}", 1),
            ("(é{1,100}é){1,100}", 10_100),
            ("(.{1,100}){1,100}", 30_000),
            (".*x{1,50}", 51),
        ] {
            let growth = Growth::of_regex(regex).unwrap().unwrap();
            assert_eq!(growth.ways, ways, "{regex}");
            assert_eq!(growth.check().is_ok(), ways <= MAX_WAYS, "{regex}");
        }
    }

    #[test]
    fn optional_parts_in_a_row_are_counted() {
        for (regex, skips) in [
            ("a?".repeat(1001), 1001),
            ("(a?b*)".repeat(600), 1200),
            ("a?b".repeat(2000), 1),
            (format!("x{}y", "(a|)?".repeat(700)), 700),
        ] {
            let growth = Growth::of_regex(&regex).unwrap().unwrap();
            assert_eq!(growth.skips, skips, "{regex:.40}");
            assert_eq!(growth.check().is_ok(), skips <= MAX_SKIPS, "{regex:.40}");
        }
    }
}
