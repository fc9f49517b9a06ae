//! Which texts match a pattern, decided when a schema is read, by the engine that enforces patterns later.

use llguidance::derivre::{ExprRef, Regex, RegexAst, RegexBuilder};
use std::collections::HashMap;

/// What compiling and following patterns may cost, all together, in the engine's own measure: 30 ns or so.
const MAX_COST: u64 = 1_000_000;
/// What it may cost to find out that two patterns match no text in common; llguidance does the same.
const MAX_DISJOINT: u64 = 10_000;

/// Patterns in Rust's syntax, which match texts as a whole, each compiled once.
#[derive(Default)]
pub(super) struct Matching {
    compiled: HashMap<String, Regex>,
    spent: u64,
}

impl Matching {
    /// Whether a text matches.
    ///
    /// # Errors
    /// A pattern that cannot be followed.
    pub fn matches(&mut self, pattern: &str, text: &str) -> Result<bool, String> {
        let left = MAX_COST.saturating_sub(self.spent);
        if !self.compiled.contains_key(pattern) {
            let mut builder = RegexBuilder::new();
            let regex = builder.mk_regex(pattern).and_then(|regex| builder.into_regex_limited(regex, left));
            let regex = regex.map_err(|_| too_complex())?;
            self.spent += regex.cost();
            self.compiled.insert(pattern.into(), regex);
        }
        let regex = self.compiled.get_mut(pattern).ok_or_else(too_complex)?;
        let before = regex.cost();
        let mut state = regex.initial_state();
        for &byte in text.as_bytes() {
            state = regex.transition(state, byte);
            if regex.cost() - before > left {
                return Err(too_complex());
            }
        }
        self.spent += regex.cost() - before;
        Ok(regex.is_accepting(state))
    }
}

fn too_complex() -> String {
    "its pattern is too complex to be looked at for each value or name".into()
}

/// Whether no text matches both patterns; `false` if that cannot be shown.
pub(super) fn disjoint(a: &str, b: &str) -> bool {
    let mut builder = RegexBuilder::new();
    let mut both = || -> Result<ExprRef, ()> {
        let a = builder.mk_regex(a).map_err(drop)?;
        let b = builder.mk_regex(b).map_err(drop)?;
        builder.mk(&RegexAst::And(vec![RegexAst::ExprRef(a), RegexAst::ExprRef(b)])).map_err(drop)
    };
    let Ok(both) = both() else { return false };
    builder.into_regex_limited(both, MAX_DISJOINT).is_ok_and(|mut regex| regex.always_empty())
}
