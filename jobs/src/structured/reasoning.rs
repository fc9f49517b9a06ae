//! Answers of models that think: a structure that begins where the reasoning ends.

use crate::prompt::tokenizer::token_bytes::NO_TEXT;
use crate::structured::vocabulary::Vocabulary;
use engine::constraint::{Matcher, NoToken};
use std::fmt;
use std::sync::Arc;

/// Where the reasoning of an answer ends: behind the first time that it says a text, such as `</think>`.
#[derive(Clone)]
pub struct Reasoning(Arc<Marker>);

struct Marker {
    text: String,
    vocabulary: Arc<Vocabulary>,
    /// For each number of bytes of the text that an answer ends with, that number behind each byte.
    next: Vec<[usize; 256]>,
    /// For each such number, the tokens that would end the text and go on: what follows it in a token could not be held to
    /// a structure.
    straddling: Vec<Vec<u32>>,
}

/// The reasoning and the answer of a text that [`Reasoning::join`] has made: no answer if the reasoning does not end. Where the
/// answer writes the tag that opens the reasoning, and not the chat template, the tag is left out.
pub fn split<'a>(text: &'a str, end: &str) -> (&'a str, Option<&'a str>) {
    let (reasoning, answer) = match text.split_once(end) {
        Some((reasoning, answer)) => (reasoning, Some(answer)),
        None => (text, None),
    };
    let open = end.strip_prefix("</").map(|name| format!("<{name}"));
    let tagged = open.and_then(|open| reasoning.trim_start().strip_prefix(open.as_str()));
    (tagged.unwrap_or(reasoning), answer)
}

/// How far an answer is in saying the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress(usize);

impl Reasoning {
    /// Reasoning that ends with `text`.
    ///
    /// # Errors
    /// If the model's tokens cannot say it.
    pub fn new(text: &str, vocabulary: &Arc<Vocabulary>) -> Result<Reasoning, String> {
        if text.is_empty() {
            return Err("is empty; it is what ends the reasoning, such as </think>".into());
        }
        let next = automaton(text.as_bytes());
        let mut marker =
            Marker { text: text.into(), vocabulary: vocabulary.clone(), next, straddling: Vec::new() };
        let mut ends = 0;
        for from in 0..text.len() {
            let mut straddling = Vec::new();
            for (id, bytes) in (0..).zip(vocabulary.token_bytes.iter()) {
                match marker.ends_after(from, bytes) {
                    Some(at) if at < bytes.len() => straddling.push(id),
                    Some(_) => ends += 1,
                    None => {}
                }
            }
            marker.straddling.push(straddling);
        }
        if ends == 0 {
            return Err(format!("no token of the model ends {text:?}"));
        }
        Ok(Reasoning(Arc::new(marker)))
    }

    /// What ends the reasoning.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// How many of an answer's tokens are reasoning, the text that ends it among them; `None` if it does not end.
    pub fn len(&self, tokens: &[u32]) -> Option<usize> {
        let mut progress = Progress::default();
        tokens.iter().position(|&token| self.0.advance(&mut progress, token)).map(|at| at + 1)
    }

    /// Whether a prompt has ended the reasoning already.
    pub fn is_closed_by(&self, prompt: &[u32]) -> bool {
        // White space may follow it.
        let tail = &prompt[prompt.len().saturating_sub(self.text().len() + 8)..];
        let tail = self.0.vocabulary.tokenizer.decode(tail, false);
        tail.is_ok_and(|text| text.trim_end().ends_with(self.text()))
    }

    /// The text of an answer: its reasoning, what ends it, and what follows; or the reasoning alone, if it does not end.
    /// Each of the two is a text by itself, so that no blank is lost or won between them, and what ends the reasoning stands
    /// there also where that is a special token.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn join(&self, tokens: &[u32], skip_special_tokens: bool) -> Result<(String, bool), String> {
        let decode = |tokens: &[u32]| self.0.vocabulary.tokenizer.decode(tokens, skip_special_tokens);
        let Some(len) = self.len(tokens) else { return Ok((decode(tokens)?, false)) };
        let reasoning = decode(&tokens[..len])?;
        let reasoning = reasoning.strip_suffix(self.text()).unwrap_or(&reasoning);
        Ok((format!("{reasoning}{}{}", self.text(), decode(&tokens[len..])?), true))
    }

    /// A matcher that allows anything up to the end of the reasoning, and then what another one does.
    pub fn before(&self, then: Box<dyn Matcher>) -> Box<dyn Matcher> {
        Box::new(Thinking { reasoning: self.clone(), progress: Some(Progress::default()), then })
    }
}

impl Marker {
    /// Takes a token. Whether the text is said with it.
    fn advance(&self, progress: &mut Progress, token: u32) -> bool {
        let Some(bytes) = self.vocabulary.token_bytes.get(token as usize) else { return false };
        if self.ends_after(progress.0, bytes).is_some() {
            return true;
        }
        progress.0 = bytes.iter().fold(progress.0, |said, byte| self.next[said][usize::from(*byte)]);
        false
    }

    /// The number of bytes of a token with which the text is said, if so much of it is said before.
    fn ends_after(&self, said: usize, bytes: &[u8]) -> Option<usize> {
        if let Some(written) = bytes.strip_prefix(&[NO_TEXT]) {
            return (written == self.text.as_bytes()).then_some(bytes.len());
        }
        let mut said = said;
        for (at, byte) in bytes.iter().enumerate() {
            said = self.next[said][usize::from(*byte)];
            if said == self.text.len() {
                return Some(at + 1);
            }
        }
        None
    }
}

/// Of Knuth, Morris and Pratt: how many bytes of a text are said behind each byte, for each number that is said before.
fn automaton(text: &[u8]) -> Vec<[usize; 256]> {
    let mut next = vec![[0; 256]; text.len()];
    // The state behind what was said without its first byte.
    let mut back = 0;
    for (said, &byte) in text.iter().enumerate() {
        next[said] = next[back];
        next[said][usize::from(byte)] = said + 1;
        if said > 0 {
            back = next[back][usize::from(byte)];
        }
    }
    next
}

/// An answer that thinks, then follows a structure.
struct Thinking {
    reasoning: Reasoning,
    /// None once the reasoning has ended.
    progress: Option<Progress>,
    then: Box<dyn Matcher>,
}

impl Matcher for Thinking {
    fn fill_mask(&mut self, mask: &mut [u32]) -> Result<(), NoToken> {
        let Some(Progress(said)) = self.progress else { return self.then.fill_mask(mask) };
        mask.fill(u32::MAX);
        for token in &self.reasoning.0.straddling[said] {
            mask[*token as usize / 32] &= !(1 << (token % 32));
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) {
        match &mut self.progress {
            None => self.then.accept(token),
            Some(progress) => {
                if self.reasoning.0.advance(progress, token) {
                    self.progress = None;
                }
            }
        }
    }

    fn forced(&self) -> Vec<u32> {
        if self.progress.is_none() { self.then.forced() } else { Vec::new() }
    }

    fn is_ended(&self) -> bool {
        self.progress.is_none() && self.then.is_ended()
    }
}

impl fmt::Debug for Reasoning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reasoning").field(&self.0.text).finish()
    }
}

impl fmt::Debug for Thinking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thinking").field("progress", &self.progress).field("then", &self.then).finish()
    }
}

#[cfg(test)]
mod tests;
