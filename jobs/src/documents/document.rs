//! A document on its way to its answer.

use crate::documents::Documents;
use crate::documents::prompts::{Chunk, RequestPrompt};
use crate::documents::sources::sources;
use crate::documents::tree::groups;
use crate::journal::answer::{Answer, ChunkNote, Completion, DocumentAnswer, FinishReason};
use crate::journal::note::{Note, Part};
use crate::options::documents::Method;
use crate::row_error::{RowError, RowErrorKind};
use arrow::array::RecordBatch;
use std::collections::HashMap;
use std::ops::Range;

/// A request of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct PartRequest {
    pub part: Part,
    /// Whether its answer is the document's.
    pub is_last: bool,
    pub prompt: RequestPrompt,
}

/// A document that was read and cut.
pub struct Opened {
    chunks: Vec<Chunk>,
    /// Whether one prompt holds the document and answers it.
    fits: bool,
    /// The columns of the row that later prompts read.
    row: RecordBatch,
    /// Where later prompts need it.
    text: Option<String>,
}

/// What becomes of a document.
#[derive(Debug)]
pub enum Next {
    /// It waits for requests that run.
    Waits,
    /// These are to run.
    Requests(Vec<PartRequest>),
    /// It is answered.
    Ends(Answer),
    /// It cannot be answered ([`Document::failed`]).
    Fails(RowError),
}

/// A document on its way.
pub struct Document {
    number: u64,
    /// Whether its requests run with no other row beside them.
    pub alone: bool,
    columns: RecordBatch,
    text: Option<String>,
    chunks: Vec<Range<usize>>,
    /// The answers of chunks, if they are kept.
    kept: Option<Vec<Option<KeptAnswer>>>,
    level: u32,
    slots: Vec<Slot>,
    waiting: usize,
    /// The request whose answer is the document's.
    root: Option<Part>,
    /// Notes of an earlier run that have not been looked at.
    known: HashMap<Part, Note>,
    took: DocumentAnswer,
    num_input_tokens: u64,
}

/// The answer to a chunk, and whether it was cut off.
#[derive(Clone)]
struct KeptAnswer {
    text: String,
    cut: bool,
}

/// A request of the level, and what it has come to.
enum Slot {
    Waits { prompt: String, chunks: Range<usize> },
    Note { text: String, chunks: Range<usize> },
    Failed(RowError),
}

impl Documents {
    /// Reads the document of a row of a batch of [`Documents::columns`], and cuts it if it does not fit into one prompt.
    ///
    /// # Errors
    /// Why the row has none.
    pub fn open(&self, batch: &RecordBatch, row: usize) -> Result<Opened, RowError> {
        let text = self.text(batch, row)?;
        let whole = self.whole_prompt(batch, row, &text)?;
        let (chunks, fits) = match whole {
            Some(prompt) => (vec![Chunk { range: 0..text.len(), prompt }], true),
            None => {
                let chunks = self.chunks(batch, row, &text)?;
                // What columns ask is left to ask, even of one chunk.
                let fits = chunks.len() == 1 && !self.scores();
                (chunks, fits)
            }
        };
        let later = !fits && (self.options.sources || self.options.method == Method::Refine);
        Ok(Opened { row: self.row_of_second(batch, row)?, text: later.then_some(text), chunks, fits })
    }
}

impl Opened {
    /// The chunks' bytes of the document, and their prompts.
    pub fn chunks(&self) -> impl Iterator<Item = (&Range<usize>, &RequestPrompt)> {
        self.chunks.iter().map(|chunk| (&chunk.range, &chunk.prompt))
    }

    /// Tokens of all prompts of chunks.
    pub fn tokens(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.prompt.num_tokens()).sum()
    }
}

impl Document {
    /// Begins a row's document, with the notes that an earlier run has left.
    pub fn begin(
        documents: &Documents,
        number: u64,
        opened: Opened,
        notes: Vec<Note>,
        alone: bool,
    ) -> (Document, Next) {
        let Opened { mut chunks, fits, row: columns, text } = opened;
        let ranges: Vec<Range<usize>> = chunks.iter().map(|chunk| chunk.range.clone()).collect();
        let mut document = Document {
            number,
            alone,
            columns,
            text,
            kept: documents.keeps_chunks.then(|| vec![None; ranges.len()]),
            chunks: ranges,
            level: 0,
            slots: Vec::new(),
            waiting: 0,
            root: None,
            known: notes.into_iter().map(|note| (note.part, note)).collect(),
            took: DocumentAnswer::default(),
            num_input_tokens: 0,
        };
        if documents.options.method == Method::Refine {
            chunks.truncate(1);
        }
        let mut requests = Vec::new();
        for (i, chunk) in chunks.into_iter().enumerate() {
            document.ask(i..i + 1, chunk.prompt, fits, &mut requests);
        }
        let next = match requests.is_empty() {
            true => document.advance(documents),
            false => Next::Requests(requests),
        };
        (document, next)
    }

    /// Takes what was generated for a part.
    pub fn take(&mut self, documents: &Documents, part: Part, result: Result<Answer, RowError>) -> Next {
        let (root, index) = (self.root == Some(part), part.index as usize);
        let Some(Slot::Waits { chunks, .. }) = self.slots.get(index) else { return Next::Waits };
        let chunks = chunks.clone();
        match result {
            Ok(answer) if root => return self.answered(answer, chunks),
            Ok(answer) => self.hold(index, &answer, chunks),
            Err(error) => self.slots[index] = Slot::Failed(self.named(part, chunks, error)),
        }
        self.waiting -= 1;
        if self.waiting > 0 { Next::Waits } else { self.advance(documents) }
    }

    /// The note of a part that has just been generated; none of the answer.
    pub fn note(&self, part: Part, answer: &Answer) -> Option<Note> {
        match self.slots.get(part.index as usize) {
            Some(Slot::Waits { prompt, .. }) if self.root != Some(part) => {
                // One that is cut off before its structure's end is a note nevertheless.
                Some(Note::new(part, prompt.clone(), Answer { error: None, ..answer.clone() }))
            }
            _ => None,
        }
    }

    /// Whether the document has one prompt.
    pub fn fits(&self) -> bool {
        self.took.num_levels == 0
    }

    /// Chunks of the document, one if it fits into one prompt.
    pub fn num_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Adds a request to the level, or the note that is known of it.
    fn ask(
        &mut self,
        chunks: Range<usize>,
        asked: RequestPrompt,
        root: bool,
        requests: &mut Vec<PartRequest>,
    ) {
        let part = Part { level: self.level, index: self.slots.len() as u32 };
        if root {
            self.root = Some(part);
        }
        let prompt = digest(&asked.tokens);
        let known = self
            .known
            .remove(&part)
            .filter(|note| !root && note.prompt == prompt && note.answer.completions.len() == 1);
        self.slots.push(Slot::Waits { prompt, chunks: chunks.clone() });
        match known {
            Some(note) => self.hold(part.index as usize, &note.answer, chunks),
            None => {
                self.waiting += 1;
                requests.push(PartRequest { part, is_last: root, prompt: asked });
            }
        }
    }

    /// Keeps what was generated for a part until its level is done.
    fn hold(&mut self, index: usize, answer: &Answer, chunks: Range<usize>) {
        let Some(completion) = answer.completions.first() else { return };
        self.num_input_tokens += u64::from(answer.num_input_tokens.unwrap_or(0));
        self.took.num_note_tokens += completion.tokens.len() as u64;
        self.took.num_cut_notes += u32::from(completion.finish_reason == FinishReason::Length);
        self.keep(&chunks, completion);
        self.slots[index] = Slot::Note { text: completion.text.clone(), chunks };
    }

    fn keep(&mut self, chunks: &Range<usize>, completion: &Completion) {
        if let Some(kept) = self.kept.as_mut().filter(|_| self.level == 0) {
            let cut = completion.finish_reason == FinishReason::Length;
            kept[chunks.end - 1] = Some(KeptAnswer { text: completion.text.clone(), cut });
        }
    }

    /// Goes on where a level is done: to the next with a request, or to the end.
    fn advance(&mut self, documents: &Documents) -> Next {
        loop {
            let failed = self.slots.iter().find_map(|slot| match slot {
                Slot::Failed(error) => Some(error.clone()),
                _ => None,
            });
            if let Some(error) = failed {
                return Next::Fails(error);
            }
            let made = match documents.options.method {
                Method::MapReduce => self.merge(documents),
                Method::Refine => self.refine(documents),
            };
            match made {
                Ok(requests) if requests.is_empty() => {}
                Ok(requests) => return Next::Requests(requests),
                Err(error) => return Next::Fails(error),
            }
        }
    }

    /// The requests of the next level of merges.
    fn merge(&mut self, documents: &Documents) -> Result<Vec<PartRequest>, RowError> {
        let notes: Vec<(String, Range<usize>)> = std::mem::take(&mut self.slots)
            .into_iter()
            .filter_map(|slot| match slot {
                Slot::Note { text, chunks } => Some((text, chunks)),
                _ => None,
            })
            .collect();
        let texts: Vec<&str> = notes.iter().map(|(text, _)| text.as_str()).collect();
        let level = self.level + 1;
        let prompt = |range: Range<usize>, sources: &[&str], is_last: bool| {
            documents.merge_prompt(&self.columns, &texts[range], level, sources, is_last)
        };
        let fits = |range: Range<usize>, is_last: bool| {
            let two = range.len() <= 2;
            let made = prompt(range, &[], is_last)?;
            // Sources get half of the room, unless two notes need it.
            let most =
                if documents.options.sources && !two { documents.most() / 2 } else { documents.most() };
            Ok::<_, RowError>(made.is_some_and(|prompt| is_last && two || prompt.tokens.len() <= most))
        };
        // The prompt that asks what columns ask is longer than that of a merge, which may have to make one note of all first.
        let asks = documents.scores() && fits(0..texts.len(), true)?;
        let groups = match asks {
            true => std::iter::once(0..texts.len()).collect(),
            false => groups(texts.len(), |range| fits(range, false))?,
        };
        if !asks && texts.len() == 1 {
            return Err(RowError::new(
                RowErrorKind::PromptTooLong,
                format!(
                    "the last note and what the columns ask do not fit into one prompt, which may have {} tokens \
                     (--max-model-len) with the longest choice; lower --max-tokens or raise --max-model-len",
                    documents.max_model_len
                ),
            ));
        }
        if !asks && groups.iter().all(|group| group.len() < 2) {
            return Err(RowError::new(
                RowErrorKind::PromptTooLong,
                format!(
                    "no two of {} notes fit into one prompt of level {level}, which may have {} tokens; their texts have \
                     more tokens than were generated for them. Lower --max-tokens or raise --max-model-len",
                    texts.len(),
                    documents.most()
                ),
            ));
        }
        let root = asks || groups.len() == 1 && !documents.scores();
        let mut merges = Vec::with_capacity(groups.len());
        for group in &groups {
            let chunks = notes[group.start].1.start..notes[group.end - 1].1.end;
            let prompt = match group.len() {
                1 if !asks => None,
                _ => {
                    let found = self.sources(documents, &texts[group.clone()], &chunks, |sources| {
                        prompt(group.clone(), sources, root)
                    })?;
                    prompt(group.clone(), &found, root)?
                }
            };
            merges.push((chunks, prompt));
        }
        self.level = level;
        self.took.num_levels = level;
        let mut requests = Vec::new();
        for ((chunks, prompt), group) in merges.into_iter().zip(groups) {
            match prompt {
                Some(prompt) => self.ask(chunks, prompt, root, &mut requests),
                None => self.slots.push(Slot::Note { text: notes[group.start].0.clone(), chunks }),
            }
        }
        Ok(requests)
    }

    /// The sentences that notes rest on, as far as they fit into the prompt beside them.
    fn sources<'a>(
        &'a self,
        documents: &Documents,
        notes: &[&str],
        chunks: &Range<usize>,
        prompt: impl Fn(&[&str]) -> Result<Option<RequestPrompt>, RowError>,
    ) -> Result<Vec<&'a str>, RowError> {
        let Some(text) = self.text.as_deref().filter(|_| documents.options.sources) else {
            return Ok(Vec::new());
        };
        let text = &text[self.chunks[chunks.start].start..self.chunks[chunks.end - 1].end];
        let mut room = prompt(&[])?.and_then(|prompt| documents.room_beside(&prompt)).unwrap_or(0);
        let mut found = Vec::new();
        for sentence in sources(text, notes) {
            // And what the template writes around it.
            let tokens = documents.count(sentence)? + 2;
            if tokens <= room {
                room -= tokens;
                found.push(sentence);
            }
        }
        let in_order = |found: &[&'a str]| {
            let mut sorted = found.to_vec();
            sorted.sort_by_key(|sentence| sentence.as_ptr());
            sorted
        };
        while !found.is_empty() && prompt(&in_order(&found))?.is_none() {
            found.pop();
        }
        Ok(in_order(&found))
    }

    /// The request that goes on from the answer so far with the next chunk.
    fn refine(&mut self, documents: &Documents) -> Result<Vec<PartRequest>, RowError> {
        let at = self.slots.len();
        let is_last = |document: &Document| at + 1 == document.chunks.len();
        let (Some(Slot::Note { text: answer, .. }), Some(text)) = (self.slots.last(), &self.text) else {
            return Err(RowError::new(RowErrorKind::Internal, "a document lost its answer"));
        };
        let prompt = loop {
            let chunk = self.chunks[at].clone();
            match documents.refine_prompt(&self.columns, answer, &text[chunk.clone()], at, is_last(self))? {
                Some(prompt) => break prompt,
                None => {
                    let pieces = documents.split(text, chunk)?;
                    if let Some(kept) = &mut self.kept {
                        kept.resize(kept.len() + pieces.len() - 1, None);
                    }
                    self.chunks.splice(at..=at, pieces);
                }
            }
        };
        self.took.num_levels = 1;
        let mut requests = Vec::new();
        self.ask(at..at + 1, prompt, is_last(self), &mut requests);
        Ok(requests)
    }

    /// The error of a part, with the part's name.
    fn named(&self, part: Part, chunks: Range<usize>, error: RowError) -> RowError {
        let bytes = self.chunks[chunks.start].start..self.chunks[chunks.end - 1].end;
        let name = match part.level {
            0 => format!("chunk {}", part.index),
            level => format!("merge {} of level {level}", part.index),
        };
        let detail = format!("{name} (bytes {} to {}): {}", bytes.start, bytes.end, error.detail);
        RowError { detail, ..error }
    }

    /// The end of a document that fails.
    pub fn failed(&mut self, error: RowError) -> Answer {
        let document = self.ending();
        let tokens = u32::try_from(self.num_input_tokens).ok();
        Answer { document, ..Answer::failed(self.number, tokens, error.to_string()) }
    }

    /// The end of a document that is answered.
    fn answered(&mut self, answer: Answer, chunks: Range<usize>) -> Next {
        self.num_input_tokens += u64::from(answer.num_input_tokens.unwrap_or(0));
        if let Some(completion) = answer.completions.first() {
            self.keep(&chunks, completion);
        }
        let num_input_tokens = u32::try_from(self.num_input_tokens).ok();
        Next::Ends(Answer { num_input_tokens, document: self.ending(), ..answer })
    }

    fn ending(&mut self) -> Option<DocumentAnswer> {
        let chunk = |(range, kept): (&Range<usize>, Option<KeptAnswer>)| {
            let (start, end) = (range.start as u64, range.end as u64);
            let (text, cut) = kept.map_or((None, false), |kept| (Some(kept.text), kept.cut));
            ChunkNote { start, end, text, cut }
        };
        let chunks = self.kept.take().map(|kept| self.chunks.iter().zip(kept).map(chunk).collect());
        Some(DocumentAnswer { num_chunks: self.chunks.len() as u32, chunks, ..self.took.clone() })
    }
}

/// What a note knows its prompt by.
fn digest(tokens: &[u32]) -> String {
    let mut hash = blake3::Hasher::new();
    tokens.iter().for_each(|token| _ = hash.update(&token.to_le_bytes()));
    hash.finalize().to_hex().to_string()
}
