//! Row text stays text: which markers of a rendering come from the template, and which from the row.
//!
//! A marker is a special token that the tokenizer recognises by its written form, such as `<|im_start|>`. Those
//! of the template are meant; those of a row are text. Templates may trim, cut or inspect what they are given, so
//! the row's text cannot be swapped for a placeholder. Instead:
//!
//! 1. The template renders the row as it is. If the row's text has no character that begins or ends a
//!    marker, every marker in the rendering is the template's.
//! 2. Otherwise it renders again with a mark, a noncharacter that the first rendering does not hold, set
//!    into the row's text wherever a marker may begin or end. If the second rendering without its marks is
//!    the first, the markers that no mark interrupts are the template's.
//! 3. Where marks change what the template does (it counts characters, or it looks for a text such as
//!    `</think>`), fewer marks are tried: only inside whole markers. They must leave as many markers to the
//!    template as step 2 does.
//! 4. The same without marks in markers that the template looks for and that are not flagged as special, such as
//!    `</think>`: in a row they stay the tokens that they are in transformers.
//! 5. If that differs too, the template acts on a marker of the row, and the row is refused.

use crate::prompt::markers::{Markers, Piece};
use minijinja::Value;
use std::borrow::Cow;
use std::cell::Cell;

/// The name under which a rendering's context holds the character that marks row text.
pub const MARK: &str = "__mark__";

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Nowhere,
    /// After each character that begins a marker and before each that ends one.
    Ends,
    /// After the first character of each whole marker.
    Whole,
}

/// How row text is given to a template in one rendering.
pub struct Marking<'a> {
    markers: &'a Markers,
    place: Where,
    /// Markers that the template looks for get no mark.
    leave_looked_for: bool,
    mark: char,
    touched: Cell<bool>,
    bytes: Cell<usize>,
}

impl<'a> Marking<'a> {
    /// Gives the text as it is.
    pub fn plain(markers: &'a Markers) -> Marking<'a> {
        Marking::new(markers, Where::Nowhere, false, '\0')
    }

    fn new(markers: &'a Markers, place: Where, leave_looked_for: bool, mark: char) -> Marking<'a> {
        Marking { markers, place, leave_looked_for, mark, touched: Cell::new(false), bytes: Cell::new(0) }
    }

    /// Bytes of text given so far.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// The mark, for [`MARK`].
    pub fn mark(&self) -> Value {
        if self.place == Where::Nowhere { Value::from(()) } else { Value::from(self.mark.to_string()) }
    }

    /// What the template is given in place of a string of the row.
    pub fn value(&self, text: &str) -> Value {
        Value::from(self.text(text).into_owned())
    }

    /// What the template is given in place of a text of the row.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.bytes.set(self.bytes.get() + text.len());
        if !self.markers.touch(text) {
            return Cow::Borrowed(text);
        }
        self.touched.set(true);
        let mut marked = String::with_capacity(text.len() + 16);
        let mut left = 0;
        for (at, c) in text.char_indices() {
            if self.leave_looked_for && at >= left {
                left = self.markers.looked_for_at(&text[at..]).map_or(left, |length| at + length);
            }
            if at < left {
                marked.push(c);
                continue;
            }
            let (before, after) = match self.place {
                Where::Nowhere => return Cow::Borrowed(text),
                Where::Ends => (self.markers.last.contains(&c), self.markers.first.contains(&c)),
                Where::Whole => (false, self.markers.at_in_any_case(&text[at..])),
            };
            if before {
                marked.push(self.mark);
            }
            marked.push(c);
            if after {
                marked.push(self.mark);
            }
        }
        Cow::Owned(marked)
    }
}

/// A rendering in which the markers of row text are interrupted by a mark.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendering {
    text: String,
    mark: Option<char>,
}

impl Rendering {
    /// A text without any text of a row, for tests: all its markers are meant.
    #[cfg(test)]
    pub fn trusted(text: String) -> Rendering {
        Rendering { text, mark: None }
    }

    /// Renders so that the row's markers can be distinguished from the template's. `render` is called at most five
    /// times and must give the same for the same marking.
    ///
    /// # Errors
    /// What `render` says of the unmarked row, or that the row cannot be taken literally.
    pub fn of_row(
        markers: &Markers,
        mut render: impl FnMut(&Marking) -> Result<String, String>,
    ) -> Result<Rendering, String> {
        let plain = Marking::plain(markers);
        let text = render(&plain)?;
        if !plain.touched.get() {
            return Ok(Rendering { text, mark: None });
        }
        let Some(mark) = ('\u{fdd0}'..='\u{fdef}').find(|&mark| !text.contains(mark)) else {
            return Err("the text holds every one of the noncharacters U+FDD0 to U+FDEF".into());
        };
        for leave in [false, true] {
            if leave && !markers.looks_for_any() {
                break;
            }
            let mut marked = |place| render(&Marking::new(markers, place, leave, mark));
            let safe = marked(Where::Ends);
            if let Ok(safe) = safe.as_ref()
                && same(safe, &text, mark)
            {
                return Ok(Rendering { text: safe.clone(), mark: Some(mark) });
            }
            if let (Ok(fewer), Ok(safe)) = (marked(Where::Whole), &safe)
                && same(&fewer, &text, mark)
                && markers.count(&fewer) == markers.count(safe)
            {
                return Ok(Rendering { text: fewer, mark: Some(mark) });
            }
        }
        Err("the text holds a special token, and the template cuts the text there or acts upon it; \
             remove the token from the text, or change the template"
            .into())
    }

    /// The rendering with a text behind it.
    #[must_use]
    pub fn followed_by(&self, text: &str) -> Rendering {
        Rendering { text: format!("{}{text}", self.text), mark: self.mark }
    }

    /// The rendering without marks, in pieces: its text, and the template's markers.
    pub fn pieces(&self, markers: &Markers) -> Vec<Piece> {
        let pieces = std::cell::RefCell::new(Vec::new());
        let text = |text: &str| {
            let text = self.mark.map_or_else(|| text.to_string(), |mark| text.replace(mark, ""));
            if !text.is_empty() {
                pieces.borrow_mut().push(Piece::Text(text));
            }
        };
        markers.split(&self.text, text, |found| pieces.borrow_mut().push(Piece::Marker(found)));
        pieces.into_inner()
    }

    /// The rendering as transformers would see it.
    pub fn plain(&self) -> String {
        match self.mark {
            None => self.text.clone(),
            Some(mark) => self.text.replace(mark, ""),
        }
    }

    /// Bytes of the rendering, without marks.
    pub fn len(&self) -> usize {
        let marks = self.mark.map_or(0, |mark| self.text.matches(mark).count() * mark.len_utf8());
        self.text.len() - marks
    }

    /// Whether it has no text at all.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

/// Whether a marked rendering is the plain one but for its marks.
fn same(marked: &str, plain: &str, mark: char) -> bool {
    marked.chars().filter(|&c| c != mark).eq(plain.chars())
}

#[cfg(test)]
mod tests;
