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

/// What is said of the text behind a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// So many bytes of it.
    Part(usize),
    /// All of it, with so many bytes of the token.
    Whole(usize),
}

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
                match marker.said_after(from, bytes) {
                    Said::Whole(at) if at < bytes.len() => straddling.push(id),
                    Said::Whole(_) => ends += 1,
                    Said::Part(_) => {}
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
        let len = self.len(tokens);
        let (thought, answer) = tokens.split_at(len.unwrap_or(tokens.len()));
        let decode = |tokens: &[u32], skip| self.0.vocabulary.tokenizer.decode(tokens, skip);
        let mut reasoning = String::new();
        // A special token whose name has what ends the reasoning does not end it, and is left out.
        for skip in [skip_special_tokens, true] {
            reasoning = decode(thought, skip)?;
            if len.is_some() && reasoning.ends_with(self.text()) {
                reasoning.truncate(reasoning.len() - self.text().len());
            }
            if !reasoning.contains(self.text()) {
                break;
            }
        }
        if len.is_none() {
            return Ok((reasoning, false));
        }
        Ok((format!("{reasoning}{}{}", self.text(), decode(answer, skip_special_tokens)?), true))
    }

    /// A matcher that allows anything up to the end of the reasoning, and then what another one does.
    pub fn before(&self, then: Box<dyn Matcher>) -> Box<dyn Matcher> {
        Box::new(Thinking { reasoning: self.clone(), progress: Some(Progress::default()), then })
    }
}

impl Marker {
    /// Takes a token. Whether the text is said with it.
    fn advance(&self, progress: &mut Progress, token: u32) -> bool {
        let bytes = self.vocabulary.token_bytes.get(token as usize).map_or(&[][..], Vec::as_slice);
        match self.said_after(progress.0, bytes) {
            Said::Whole(_) => true,
            Said::Part(said) => {
                progress.0 = said;
                false
            }
        }
    }

    /// How much of the text is said behind a token, if so much of it is said before. A special token is the text or nothing of it:
    /// what it is called is not said, so that the text goes on behind it.
    fn said_after(&self, said: usize, bytes: &[u8]) -> Said {
        if let Some(written) = bytes.strip_prefix(&[NO_TEXT]) {
            return if written == self.text.as_bytes() { Said::Whole(bytes.len()) } else { Said::Part(said) };
        }
        let mut said = said;
        for (at, byte) in bytes.iter().enumerate() {
            said = self.next[said][usize::from(*byte)];
            if said == self.text.len() {
                return Said::Whole(at + 1);
            }
        }
        Said::Part(said)
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
