//! Whether the terminals of a grammar come to their ends.
//!
//! A lexer is greedy: a terminal goes on as long as it can. In `A B`, with `A: /a+/` and `B: /ab/`, no `a` is B's, so that A never
//! ends, and no answer does. Where what goes on is one text, as here, a parser that looks for the text that must come next finds no
//! end of it either.

use crate::structured::follow::{Symbols, Terminals};
use llguidance::api::ParserLimits;
use llguidance::derivre::StateID;
use llguidance::earley::CGrammar;
use llguidance::earley::lexerspec::LexemeIdx;
use llguidance::earley::regexvec::{LexemeSet, RegexVec};
use std::collections::HashMap;
use std::rc::Rc;

/// States of all terminals that are looked at, and what their derivatives may cost, in llguidance's measure.
const MOST_STATES: usize = 10_000;
const FUEL: u64 = 300_000;

/// Pairs of terminals that are looked at.
const MOST_PAIRS: usize = 5_000_000;

/// What is known of the terminals of a grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endings {
    /// All text that must come next has an end.
    Sure,
    /// Some may have none.
    Unknown,
}

/// A set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bytes([u64; 4]);

/// A terminal by itself.
struct Terminal {
    /// With what it goes on, for each place where it may end.
    ends: Vec<Bytes>,
    /// For each loop of which there is one way only, with what it goes on wherever it may end in it.
    loops: Vec<Bytes>,
    /// Whether it is over as soon as it may be, or may be empty.
    is_short: bool,
}

/// Looks at the terminals of a grammar.
///
/// # Errors
/// The name of one that never ends, where no answer goes without it.
pub(crate) fn endings(grammar: &CGrammar, limits: &ParserLimits) -> Result<Endings, String> {
    let known = Symbols::of(grammar).and_then(|symbols| Lexer::new(grammar, limits)?.look(&symbols));
    known.unwrap_or(Ok(Endings::Unknown))
}

impl Bytes {
    const NONE: Bytes = Bytes([0; 4]);
    const ALL: Bytes = Bytes([u64::MAX; 4]);

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte) / 64] |= 1 << (byte % 64);
    }

    fn and(self, other: Bytes) -> Bytes {
        Bytes(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    fn is_within(self, other: Bytes) -> bool {
        self.and(other) == self
    }
}

/// The terminals of a grammar, as they are looked at.
struct Lexer<'a> {
    grammar: &'a CGrammar,
    states: RegexVec,
    /// How many states may be looked at still.
    left: usize,
    firsts: HashMap<usize, Bytes>,
    terminals: HashMap<usize, Rc<Terminal>>,
    /// What is ignored, which may be anywhere.
    ignored: Vec<usize>,
}

impl Lexer<'_> {
    fn new<'a>(grammar: &'a CGrammar, limits: &ParserLimits) -> Option<Lexer<'a>> {
        let mut states = grammar.lexer_spec().to_regex_vec(&mut limits.clone()).ok()?;
        states.set_fuel(FUEL);
        let (firsts, terminals) = Default::default();
        let mut lexer = Lexer { grammar, states, left: MOST_STATES, firsts, terminals, ignored: Vec::new() };
        for skip in grammar.lexer_spec().skip_by_class.iter().map(|skip| skip.as_usize()) {
            if lexer.first(skip)? != Bytes::NONE {
                lexer.ignored.push(skip);
            }
        }
        Some(lexer)
    }

    /// `None` if there is too much to look at.
    fn look(&mut self, symbols: &Symbols<'_>) -> Option<Result<Endings, String>> {
        let end = self.grammar.lexer_spec().lexemes.len();
        let endless = symbols.endless(|terminal, next| self.ends_before(terminal, next))?;
        if let Some((rule, terminal, next)) = endless {
            let (terminal, next) =
                (self.written(terminal), next.iter().next().map(|next| self.written(next)));
            return Some(Err(format!(
                "{rule}: the terminal {terminal} takes as much text as it can, and what follows it ({}) begins with what it takes itself, so that it \
                 never ends; let what follows begin otherwise, or write both as one terminal (T: A B)",
                next.unwrap_or_default()
            )));
        }
        let (mut known, mut pairs) = (Endings::Sure, MOST_PAIRS);
        let all: Vec<usize> = symbols.terminals().map(|(terminal, _)| terminal).collect();
        let behind_ignored = self.ignored.clone().into_iter().map(|skip| (skip, all.clone()));
        let behind = symbols.terminals().map(|(terminal, next)| {
            (
                terminal,
                next.iter().filter(|next| *next != end).chain(self.ignored.clone()).collect::<Vec<_>>(),
            )
        });
        let behind: Vec<(usize, Vec<usize>)> = behind.chain(behind_ignored).collect();
        for (terminal, next) in behind.into_iter().filter(|(_, next)| !next.is_empty()) {
            let terminal = self.terminal(terminal)?;
            pairs = pairs.checked_sub(next.len() * terminal.loops.len())?;
            for next in next.into_iter().filter(|_| !terminal.loops.is_empty()) {
                let first = self.first(next)?;
                if terminal.loops.iter().any(|goes_on| first.is_within(*goes_on)) {
                    known = Endings::Unknown;
                }
            }
        }
        Some(Ok(known))
    }

    /// A terminal as llguidance writes it.
    fn written(&self, terminal: usize) -> String {
        let lexer = self.grammar.lexer_spec();
        let all = lexer.lexeme_def_to_string(LexemeIdx::new(terminal));
        let begin = all.find("(ExprRef ").map_or(0, |at| at + "(ExprRef ".len());
        // Literals have an empty text at their ends.
        let text = all[begin..].strip_suffix(')').unwrap_or(&all[begin..]).replace(" ε", "");
        text.chars().take(60).collect()
    }

    /// Whether a terminal may end where these follow.
    fn ends_before(&mut self, terminal: usize, next: &Terminals) -> Option<bool> {
        if next.has(self.grammar.lexer_spec().lexemes.len()) {
            return Some(true);
        }
        let terminal = self.terminal(terminal)?;
        if terminal.is_short {
            return Some(true);
        }
        for next in next.iter().chain(self.ignored.clone()) {
            let first = self.first(next)?;
            if terminal.ends.iter().any(|goes_on| !first.is_within(*goes_on)) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// The bytes that a terminal begins with.
    fn first(&mut self, terminal: usize) -> Option<Bytes> {
        if let Some(known) = self.firsts.get(&terminal) {
            return Some(*known);
        }
        let start = self.start(terminal);
        let first = self.next(start)?.0;
        self.firsts.insert(terminal, first);
        Some(first)
    }

    fn start(&mut self, terminal: usize) -> StateID {
        let mut alone = LexemeSet::new(self.grammar.lexer_spec().lexemes.len());
        alone.add(LexemeIdx::new(terminal));
        self.states.initial_state(&alone)
    }

    /// The bytes with which a state goes on, and the states behind them.
    fn next(&mut self, state: StateID) -> Option<(Bytes, Vec<StateID>)> {
        self.left = self.left.checked_sub(1)?;
        let (mut bytes, mut next) = (Bytes::NONE, Vec::new());
        for byte in 0..=u8::MAX {
            let to = self.states.transition(state, byte);
            if !to.is_dead() {
                bytes.add(byte);
                next.push(to);
            }
        }
        next.sort_unstable_by_key(|state| state.as_usize());
        next.dedup();
        (!self.states.has_error()).then_some((bytes, next))
    }

    fn terminal(&mut self, terminal: usize) -> Option<Rc<Terminal>> {
        if let Some(known) = self.terminals.get(&terminal) {
            return Some(known.clone());
        }
        let spec = &self.grammar.lexer_spec().lexemes[terminal];
        let is_bounded = spec.max_tokens() < usize::MAX;
        let start = self.start(terminal);
        let is_lazy = self.states.lazy_regexes().contains(LexemeIdx::new(terminal));
        let is_nullable = self.states.state_desc(start).greedy_accepting.is_some();
        let mut ends = Vec::new();
        // Of each state: what it goes on with where it may end, and the state behind it where there is one way only.
        let mut found: HashMap<StateID, (Option<Bytes>, Option<StateID>)> = HashMap::new();
        let mut left = vec![start];
        while let Some(state) = left.pop() {
            if found.contains_key(&state) {
                continue;
            }
            let (bytes, next) = self.next(state)?;
            let end = self.states.state_desc(state).greedy_accepting.is_some().then_some(bytes);
            ends.extend(end.filter(|end| !ends.contains(end)));
            let is_one = bytes.0.iter().map(|word| word.count_ones()).sum::<u32>() == 1;
            found.insert(state, (end, next.first().copied().filter(|_| is_one)));
            left.extend(next);
        }
        let loops = loops(&found);
        let found = Rc::new(Terminal { ends, loops, is_short: is_lazy || is_nullable || is_bounded });
        self.terminals.insert(terminal, found.clone());
        Some(found)
    }
}

/// The loops of states that each go on in one way.
fn loops(states: &HashMap<StateID, (Option<Bytes>, Option<StateID>)>) -> Vec<Bytes> {
    let (mut loops, mut seen) = (Vec::new(), HashMap::new());
    for (walk, &start) in states.keys().enumerate() {
        let mut at = Some(start);
        while let Some(state) = at.filter(|state| !seen.contains_key(state)) {
            seen.insert(state, walk);
            at = states[&state].1;
        }
        let Some(first) = at.filter(|state| seen[state] == walk) else { continue };
        let (mut goes_on, mut state) = (Bytes::ALL, first);
        loop {
            let (end, next) = states[&state];
            goes_on = end.map_or(goes_on, |end| goes_on.and(end));
            state = next.unwrap_or(first);
            if state == first {
                break;
            }
        }
        loops.push(goes_on);
    }
    loops
}
