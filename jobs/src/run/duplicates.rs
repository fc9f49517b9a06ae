//! Rows of one prompt, answered by one run.
//!
//! Where an answer is a function of the prompt (greedy sampling on a device that keeps the numeric contract), a row whose
//! prompt runs or has lately run takes that row's answer. Each row still has a record of its own in the journal.

use crate::run::row::{Ending, Generated};
use blake3::Hash;
use std::collections::{HashMap, VecDeque};

/// The most rows that wait for others.
const WAITING: usize = 1024;

/// The most bytes of answers that are kept for rows to come.
const KEPT_BYTES: usize = 16 << 20;

/// What becomes of a row.
#[derive(Debug)]
pub enum Turn {
    /// It runs.
    Runs,
    /// It waits for a row that runs.
    Waits,
    /// It ends as another did.
    Ends(Ending),
}

/// The prompts that run, the rows that wait for them, and what ran lately.
#[derive(Debug, Default)]
pub struct Duplicates {
    shared: bool,
    /// The row that runs for each prompt.
    runs: HashMap<Hash, u64>,
    /// The prompt of each row that runs, and the rows that wait for it.
    waits: HashMap<u64, (Hash, Vec<u64>)>,
    waiting: usize,
    /// How prompts ended, and in which order.
    ended: HashMap<Hash, Ending>,
    order: VecDeque<Hash>,
    bytes: usize,
}

impl Duplicates {
    /// None so far. If they are not `shared`, every row runs.
    pub fn new(shared: bool) -> Self {
        Duplicates { shared, ..Duplicates::default() }
    }

    /// Whether another row may be taken up; if not, rows that run must end first.
    pub fn have_room(&self) -> bool {
        self.waiting < WAITING
    }

    /// Takes up a row.
    pub fn take_up(&mut self, row: u64, prompt: &[u32]) -> Turn {
        if !self.shared {
            return Turn::Runs;
        }
        let bytes: Vec<u8> = prompt.iter().flat_map(|token| token.to_le_bytes()).collect();
        let prompt = blake3::hash(&bytes);
        if let Some(ending) = self.ended.get(&prompt) {
            return Turn::Ends(ending.clone());
        }
        let first = *self.runs.entry(prompt).or_insert(row);
        let (_, rows) = self.waits.entry(first).or_insert_with(|| (prompt, Vec::new()));
        if first == row {
            return Turn::Runs;
        }
        rows.push(row);
        self.waiting += 1;
        Turn::Waits
    }

    /// Takes the end of a row, keeps it for rows to come, and gives the rows that have waited for it.
    pub fn end(&mut self, row: u64, ending: &Ending) -> Vec<u64> {
        let Some((prompt, rows)) = self.waits.remove(&row) else { return Vec::new() };
        self.runs.remove(&prompt);
        self.waiting -= rows.len();
        self.bytes += bytes(ending);
        self.ended.insert(prompt, ending.clone());
        self.order.push_back(prompt);
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.ended.remove(&oldest).as_ref().map_or(0, bytes);
        }
        rows
    }
}

/// About the memory that an ending takes; the same at each look.
fn bytes(ending: &Ending) -> usize {
    const ENTRY: usize = 512;
    let tops = |tops: usize| 32 + 8 * tops;
    ENTRY
        + ending.as_ref().map_or(0, |ground| {
            let prompt = ground.prompt_logprobs.iter().flatten();
            let completion = |c: &Generated| {
                let alternatives: usize = c.logprobs.iter().map(|top| tops(top.len())).sum();
                ENTRY + 16 * c.text.tokens().len() + 4 * c.token_logprobs.len() + alternatives
            };
            prompt.map(|p| 32 + p.as_ref().map_or(0, |p| tops(p.top.len()))).sum::<usize>()
                + ground.completions.iter().map(completion).sum::<usize>()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::row::Ground;

    fn ground(tokens: usize) -> Ending {
        let completion = Generated { token_logprobs: vec![-1.0; tokens], ..Generated::default() };
        Ok(Ground { num_input_tokens: 2, completions: vec![completion], prompt_logprobs: None })
    }

    #[test]
    fn rows_wait_for_the_first_of_their_prompt_and_end_as_it_did() {
        let mut rows = Duplicates::new(true);
        assert!(matches!(rows.take_up(3, &[1, 2]), Turn::Runs));
        assert!(matches!(rows.take_up(4, &[2, 1]), Turn::Runs));
        assert!(matches!(rows.take_up(5, &[1, 2]), Turn::Waits));
        assert!(matches!(rows.take_up(6, &[1, 2]), Turn::Waits));
        assert!(rows.end(4, &ground(1)).is_empty());
        assert_eq!(rows.end(3, &ground(7)), [5, 6]);
        assert_eq!(rows.waiting, 0);
        let Turn::Ends(Ok(ending)) = rows.take_up(7, &[1, 2]) else { panic!("7 has no answer") };
        assert_eq!(ending.completions[0].token_logprobs.len(), 7);
        // What never ran has no prompt.
        assert!(rows.end(8, &ground(1)).is_empty());
        let mut apart = Duplicates::new(false);
        assert!((0..3).all(|row| matches!(apart.take_up(row, &[1]), Turn::Runs)));
    }

    #[test]
    fn what_is_kept_and_what_waits_is_bounded() {
        let mut rows = Duplicates::new(true);
        for row in 0..200u32 {
            assert!(matches!(rows.take_up(row.into(), &[row]), Turn::Runs));
            rows.end(row.into(), &ground(100_000));
            assert!(rows.bytes <= KEPT_BYTES && rows.ended.len() == rows.order.len());
        }
        assert!(matches!(rows.take_up(500, &[199]), Turn::Ends(_)));
        assert!(matches!(rows.take_up(501, &[0]), Turn::Runs), "the oldest went first");
        let waiting =
            (502..).take_while(|&row| rows.have_room() && matches!(rows.take_up(row, &[0]), Turn::Waits));
        assert_eq!(waiting.count(), WAITING);
    }
}
