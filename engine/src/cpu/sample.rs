//! Sample, as [`crate::sample`] defines it.

use super::disjoint::Disjoint;
use super::math;
use super::memory::Memory;
use super::team::Team;
use super::vectorized;
use crate::op::Sample;
use crate::sample::uniform;
use crate::step::{Adjustment, MAX_LOGPROBS, NONE, SampleRow, Sampled, Step, StepOutput};

/// Runs the op.
pub fn run(team: &mut Team, memory: &mut Memory, step: &Step, op: &Sample) -> StepOutput {
    let Sample { logits, last, out, target_logprobs } = *op;
    let (data, cols) = (memory.float(logits.buffer), memory.cols(logits.buffer));
    let mut chosen = vec![None; step.sampling.len()];
    let target = Disjoint::new(&mut chosen);
    team.share(step.sampling.len(), |r| {
        let how = &step.sampling[r];
        let adjustments = &step.adjustments[how.adjust_start as usize..][..how.adjust_len as usize];
        let mask =
            (how.mask != NONE).then(|| &step.masks[how.mask as usize * step.mask_words..][..step.mask_words]);
        let targets = &step.targets[how.target_start as usize..][..how.target_len as usize];
        let row = &data[r * cols + logits.start..][..logits.cols];
        // SAFETY: each task has a row of its own.
        unsafe { target.part(r, 1)[0] = Some(sample(row, how, adjustments, mask, targets)) };
    });
    let (sampled, of_targets): (Vec<Sampled>, Vec<Vec<f32>>) = chosen.into_iter().flatten().unzip();
    for (sampled, how) in sampled.iter().zip(&step.sampling) {
        if how.seq_slot != NONE {
            memory.int_mut(last)[how.seq_slot as usize] = sampled.token;
        }
    }
    memory.int_mut(out)[..sampled.len() * crate::step::SAMPLED_WORDS]
        .copy_from_slice(bytemuck::cast_slice(&sampled));
    let of_targets = of_targets.concat();
    memory.float_mut(target_logprobs)[..of_targets.len()].copy_from_slice(&of_targets);
    StepOutput { sampled, target_logprobs: of_targets }
}

/// Chooses one row's token, and reports its targets.
fn sample(
    logits: &[f32],
    how: &SampleRow,
    adjustments: &[Adjustment],
    mask: Option<&[u32]>,
    targets: &[u32],
) -> (Sampled, Vec<f32>) {
    let (greatest, total) = normalizer(logits);
    let log_total = total.ln();
    let logprob =
        |token: usize| if total.is_finite() { logits[token] - greatest - log_total } else { f32::NAN };
    let mut sampled = Sampled {
        token: 0,
        logprob: f32::NAN,
        top_tokens: [0; MAX_LOGPROBS],
        top_logprobs: [0.0; MAX_LOGPROBS],
    };
    for (i, token) in top(logits, how.logprobs as usize).into_iter().enumerate() {
        sampled.top_tokens[i] = token;
        sampled.top_logprobs[i] = logprob(token as usize);
    }
    sampled.token = if how.target != NONE {
        how.target
    } else if adjustments.is_empty() && mask.is_none() {
        choose(logits, greatest, how)
    } else {
        let mut changed = logits.to_vec();
        adjust(&mut changed, adjustments, mask);
        let greatest = math::max(&changed);
        choose(&changed, greatest, how)
    };
    sampled.logprob = logprob(sampled.token as usize);
    (sampled, targets.iter().map(|&target| logprob(target as usize)).collect())
}

/// The maximum logit and the sum of exponentials relative to it; not finite if any logit is not.
fn normalizer(logits: &[f32]) -> (f32, f32) {
    vectorized(
        #[inline(always)]
        || {
            let greatest = math::max(logits);
            // A logit that is not finite gives NaN times zero, and so a NaN sum.
            let total = math::sum(logits.len(), |i| math::exp(logits[i] - greatest) + logits[i] * 0.0);
            (greatest, total)
        },
    )
}

/// The `n` highest, highest first; of equal ones the lower id first.
fn top(logits: &[f32], n: usize) -> Vec<u32> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let better = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.select_nth_unstable_by(n - 1, better);
    ids.truncate(n);
    ids.sort_unstable_by(better);
    ids
}

fn adjust(logits: &mut [f32], adjustments: &[Adjustment], mask: Option<&[u32]>) {
    for a in adjustments {
        let logit = &mut logits[a.token as usize];
        *logit = if *logit > 0.0 { *logit / a.repetition } else { *logit * a.repetition } + a.bias;
    }
    if let Some(mask) = mask {
        for (i, logit) in logits.iter_mut().enumerate() {
            if mask[i / 32] >> (i % 32) & 1 == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

fn choose(logits: &[f32], greatest: f32, how: &SampleRow) -> u32 {
    if how.temperature == 0.0 {
        return logits.iter().position(|&l| l == greatest).unwrap_or(0) as u32;
    }
    let mut weights = vec![0.0; logits.len()];
    vectorized(
        #[inline(always)]
        || {
            let scale = 1.0 / how.temperature;
            for (w, &l) in weights.iter_mut().zip(logits) {
                *w = math::exp((l - greatest) * scale);
            }
        },
    );
    keep_top_k(&mut weights, how.top_k as usize);
    keep_top_p(&mut weights, how.top_p);
    if how.min_p > 0.0 {
        weights.iter_mut().for_each(|w| *w = if *w >= how.min_p { *w } else { 0.0 });
    }
    draw(&weights, uniform(how.key_lo, how.key_hi, how.position))
}

/// Zeroes weights below the k-th highest.
fn keep_top_k(weights: &mut [f32], k: usize) {
    if k == 0 || k >= weights.len() {
        return;
    }
    let mut sorted = weights.to_vec();
    let (_, &mut least, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    weights.iter_mut().for_each(|w| *w = if *w >= least { *w } else { 0.0 });
}

/// Zeroes weights outside the most likely tokens of mass `p`.
fn keep_top_p(weights: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let total = math::sum(weights.len(), |i| weights[i]);
    // All weights up to this one have less than the rest of the mass together, so none is kept.
    let negligible = (1.0 - p) * total / weights.len() as f32 * 0.5;
    let mut sorted: Vec<f32> = weights.iter().copied().filter(|&w| w > negligible).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut before = 0.0;
    let mut least = f32::INFINITY;
    for w in sorted {
        if before >= p * total {
            break;
        }
        least = w;
        before += w;
    }
    weights.iter_mut().for_each(|w| *w = if *w >= least { *w } else { 0.0 });
}

/// The first token at which the running sum exceeds `u` times the total.
fn draw(weights: &[f32], u: f32) -> u32 {
    let goal = u * weights.iter().sum::<f32>();
    let mut running = 0.0;
    let passes = |&w: &f32| {
        running += w;
        w > 0.0 && running > goal
    };
    let last = || weights.iter().rposition(|&w| w > 0.0).unwrap_or(0);
    weights.iter().position(passes).unwrap_or_else(last) as u32
}
