//! A structure as the engine follows it: which tokens may come next in an answer.

use crate::guard::guarded;
use crate::prompt::tokenizer::token_bytes::NO_TEXT;
use crate::schema::chosen::Chosen;
use crate::structured::StructuredOutputs;
use crate::structured::grammar::{check_end_tokens, grammar};
use crate::structured::names::Names;
use crate::structured::parser_error::{no_token, of_regex, plain};
use crate::structured::reasoning::Reasoning;
use crate::structured::room::Taken;
use crate::structured::vocabulary::Vocabulary;
use engine::constraint::{Constraint, Matcher, NoToken};
use llguidance::api::StopReason;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The stack for parsers of grammars, which go down by recursion.
const STACK: usize = 64 << 20;

/// A structure that is not compiled by then is refused. Limits of its size keep all but made-up ones far below that.
const LONGEST: Duration = Duration::from_secs(30);

/// How many rows share what lexers learn: with one of these, masks of two rows would wait for each other.
const GROUPS: usize = 16;

/// What a group may learn, at 20 bytes or so each.
const MOST_LEARNT: u64 = 4_000_000;

/// Bytes that a structure takes for one of its text, at most, and for what its lexer costs to begin with.
const BYTES_OF_TEXT: usize = 400;
const BYTES_OF_COST: usize = 20;

/// Bytes of any structure, as small as it may be: measured with 10,000 of two properties.
const LEAST_BYTES: usize = 150 << 10;

/// A compiled structure, for any number of rows.
#[derive(Clone)]
pub struct Structure {
    shared: Arc<Shared>,
    /// What goes before it, where the model thinks first.
    reasoning: Option<Reasoning>,
    /// The values of an answer whose probabilities are wanted.
    fields: Option<Arc<Chosen>>,
    /// Its part of the memory for structures, until the last of its rows lets it go.
    _taken: Option<Arc<Taken>>,
}

struct Shared {
    digest: [u8; 32],
    vocabulary: Arc<Vocabulary>,
    /// At the start of an answer, and with nothing learnt from any.
    fresh: llguidance::Matcher,
    /// Copies whose lexers learn, each from the rows of its group.
    learning: Vec<Mutex<Option<Learning>>>,
    next: AtomicUsize,
    bytes: usize,
    /// Whether a name of an object could come twice.
    has_other_names: bool,
}

/// A copy whose lexer learns.
struct Learning {
    matcher: llguidance::Matcher,
    /// What it has learnt, in llguidance's measure.
    cost: u64,
}

impl Structure {
    /// Compiles a structure.
    ///
    /// # Errors
    /// What of it cannot be enforced, or that no answer can begin.
    pub fn compile(outputs: &StructuredOutputs, vocabulary: &Arc<Vocabulary>) -> Result<Structure, String> {
        let (outputs, vocabulary) = (outputs.clone(), vocabulary.clone());
        let (send, compiled) = std::sync::mpsc::channel();
        let work = move || _ = send.send(guarded(|| compile(&outputs, &vocabulary)));
        let builder = std::thread::Builder::new().name("grammar".into()).stack_size(STACK);
        builder.spawn(work).map_err(|error| error.to_string())?;
        let late = |_| format!("it is not compiled within {} s; make it simpler", LONGEST.as_secs());
        compiled.recv_timeout(LONGEST).map_err(late)??
    }

    /// Of kind and text, and of what ends the reasoning before it.
    pub fn digest(&self) -> [u8; 32] {
        match &self.reasoning {
            None => self.shared.digest,
            Some(reasoning) => {
                *blake3::keyed_hash(&self.shared.digest, reasoning.text().as_bytes()).as_bytes()
            }
        }
    }

    /// The structure behind reasoning.
    pub fn after(self, reasoning: Reasoning) -> Structure {
        Structure { reasoning: Some(reasoning), ..self }
    }

    /// The structure, with the probabilities of these values of its answers wanted.
    pub fn with_fields(self, fields: Option<Arc<Chosen>>) -> Structure {
        Structure { fields, ..self }
    }

    /// The values of an answer whose probabilities are wanted.
    pub fn fields(&self) -> Option<&Chosen> {
        self.fields.as_deref()
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.shared.vocabulary
    }

    /// What goes before it.
    pub fn reasoning(&self) -> Option<&Reasoning> {
        self.reasoning.as_ref()
    }

    /// The structure of the answer to a prompt, which may have ended the reasoning itself.
    pub fn for_prompt(&self, prompt: &[u32]) -> Structure {
        let reasoning = self.reasoning.clone().filter(|reasoning| !reasoning.is_closed_by(prompt));
        Structure { reasoning, ..self.clone() }
    }

    /// What a token says in an answer.
    fn text(&self, token: u32) -> &[u8] {
        let bytes = self.shared.vocabulary.token_bytes.get(token as usize).map_or(&[][..], Vec::as_slice);
        if bytes.first() == Some(&NO_TEXT) { &[] } else { bytes }
    }

    /// A copy that shares with its group what lexers learn.
    fn learning(&self, group: usize) -> llguidance::Matcher {
        let fresh = || Learning { matcher: self.shared.fresh.deep_clone(), cost: 0 };
        self.group(group).get_or_insert_with(fresh).matcher.clone()
    }

    /// Counts what a group has learnt. One that has learnt too much begins anew: rows to come share another copy.
    fn count(&self, group: usize, cost: u64) {
        let mut learning = self.group(group);
        if let Some(learning) = learning.as_mut() {
            learning.cost += cost;
        }
        if learning.as_ref().is_some_and(|learning| learning.cost > MOST_LEARNT) {
            *learning = None;
        }
    }

    /// About how many bytes it takes, without what its lexers learn.
    pub(crate) fn bytes(&self) -> usize {
        self.shared.bytes
    }

    /// About how many bytes it takes while a row is answered by it, with a copy whose lexer learns.
    pub(crate) fn bytes_in_use(&self) -> usize {
        2 * self.shared.bytes
    }

    /// The structure, which holds these bytes.
    pub(crate) fn taking(self, taken: Taken) -> Structure {
        Structure { _taken: Some(Arc::new(taken)), ..self }
    }

    fn group(&self, group: usize) -> MutexGuard<'_, Option<Learning>> {
        // What it holds is replaced in whole.
        self.shared.learning[group].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn compile(outputs: &StructuredOutputs, vocabulary: &Arc<Vocabulary>) -> Result<Structure, String> {
    if let StructuredOutputs::Grammar(lark) = outputs {
        let written = |&id: &u32| Some((id, vocabulary.tokenizer.written_form(id)?));
        let ends: Vec<(u32, String)> = vocabulary.end_tokens.iter().filter_map(written).collect();
        check_end_tokens(lark, &ends)?;
    }
    let grammar = grammar(outputs)?;
    let told =
        |why: String| if matches!(outputs, StructuredOutputs::Regex(_)) { of_regex(&why) } else { why };
    let fresh =
        vocabulary.parser(grammar.rules, matches!(outputs, StructuredOutputs::Json(_))).map_err(told)?;
    if let Some(error) = fresh.get_error() {
        return Err(told(plain(&error)));
    }
    let cost = fresh.last_step_stats().map_or(0, |stats| stats.lexer_cost as usize);
    let bytes = LEAST_BYTES + outputs.text().len() * BYTES_OF_TEXT + cost * BYTES_OF_COST;
    let shared = Shared {
        digest: outputs.digest(),
        vocabulary: vocabulary.clone(),
        fresh,
        learning: (0..GROUPS).map(|_| Mutex::new(None)).collect(),
        next: AtomicUsize::new(0),
        bytes,
        has_other_names: grammar.has_other_names,
    };
    let structure = Structure { shared: Arc::new(shared), reasoning: None, fields: None, _taken: None };
    let size = vocabulary.factory.tok_env().tok_trie().vocab_size();
    let mut first = structure.start();
    first.fill_mask(&mut vec![0; size.div_ceil(32)]).map_err(|why| match why {
        NoToken::DeadEnd(why) => format!("no answer can begin: {why}"),
        NoToken::TooComplex(why) | NoToken::Failed(why) => why,
    })?;
    Ok(structure)
}

impl Structure {
    fn start(&self) -> Answer {
        let group = self.shared.next.fetch_add(1, Ordering::Relaxed) % GROUPS;
        let inner = self.learning(group);
        let names = self.shared.has_other_names.then(Names::default);
        Answer {
            structure: self.clone(),
            group: Some(group),
            inner,
            tokens: Vec::new(),
            forced: VecDeque::new(),
            names,
            failed: None,
        }
    }
}

impl Constraint for Structure {
    fn matcher(&self) -> Box<dyn Matcher> {
        let answer = Box::new(self.start());
        match &self.reasoning {
            None => answer,
            Some(reasoning) => reasoning.before(answer),
        }
    }
}

impl fmt::Debug for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Structure").field(&blake3::Hash::from_bytes(self.digest()).to_hex()).finish()
    }
}

/// An answer on its way through a structure.
struct Answer {
    structure: Structure,
    /// Whose lexer it shares; none once it has one of its own.
    group: Option<usize>,
    inner: llguidance::Matcher,
    tokens: Vec<u32>,
    /// Tokens that must come next. They are asked for once and then taken one by one, so that they are the same whether a
    /// step takes one of them or all.
    forced: VecDeque<u32>,
    /// The names of its objects, where one could come twice.
    names: Option<Names>,
    failed: Option<NoToken>,
}

impl Answer {
    /// Does something with the parser. If that fails, it is done again with a parser that has learnt nothing from other
    /// rows, so that whether a row fails is its own matter: a lexer's limits count what all rows of a group have met, and
    /// a panic spoils it for all of them.
    fn with_parser<T>(
        &mut self,
        work: impl Fn(&mut llguidance::Matcher) -> Result<T, NoToken>,
    ) -> Result<T, NoToken> {
        if let Some(why) = &self.failed {
            return Err(why.clone());
        }
        let shared = work(&mut self.inner);
        let result = match (shared, self.group.take()) {
            (Ok(done), group) => {
                self.group = group;
                return Ok(done);
            }
            (Err(why), None) => Err(why),
            (Err(_), Some(group)) => {
                *self.structure.group(group) = None;
                self.inner = self.structure.shared.fresh.deep_clone();
                let so_far =
                    self.inner.consume_tokens(&self.tokens).map_err(|error| no_token(&error.to_string()));
                so_far.and_then(|()| work(&mut self.inner))
            }
        };
        if let Err(why) = &result {
            self.failed = Some(why.clone());
        }
        result
    }

    /// Asks for the tokens that must come next, if there is no choice.
    fn force(&mut self) -> Result<(), NoToken> {
        if !self.forced.is_empty() || self.inner.is_stopped() {
            return Ok(());
        }
        let forced = self.with_parser(|parser| {
            let forced = parser.compute_ff_tokens();
            parser.get_error().map_or(Ok(forced), |error| Err(no_token(&error)))
        })?;
        // An end is allowed only where the answer may end, which the mask knows.
        let ends = &self.structure.shared.vocabulary.end_tokens;
        let end = forced.iter().position(|token| ends.contains(token)).unwrap_or(forced.len());
        let repeated = self.first_repeated(&forced[..end]);
        self.forced = forced[..repeated].to_vec().into();
        Ok(())
    }

    /// How many of these tokens may come next before one with which a name comes twice.
    fn first_repeated(&self, tokens: &[u32]) -> usize {
        let Some(mut names) = self.names.clone().filter(|_| !tokens.is_empty()) else { return tokens.len() };
        tokens.iter().position(|&token| !names.take(self.structure.text(token))).unwrap_or(tokens.len())
    }

    /// Forbids the tokens with which a name of an object would come twice.
    fn forbid_repeated(&self, mask: &mut [u32]) {
        let Some(names) = &self.names else { return };
        for &token in &self.structure.shared.vocabulary.quotes {
            let allowed = mask[token as usize / 32] >> (token % 32) & 1 == 1;
            if allowed && names.would_repeat(self.structure.text(token)) {
                forbid(mask, token);
            }
        }
    }

    fn mask_of_parser(&mut self, mask: &mut [u32]) -> Result<(), NoToken> {
        let (allowed, may_end) = self.with_parser(|parser| {
            let wrong = |error| no_token(&format!("{error}"));
            let ended = parser.is_stopped();
            let allowed = parser.compute_mask_or_eos().map_err(wrong)?;
            Ok((allowed, ended || parser.is_accepting().map_err(wrong)?))
        })?;
        if let (Some(group), Ok(stats)) = (self.group, self.inner.last_step_stats()) {
            self.structure.count(group, stats.lexer_cost);
        }
        mask.iter_mut().zip(allowed.as_slice()).for_each(|(mask, allowed)| *mask = *allowed);
        if !may_end {
            // A grammar may name a special token that ends answers.
            self.structure.shared.vocabulary.end_tokens.iter().for_each(|&end| forbid(mask, end));
        }
        Ok(())
    }
}

impl Matcher for Answer {
    fn fill_mask(&mut self, mask: &mut [u32]) -> Result<(), NoToken> {
        self.force()?;
        let first = self.tokens.is_empty();
        match self.forced.front() {
            Some(&token) => mask[token as usize / 32] |= 1 << (token % 32),
            None => {
                self.mask_of_parser(mask)?;
                let fits = mask.iter().any(|&word| word != 0);
                self.forbid_repeated(mask);
                if fits && mask.iter().all(|&word| word == 0) {
                    return Err(NoToken::DeadEnd(
                        "only a name that its object has already could come next".into(),
                    ));
                }
            }
        }
        if first {
            self.structure.shared.vocabulary.cut_first.iter().for_each(|&token| forbid(mask, token));
        }
        if mask.iter().all(|&word| word == 0) {
            let place = if first { "begin it" } else { "come next" };
            return Err(NoToken::DeadEnd(format!("this tokenizer has no token that may {place}")));
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) {
        self.forced.pop_front();
        if self.inner.is_stopped() && self.failed.is_none() {
            return;
        }
        let taken = self
            .with_parser(|parser| parser.consume_token(token).map_err(|error| no_token(&error.to_string())));
        // Of a failure the next mask tells.
        if taken.is_ok() {
            self.tokens.push(token);
            if let Some(names) = &mut self.names {
                names.take(self.structure.text(token));
            }
        }
    }

    fn forced(&self) -> Vec<u32> {
        self.forced.iter().copied().collect()
    }

    fn is_ended(&self) -> bool {
        self.failed.is_none() && self.inner.stop_reason() == StopReason::NoExtension
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("tokens", &self.tokens)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

fn forbid(mask: &mut [u32], token: u32) {
    mask[token as usize / 32] &= !(1 << (token % 32));
}
