//! Where a text is cut into chunks.
//!
//! Chunks end at headings (of Markdown), paragraphs, sentences or words, in this order of preference, and inside a word or a
//! grapheme only where that alone exceeds the budget; never inside a code point. Headings stay with what follows them. The
//! library that finds these places looks at all that is left of a text for each chunk. So it is given a window of some
//! chunks at a time; the next window begins where the last chunk of this one did, whose end the window may have decided. A
//! window is tokenized once, and a piece of it is as long as the tokens that begin in it.

use crate::guard::guarded;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter, TextSplitter};

/// Bytes of a window for each token of the budget, in Markdown, where a heading may begin a new one, and of a window at least.
const WINDOW_PER_TOKEN: usize = 32;
const MARKDOWN_PER_TOKEN: usize = 12;
const WINDOW: usize = 256;

/// How a text is marked up.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextFormat {
    #[default]
    Text,
    Markdown,
}

/// How a text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tokens of a chunk, at most; at least one.
    pub budget: usize,
    /// Tokens of the end of a chunk with which the next one begins again, at most; fewer than the budget.
    pub overlap: usize,
    pub format: TextFormat,
}

/// The ranges of the chunks of a text in bytes, in order: each begins where the one before ends, or within it if they
/// overlap; together they are the text. `starts` gives the places in a text at which its tokens begin, sorted.
///
/// # Errors
/// What `starts` says.
pub fn chunks(
    text: &str,
    cut: Cut,
    starts: impl Fn(&str) -> Result<Vec<usize>, String>,
) -> Result<Vec<Range<usize>>, String> {
    let mut chunks: Vec<Range<usize>> = Vec::new();
    let (mut at, mut size) = (0, window_size(cut));
    'windows: while at < text.len() {
        let end = text.ceil_char_boundary(at.saturating_add(size));
        let window = &text[at..end];
        let begins = in_window(window, cut, starts(window)?)?;
        let last = end == text.len();
        if begins.len() < 2 && !last {
            size *= 2;
            continue;
        }
        let whole = begins.len() - usize::from(!last);
        for chunk in &begins[..whole] {
            if let Some((heading, end)) = with_headings(text, at + chunk.start..at + chunk.end, cut, &starts)?
            {
                chunks.extend(Some(at + chunk.start..heading).filter(|before| !before.is_empty()));
                chunks.push(heading..end);
                at = end;
                continue 'windows;
            }
            // The first of a window may be nothing but an overlap.
            if chunks.last().is_none_or(|before| before.end < at + chunk.end) {
                chunks.push(at + chunk.start..at + chunk.end);
            }
        }
        if last {
            break;
        }
        at += begins[whole].start;
    }
    Ok(chunks)
}

fn window_size(cut: Cut) -> usize {
    let per_token = match cut.format {
        TextFormat::Text => WINDOW_PER_TOKEN,
        TextFormat::Markdown => MARKDOWN_PER_TOKEN,
    };
    WINDOW.max(cut.budget.saturating_mul(per_token))
}

/// If a chunk of Markdown ends with headings: where these begin, and the end of what follows them and fits beside them. They
/// may take up to half of a chunk. Overlapping chunks have the headings in the next one as far as the overlap goes.
fn with_headings(
    text: &str,
    chunk: Range<usize>,
    cut: Cut,
    starts: impl Fn(&str) -> Result<Vec<usize>, String>,
) -> Result<Option<(usize, usize)>, String> {
    let Some(heading) = headings::at_end(&text[chunk.clone()])
        .map(|at| chunk.start + at)
        .filter(|_| cut.format == TextFormat::Markdown && cut.overlap == 0)
    else {
        return Ok(None);
    };
    let mut end = chunk.end;
    while end < text.len() {
        let taken = starts(&text[heading..end])?.len();
        if 2 * taken > cut.budget {
            break;
        }
        let window = &text[end..text.ceil_char_boundary(end.saturating_add(window_size(cut)))];
        let found = in_window(window, Cut { budget: cut.budget - taken, ..cut }, starts(window)?)?;
        let piece = found.first().map_or(window, |first| &window[first.clone()]);
        // A character that alone exceeds the budget does so by less without them.
        if piece.chars().nth(1).is_none() && starts(piece)?.len() > cut.budget - taken {
            break;
        }
        match headings::at_end(piece) {
            // Nothing but more headings.
            Some(0) => end += piece.len(),
            Some(next) => return Ok(Some((heading, end + next))),
            None => return Ok(Some((heading, end + piece.len()))),
        }
    }
    Ok(None)
}

/// The chunks of a window, which is not empty.
fn in_window(window: &str, cut: Cut, starts: Vec<usize>) -> Result<Vec<Range<usize>>, String> {
    let size = Tokens { window, starts };
    let Cut { budget, overlap, format } = cut;
    let config = ChunkConfig::new(budget.max(1)).with_sizer(size).with_trim(false);
    let config = config.with_overlap(overlap).map_err(|error| error.to_string())?;
    let found: Vec<Range<usize>> = guarded(|| {
        let range = |(start, chunk): (usize, &str)| start..start + chunk.len();
        match format {
            TextFormat::Text => TextSplitter::new(config).chunk_indices(window).map(range).collect(),
            TextFormat::Markdown => MarkdownSplitter::new(config).chunk_indices(window).map(range).collect(),
        }
    })?;
    Ok(joined(found, window.len()))
}

/// The chunks without gaps: what the library left out belongs to the chunk before.
fn joined(mut chunks: Vec<Range<usize>>, end: usize) -> Vec<Range<usize>> {
    chunks.retain(|chunk| !chunk.is_empty());
    match chunks.first_mut() {
        Some(first) => first.start = 0,
        None => chunks.push(0..end),
    }
    for next in 1..chunks.len() {
        chunks[next - 1].end = chunks[next - 1].end.max(chunks[next].start);
    }
    if let Some(last) = chunks.last_mut() {
        last.end = end;
    }
    chunks
}

/// The tokens of pieces of a window.
struct Tokens<'a> {
    window: &'a str,
    starts: Vec<usize>,
}

impl ChunkSizer for Tokens<'_> {
    fn size(&self, piece: &str) -> usize {
        let from = (piece.as_ptr() as usize).wrapping_sub(self.window.as_ptr() as usize);
        let before = |place: usize| self.starts.partition_point(|&start| start < place);
        before(from.saturating_add(piece.len())) - before(from)
    }
}

mod headings;
#[cfg(test)]
mod tests;
