//! From sampling parameters to a device's inputs: sample rows, adjustments, masks.

use crate::constraint::NoToken;
use crate::scheduler::Scheduler;
use crate::sequence::Sequence;
use crate::step::{Adjustment, NONE, SampleRow, Step};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Appends the row that scores `target`, a token of the prompt or a forced one.
pub fn push_score(step: &mut Step, row: u32, target: u32, logprobs: u32) {
    step.output_rows.push(row);
    step.sampling.push(SampleRow { target, logprobs, ..SampleRow::greedy() });
}

/// Appends the row that reports log-probabilities of `targets` after the token at `row`, and chooses nothing.
pub fn push_targets(step: &mut Step, row: u32, targets: &[u32]) {
    step.output_rows.push(row);
    step.sampling.push(SampleRow {
        target: targets.first().copied().unwrap_or(0),
        target_start: step.targets.len() as u32,
        target_len: targets.len() as u32,
        ..SampleRow::greedy()
    });
    step.targets.extend_from_slice(targets);
}

/// Appends the row that samples the next token of a sequence after the token at `row`.
///
/// `position` is the position of the token to be sampled, `mask` the index of its mask in the step.
pub fn push_sample(step: &mut Step, row: u32, sequence: &Sequence, position: usize, mask: Option<u32>) {
    let p = &sequence.params;
    let adjustments = adjustments(sequence, position);
    step.output_rows.push(row);
    step.sampling.push(SampleRow {
        temperature: p.temperature,
        top_p: p.top_p,
        min_p: p.min_p,
        top_k: p.top_k,
        key_lo: p.key as u32,
        key_hi: (p.key >> 32) as u32,
        position: position as u32,
        seq_slot: sequence.seq_slot,
        target: NONE,
        mask: mask.unwrap_or(NONE),
        adjust_start: step.adjustments.len() as u32,
        adjust_len: adjustments.len() as u32,
        logprobs: p.logprobs,
        target_start: 0,
        target_len: 0,
        reserved: 0,
    });
    step.adjustments.extend(adjustments);
}

/// The masks of the next tokens of sequences, `[sequences, ceil(vocab / 32)]`, made on all threads. A sequence that has
/// already ended may take any token: it is not read.
pub fn masks(scheduler: &mut Scheduler, sequences: &[u64], vocab: usize) -> Vec<u32> {
    let words = vocab.div_ceil(32);
    let mut masks = vec![u32::MAX; sequences.len() * words];
    let mut masks_of: HashMap<u64, &mut [u32]> =
        sequences.iter().copied().zip(masks.chunks_mut(words)).collect();
    let work: Vec<_> =
        scheduler.sequences_mut().filter_map(|s| masks_of.remove(&s.id).map(|mask| (s, mask))).collect();
    work.into_par_iter().for_each(|(sequence, mask)| fill_mask(sequence, mask));
    masks
}

/// The tokens that both the list of allowed tokens and the constraint allow. Where there are none, the sequence has failed,
/// and any token will do: it is not read.
fn fill_mask(sequence: &mut Sequence, mask: &mut [u32]) {
    if sequence.failed.is_some() {
        return;
    }
    if let Some(allowed) = &sequence.params.allowed_token_ids {
        mask.fill(0);
        allowed.iter().for_each(|&id| mask[id as usize / 32] |= 1 << (id % 32));
    }
    let Some(matcher) = &mut sequence.matcher else { return };
    let mut allowed = vec![0; mask.len()];
    let filled = matcher.fill_mask(&mut allowed);
    mask.iter_mut().zip(allowed).for_each(|(mask, allowed)| *mask &= allowed);
    // A ban is a bias, which leaves a token that is alone in its mask the likeliest.
    for banned in bans(sequence, sequence.known()) {
        mask[banned as usize / 32] &= !(1 << (banned % 32));
    }
    let none = || NoToken::DeadEnd("the other rules of sampling allow none of the tokens that fit".into());
    let failed = filled.err().or_else(|| mask.iter().all(|&word| word == 0).then(none));
    if failed.is_some() {
        mask.fill(u32::MAX);
        sequence.failed = failed;
    }
}

/// The tokens that must not come at a position whose tokens before are known.
fn bans(sequence: &Sequence, position: usize) -> Vec<u32> {
    let p = &sequence.params;
    let generated = sequence.answer();
    let words = p.bad_words.iter().filter_map(|word| word.split_last());
    let mut bans: Vec<u32> =
        words.filter(|(_, before)| generated.ends_with(before)).map(|(&last, _)| last).collect();
    if position - sequence.prompt_len < p.min_tokens as usize {
        bans.extend(&p.stop_token_ids);
    }
    bans
}

/// All adjustments to the logits for `position`, at most one for each token.
fn adjustments(sequence: &Sequence, position: usize) -> Vec<Adjustment> {
    let p = &sequence.params;
    let mut changes: BTreeMap<u32, Adjustment> = BTreeMap::new();
    let mut change = |token: u32, f: &dyn Fn(&mut Adjustment)| {
        f(changes.entry(token).or_insert(Adjustment { token, repetition: 1.0, bias: 0.0, reserved: 0 }));
    };
    for &(token, bias) in &p.logit_bias {
        change(token, &|a| a.bias += bias);
    }
    if p.needs_history() {
        let (prompt, generated) = (&sequence.tokens[..sequence.prompt_len], &sequence.answer());
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        generated.iter().for_each(|&t| *counts.entry(t).or_default() += 1);
        for (&token, &count) in &counts {
            let penalty = p.presence_penalty + p.frequency_penalty * count as f32;
            change(token, &|a| a.bias -= penalty);
        }
        if p.repetition_penalty != 1.0 {
            for &token in prompt.iter().chain(generated) {
                change(token, &|a| a.repetition = p.repetition_penalty);
            }
        }
    }
    for token in bans(sequence, position) {
        change(token, &|a| a.bias = f32::NEG_INFINITY);
    }
    changes.into_values().collect()
}
