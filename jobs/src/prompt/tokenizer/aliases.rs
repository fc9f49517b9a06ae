//! Markers as they stand in a text to encode.
//!
//! A marker of the template is a token, the same characters in a row are text. So the tokenizer takes no marker for
//! what it is; each has an alias, an unguessable string that is a token with the marker's flags and stands for it in the
//! text. Where the tokenizer would not take the marker for a token (one that is a `single_word` beside a letter, one that
//! normalization changes there), it does not take the alias for one either, and the marker's own text stands there.

use crate::guard::guarded;
use crate::prompt::markers::{Markers, Piece};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use tokenizers::AddedToken;

/// The aliases of a tokenizer's markers.
#[derive(Debug, Default)]
pub struct Aliases {
    /// Begins every alias.
    secret: String,
    /// One for each marker, in the order of [`Markers::list`].
    list: Vec<Alias>,
    /// From an alias's id to its marker's.
    ids: HashMap<u32, u32>,
    /// Whether it was said that a marker is no token somewhere.
    warned: AtomicBool,
}

#[derive(Debug)]
struct Alias {
    text: String,
    /// Its marker is no token beside a letter or digit.
    single_word: bool,
}

impl Aliases {
    /// Those of no markers.
    pub fn new() -> Aliases {
        let secret = RandomState::new();
        let secret = format!("\u{fdef}{:016x}{:016x}", secret.hash_one(0), secret.hash_one(1));
        Aliases { secret, ..Aliases::default() }
    }

    /// Adds an alias for each marker to a tokenizer, which from now on takes no marker for a token. `tokens` are the
    /// markers' tokens by their written form, with their ids.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn add(
        &mut self,
        inner: &mut tokenizers::Tokenizer,
        markers: &Markers,
        tokens: &BTreeMap<String, (u32, AddedToken)>,
    ) -> Result<(), String> {
        self.list.clear();
        let (mut own, mut added) = (Vec::new(), Vec::new());
        for marker in markers.list() {
            let (id, token) = tokens.get(marker).ok_or("a marker is no token")?;
            let text = format!("{}{id:08x}\u{fdee}", self.secret);
            added.push(AddedToken {
                content: text.clone(),
                single_word: false,
                special: false,
                ..token.clone()
            });
            own.push(AddedToken { special: true, ..token.clone() });
            self.list.push(Alias { text, single_word: token.single_word });
        }
        // What is special is passed over where it stands in a text.
        inner.add_tokens(own).map_err(|error| error.to_string())?;
        inner.add_tokens(added).map_err(|error| error.to_string())?;
        inner.set_encode_special_tokens(true);
        for (marker, alias) in markers.list().iter().zip(&self.list) {
            let id = inner.token_to_id(&alias.text).ok_or("its special tokens cannot be replaced")?;
            self.ids.insert(id, tokens[marker].0);
        }
        Ok(())
    }

    /// Whether a token is an alias, and not one of the model's.
    pub fn contains(&self, id: u32) -> bool {
        self.ids.contains_key(&id)
    }

    /// The ids of a text without markers.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn encode_text(&self, inner: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>, String> {
        let encoding = guarded(|| inner.encode_fast(text, false))?.map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of a text with markers.
    ///
    /// # Errors
    /// What the tokenizer says, or that it does not find the markers again.
    pub fn encode(
        &self,
        inner: &tokenizers::Tokenizer,
        markers: &Markers,
        mut pieces: Vec<Piece>,
    ) -> Result<Vec<u32>, String> {
        self.leave_words(markers, &mut pieces);
        // Each round takes out markers that are no tokens where they stand, so there is an end to it.
        for _ in 0..4 {
            let text = self.text(&pieces);
            let wanted = pieces.iter().filter(|piece| matches!(piece, Piece::Marker(_))).count();
            let ids = self.encode_text(inner, &text)?;
            if ids.iter().filter(|id| self.contains(**id)).count() == wanted {
                return Ok(ids.iter().map(|id| *self.ids.get(id).unwrap_or(id)).collect());
            }
            self.leave_unfound(inner, markers, &text, &mut pieces)?;
        }
        Err("the tokenizer does not find the chat template's special tokens again beside this row's text; this is \
             a limit of gristmill with this tokenizer: leave the row out, or give its token ids with \
             --prompt-tokens-column"
            .into())
    }

    /// Makes text of the markers that are tokens only as words of their own, where they are none.
    fn leave_words(&self, markers: &Markers, pieces: &mut [Piece]) {
        if !self.list.iter().any(|alias| alias.single_word) {
            return;
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Marker(n) => markers.list()[*n].clone(),
        };
        for at in 0..pieces.len() {
            let Piece::Marker(n) = pieces[at] else { continue };
            let before = pieces[..at].iter().rev().find_map(|piece| text(piece).chars().next_back());
            let after = pieces[at + 1..].iter().find_map(|piece| text(piece).chars().next());
            if self.list[n].single_word && (before.is_some_and(is_word) || after.is_some_and(is_word)) {
                pieces[at] = self.left(&markers.list()[n]);
            }
        }
    }

    /// Makes text of the markers whose aliases the tokenizer does not take for tokens.
    fn leave_unfound(
        &self,
        inner: &tokenizers::Tokenizer,
        markers: &Markers,
        text: &str,
        pieces: &mut [Piece],
    ) -> Result<(), String> {
        let encoding = guarded(|| inner.encode(text, false))?.map_err(|error| error.to_string())?;
        let found: Vec<(usize, usize)> = encoding
            .get_ids()
            .iter()
            .zip(encoding.get_offsets())
            .filter(|(id, _)| self.contains(**id))
            .map(|(_, &offsets)| offsets)
            .collect();
        let mut at = 0;
        for piece in pieces {
            match piece {
                Piece::Text(text) => at += text.len(),
                Piece::Marker(n) => {
                    let alias = &self.list[*n].text;
                    let (start, end) = (at, at + alias.len());
                    at = end;
                    if !found.iter().any(|&(from, to)| from < end && to > start) {
                        *piece = self.left(&markers.list()[*n]);
                    }
                }
            }
        }
        Ok(())
    }

    /// A marker that is no token where it stands.
    fn left(&self, marker: &str) -> Piece {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the template writes the special token {marker} where the tokenizer takes it for plain text, as in \
                 transformers: its flags normalized and single_word in tokenizer.json say so"
            );
        }
        Piece::Text(marker.to_string())
    }

    fn text(&self, pieces: &[Piece]) -> String {
        let text = |piece| match piece {
            &Piece::Marker(n) => self.list[n].text.as_str(),
            Piece::Text(text) => text.as_str(),
        };
        pieces.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests;
