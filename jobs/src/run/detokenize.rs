//! Generated tokens to text, and the stop strings in it.
//!
//! A token's text depends on its neighbours: a character may be spread over several tokens, and some
//! decoders drop the first space. While a row runs, only a window of its last tokens is decoded, and only if there
//! are stop strings to look for; its final text is all of its tokens decoded once.

use crate::prompt::tokenizer::Tokenizer;
use std::sync::Arc;

/// Tokens that may wait for the rest of a character. A character has four bytes at most, so that more than
/// these are not one.
const PENDING: usize = 8;

/// How a row's text is made of its tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextRules {
    /// Strings that end the row.
    pub stop: Vec<String>,
    /// Tokens within which no stop string counts.
    pub min_tokens: usize,
    /// Whether the text keeps the stop string that ended it.
    pub include_stop_str_in_output: bool,
    /// Whether special tokens have no text.
    pub skip_special_tokens: bool,
}

/// The text of one row while it is generated.
#[derive(Clone, Debug, Default)]
pub struct Detokenizer {
    rules: Arc<TextRules>,
    ids: Vec<u32>,
    /// What stop strings are looked for in.
    text: String,
    /// `window[..read]` has its text in `text`; `window[read..]` has not.
    window: Vec<u32>,
    read: usize,
    /// Bytes of the text of the first `min_tokens` tokens. A stop string counts that ends beyond.
    held: usize,
    /// Where the text ends, and where the stop string does.
    stopped: Option<(usize, usize)>,
}

impl Detokenizer {
    /// That of a row without tokens.
    pub fn new(rules: Arc<TextRules>) -> Detokenizer {
        Detokenizer { rules, ..Detokenizer::default() }
    }

    /// Takes the next token. Returns whether a stop string is complete, so that the row is at its end.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn push(&mut self, id: u32, tokenizer: &Tokenizer) -> Result<bool, String> {
        let rules = &*self.rules;
        self.ids.push(id);
        if rules.stop.is_empty() || !tokenizer.has_text(id, rules.skip_special_tokens) {
            return Ok(false);
        }
        self.window.push(id);
        let known = tokenizer.decode(&self.window[..self.read], rules.skip_special_tokens)?;
        let all = tokenizer.decode(&self.window, rules.skip_special_tokens)?;
        if all.ends_with('\u{fffd}') && self.window.len() - self.read < PENDING {
            return Ok(false);
        }
        let new = all.strip_prefix(known.as_str()).unwrap_or("");
        let from = self.text.len();
        self.text.push_str(new);
        self.window.drain(..self.read);
        self.read = self.window.len();
        if self.ids.len() <= rules.min_tokens {
            self.held = self.text.len();
            return Ok(false);
        }
        self.stopped = find_stop(&self.text, from.max(self.held), &rules.stop);
        Ok(self.stopped.is_some())
    }

    /// Whether special tokens have no text.
    pub fn skips_special_tokens(&self) -> bool {
        self.rules.skip_special_tokens
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.ids
    }

    /// The row's tokens, its text, and whether a stop string ended it.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn finish(self, tokenizer: &Tokenizer) -> Result<(Vec<u32>, String, bool), String> {
        let rules = &*self.rules;
        let end = |(start, end): (usize, usize)| if rules.include_stop_str_in_output { end } else { start };
        if let Some(stop) = self.stopped {
            let mut text = self.text;
            text.truncate(end(stop));
            return Ok((self.ids, text, true));
        }
        let mut text = tokenizer.decode(&self.ids, rules.skip_special_tokens)?;
        // What was held back as half a character may complete a stop string.
        let late = self.ids.len() > rules.min_tokens;
        let stop = if late { find_stop(&text, self.held, &rules.stop) } else { None };
        if let Some(stop) = stop {
            text.truncate(end(stop));
        }
        Ok((self.ids, text, stop.is_some()))
    }
}

/// The first stop string that ends beyond `held` bytes; of those that begin together, the longest.
fn find_stop(text: &str, held: usize, stop: &[String]) -> Option<(usize, usize)> {
    let found = stop.iter().filter_map(|stop| {
        let from = (held + 1).saturating_sub(stop.len()).min(text.len());
        let from = (from..=text.len()).find(|&at| text.is_char_boundary(at))?;
        let start = from + text[from..].find(stop.as_str())?;
        Some((start, start + stop.len()))
    });
    found.min_by_key(|&(start, end)| (start, std::cmp::Reverse(end)))
}

#[cfg(test)]
mod tests;
