//! How many ways a grammar has at one place. A parser holds all of them at once, so that every answer that comes there would meet
//! its limit.

use llguidance::earley::{CGrammar, CSymIdx};
use std::collections::{HashSet, VecDeque};

/// Items that are counted in all. Rules within rules could take the square of their number; what comes later then is the row's error.
const MOST_COUNTED: usize = 300_000;

/// The name of what a grammar has more than `most` alternatives for at one place, and their number.
pub(crate) fn beyond(grammar: &CGrammar, most: usize) -> Option<(String, usize)> {
    let start = grammar.start();
    let (mut reached, mut left) = (HashSet::from([start.as_index()]), VecDeque::from([start]));
    // Symbols with which one begins that was looked at have no more alternatives than it.
    let (mut counted, mut all) = (HashSet::new(), 0);
    while let Some(symbol) = left.pop_front() {
        if all < MOST_COUNTED && !counted.contains(&symbol.as_index()) {
            let count = alternatives(grammar, symbol, &mut counted);
            all += count;
            if count > most {
                return Some((grammar.sym_name(symbol).into(), count));
            }
        }
        for rule in grammar.rules_of(symbol) {
            let symbols = grammar.rule_rhs(*rule).0;
            left.extend(symbols.iter().filter(|symbol| reached.insert(symbol.as_index())));
        }
    }
    None
}

/// How many items a parser holds where a symbol may come, for that symbol alone.
fn alternatives(grammar: &CGrammar, symbol: CSymIdx, counted: &mut HashSet<usize>) -> usize {
    let (mut first, mut left, mut count) = (HashSet::from([symbol.as_index()]), vec![symbol], 0);
    while let Some(symbol) = left.pop() {
        counted.insert(symbol.as_index());
        let conditions = &grammar.sym_data(symbol).rules_cond;
        // What a condition may leave out is not counted.
        let always = conditions.iter().map(|condition| condition.is_true());
        for (rule, _) in grammar.rules_of(symbol).iter().zip(always).filter(|(_, always)| *always) {
            for symbol in grammar.rule_rhs(*rule).0 {
                count += 1;
                if first.insert(symbol.as_index()) {
                    left.push(*symbol);
                }
                if !grammar.sym_data(*symbol).is_nullable {
                    break;
                }
            }
        }
    }
    count
}
