//! The order in which the rows of a window begin.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

/// Tokens at the beginning of a prompt by which it is known what it shares.
const PREFIX: usize = 64;

/// Places of rows in the order in which they begin: those of equal beginnings one after the other, and what is longest
/// first, so that nothing long is left for the end.
pub fn order<P: Eq + Hash>(rows: &[(P, usize)]) -> Vec<usize> {
    // The longest row of each beginning, and the first.
    let mut groups: HashMap<&P, (usize, usize)> = HashMap::new();
    for (at, (prefix, tokens)) in rows.iter().enumerate() {
        let (longest, _) = groups.entry(prefix).or_insert((0, at));
        *longest = (*longest).max(*tokens);
    }
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| {
        let (prefix, tokens) = &rows[at];
        let (longest, first) = groups[prefix];
        (Reverse(longest), first, Reverse(*tokens), at)
    });
    order
}

/// What [`order`] knows a prompt by.
pub fn of_prompt(prompt: &[u32]) -> (&[u32], usize) {
    (&prompt[..prompt.len().min(PREFIX)], prompt.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_beginnings_stay_together_and_the_longest_come_first() {
        let rows = [("a", 3), ("b", 9), ("a", 7), ("c", 8), ("b", 1), ("d", 8), ("a", 7)];
        assert_eq!(order(&rows), [1, 4, 3, 5, 2, 6, 0]);
        assert!(order::<u8>(&[]).is_empty());
    }
}
