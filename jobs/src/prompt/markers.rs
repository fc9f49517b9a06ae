//! Markers: tokens that a template may write and a row may not, known by their written form, such as `<|im_start|>`.

pub mod literals;

/// A piece of a text: text of a row or the template, or the template's `n`th marker of [`Markers::list`].
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Text(String),
    Marker(usize),
}

/// All markers of a tokenizer, by their written form.
#[derive(Clone, Debug, Default)]
pub struct Markers {
    /// The longest first.
    list: Vec<String>,
    /// Those that are not flagged as special and that the template looks for in a row's text.
    looked_for: Vec<String>,
    pub(super) first: Vec<char>,
    pub(super) last: Vec<char>,
}

impl Markers {
    /// Markers of one character cannot be distinguished from text and are left out.
    pub fn new(mut list: Vec<String>) -> Markers {
        list.retain(|marker| marker.chars().count() > 1);
        list.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        let ends = |end: fn(&str) -> Option<char>| {
            let mut chars: Vec<char> = list.iter().filter_map(|marker| end(marker)).collect();
            chars.sort_unstable();
            chars.dedup();
            chars
        };
        let (first, last) = (ends(|text| text.chars().next()), ends(|text| text.chars().next_back()));
        Markers { list, looked_for: Vec::new(), first, last }
    }

    /// Names the markers that may stay tokens in a row's text where the template acts upon them.
    pub fn looking_for(mut self, looked_for: Vec<String>) -> Markers {
        self.looked_for = looked_for;
        self
    }

    /// The markers, the longest first.
    pub fn list(&self) -> &[String] {
        &self.list
    }

    /// The longest marker with which the text begins.
    fn at(&self, text: &str) -> Option<usize> {
        self.list.iter().position(|marker| text.starts_with(marker.as_str()))
    }

    /// The length of the marker that the template looks for and with which the text begins.
    pub(super) fn looked_for_at(&self, text: &str) -> Option<usize> {
        self.looked_for.iter().filter(|marker| text.starts_with(marker.as_str())).map(String::len).max()
    }

    /// Whether there are markers that the template looks for.
    pub(super) fn looks_for_any(&self) -> bool {
        !self.looked_for.is_empty()
    }

    /// Whether the text begins with a marker in any case.
    pub(super) fn at_in_any_case(&self, text: &str) -> bool {
        let begins =
            |marker: &String| text.get(..marker.len()).is_some_and(|s| s.eq_ignore_ascii_case(marker));
        self.list.iter().any(begins)
    }

    /// Whether the text holds a character with which a marker begins or ends.
    pub(super) fn touch(&self, text: &str) -> bool {
        text.chars().any(|c| self.first.contains(&c) || self.last.contains(&c))
    }

    /// Calls `text` for each stretch of text and `marker` for each marker, in order.
    pub fn split(&self, rendering: &str, mut text: impl FnMut(&str), mut marker: impl FnMut(usize)) {
        let (mut start, mut at) = (0, 0);
        while let Some(c) = rendering[at..].chars().next() {
            match self.first.contains(&c).then(|| self.at(&rendering[at..])).flatten() {
                Some(found) => {
                    text(&rendering[start..at]);
                    marker(found);
                    at += self.list[found].len();
                    start = at;
                }
                None => at += c.len_utf8(),
            }
        }
        text(&rendering[start..]);
    }

    /// How many markers a rendering holds, without those that the template looks for.
    pub(super) fn count(&self, rendering: &str) -> usize {
        let mut n = 0;
        self.split(rendering, |_| {}, |found| n += usize::from(!self.looked_for.contains(&self.list[found])));
        n
    }
}

#[cfg(test)]
mod tests;
