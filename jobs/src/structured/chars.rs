//! Sets of characters, as far as it matters whether two of them have one in common.

use regex_syntax::ast::{self, Ast, ClassSetItem, Visitor};

/// More classes beyond ASCII are refused in one regular expression: each may have hundreds of ranges.
const MAX_CLASSES: usize = 500;

/// A set of characters: each of ASCII, and blocks beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chars {
    ascii: u128,
    beyond: u128,
}

impl Chars {
    pub const NONE: Chars = Chars { ascii: 0, beyond: 0 };
    pub const ALL: Chars = Chars { ascii: u128::MAX, beyond: u128::MAX };

    /// From one character to another, both in it.
    pub fn range(first: char, last: char) -> Chars {
        let (first, last) = (u32::from(first), u32::from(last));
        let bits = |first: u32, last: u32| (u128::MAX >> (127 - last)) & (u128::MAX << first);
        Chars {
            ascii: if first < 0x80 { bits(first, last.min(0x7f)) } else { 0 },
            beyond: if last >= 0x80 { bits(block(first.max(0x80)), block(last)) } else { 0 },
        }
    }

    pub fn one(c: char) -> Chars {
        Chars::range(c, c)
    }

    pub fn or(self, other: Chars) -> Chars {
        Chars { ascii: self.ascii | other.ascii, beyond: self.beyond | other.beyond }
    }

    pub fn is_ascii(self) -> bool {
        self.beyond == 0
    }

    /// Whether a character may be in both.
    pub fn meets(self, other: Chars) -> bool {
        self.ascii & other.ascii != 0 || self.beyond & other.beyond != 0
    }
}

/// The block of a character beyond ASCII: of 64 where two bytes write it, of 1,024 where three do, else a plane.
fn block(code: u32) -> u32 {
    match code {
        ..0x800 => code >> 6,
        0x800..0x1_0000 => 32 + (code >> 10),
        _ => 96 + (code >> 16),
    }
}

/// Refuses more classes of characters beyond ASCII than can be held: translating one takes as long as it has ranges.
///
/// # Errors
/// Where it has them.
pub(crate) fn check_classes(ast: &Ast) -> Result<(), String> {
    match ast::visit(ast, Classes(0)) {
        Ok(classes) if classes > MAX_CLASSES => Err(format!(
            "it has {classes} classes like \\w or \\p{{L}}; at most {MAX_CLASSES} are taken; write a count for those in a row, or \
             classes of ASCII like [a-z]"
        )),
        _ => Ok(()),
    }
}

/// Counts classes that are tables of Unicode.
struct Classes(usize);

impl Visitor for Classes {
    type Output = usize;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<usize, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        self.0 += usize::from(matches!(ast, Ast::ClassUnicode(_) | Ast::ClassPerl(_)));
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        self.0 += usize::from(matches!(item, ClassSetItem::Unicode(_) | ClassSetItem::Perl(_)));
        Ok(())
    }
}
