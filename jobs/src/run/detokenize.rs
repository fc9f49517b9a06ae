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
        let longest = rules.stop.iter().map(String::len).max().unwrap_or(0);
        self.stopped = find_stop(&self.text, from.saturating_sub(longest), &rules.stop);
        Ok(self.stopped.is_some())
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
        let stop = find_stop(&text, 0, &rules.stop);
        if let Some(stop) = stop {
            text.truncate(end(stop));
        }
        Ok((self.ids, text, stop.is_some()))
    }
}

/// The first stop string at or after `from`; of those that begin together, the longest.
fn find_stop(text: &str, from: usize, stop: &[String]) -> Option<(usize, usize)> {
    let from = (0..=from).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let found = stop.iter().filter_map(|stop| {
        let start = from + text[from..].find(stop.as_str())?;
        Some((start, start + stop.len()))
    });
    found.min_by_key(|&(start, end)| (start, std::cmp::Reverse(end)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::prompt::tokenizer::tests::{byte_level, metaspace};
    use proptest::prelude::*;

    fn rules(stop: &[&str], include: bool) -> TextRules {
        TextRules {
            stop: stop.iter().map(|s| s.to_string()).collect(),
            include_stop_str_in_output: include,
            skip_special_tokens: true,
        }
    }

    /// Text, whether it stopped, and how many tokens were taken.
    fn run(tokenizer: &Tokenizer, ids: &[u32], rules: &TextRules) -> (String, bool, usize) {
        let mut row = Detokenizer::new(Arc::new(rules.clone()));
        for &id in ids {
            if row.push(id, tokenizer).unwrap() {
                break;
            }
        }
        let (ids, text, stopped) = row.finish(tokenizer).unwrap();
        (text, stopped, ids.len())
    }

    #[test]
    fn a_stop_string_ends_the_row_across_tokens() {
        let tokenizer = byte_level();
        let ids = tokenizer.encode_plain("hello wörld 😀 ünd hello STOP hello").unwrap();
        let (text, stopped, used) = run(&tokenizer, &ids, &rules(&["ld 😀 ü", "hello STOP"], false));
        assert_eq!((text.as_str(), stopped), ("hello wör", true));
        assert_eq!(tokenizer.decode(&ids[..used], true).unwrap(), "hello wörld 😀 ü", "ends with the stop");
        let (text, ..) = run(&tokenizer, &ids, &rules(&["lo STO", "lo S"], true));
        assert_eq!(text, "hello wörld 😀 ünd hello S", "the first to be complete, kept");
        let (text, stopped, used) = run(&tokenizer, &ids, &rules(&["never"], false));
        assert_eq!((text.as_str(), stopped, used), ("hello wörld 😀 ünd hello STOP hello", false, ids.len()));
    }

    #[test]
    fn half_a_character_is_held_back_and_shown_at_the_end() {
        let tokenizer = byte_level();
        let ids = tokenizer.encode_plain("a😀").unwrap();
        let (text, stopped, _) = run(&tokenizer, &ids[..3], &rules(&["\u{fffd}"], false));
        assert_eq!((text.as_str(), stopped), ("a", true), "what is left at the end counts");
        let (text, stopped, _) = run(&tokenizer, &ids, &rules(&["\u{fffd}"], false));
        assert_eq!((text.as_str(), stopped), ("a😀", false), "what is held back does not");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// The final text is that of all tokens together, and what stop strings were looked for in is its
        /// beginning.
        #[test]
        fn the_text_is_that_of_the_whole(words in prop::collection::vec("[a-zé😀 <|>\n]{0,5}|<think>|漢", 0..30), seed: u64) {
            let stop = rules(&["\u{1}"], false);
            for tokenizer in [byte_level(), metaspace()] {
                let mut ids = tokenizer.encode_plain(&words.concat()).unwrap();
                if let Some(marker) = tokenizer.id(if seed % 2 == 0 { "<|im_end|>" } else { "<s>" }) {
                    ids.insert(seed as usize % (ids.len() + 1), marker);
                }
                let mut row = Detokenizer::new(Arc::new(stop.clone()));
                for &id in &ids {
                    prop_assert!(!row.push(id, &tokenizer).unwrap());
                }
                let seen = row.text.clone();
                let (tokens, text, stopped) = row.finish(&tokenizer).unwrap();
                prop_assert_eq!(&text, &tokenizer.decode(&ids, true).unwrap());
                prop_assert_eq!(&tokens, &ids);
                prop_assert!(!stopped);
                prop_assert!(text.contains('\u{fffd}') || seen == text, "{:?} {:?}", seen, text);
            }
        }
    }
}
