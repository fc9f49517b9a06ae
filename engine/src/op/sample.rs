//! Sample: a token from each row of logits.

use super::checker::Checker;
use super::operation::{Cost, Operation, Sizes};
use crate::buffer::{BufferId, BufferKind, Input, Rows, View};
use crate::step::SAMPLED_WORDS;

/// Chooses a token from each row of logits; see [`crate::sample`] for the definition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// `[O, V]` f32.
    pub logits: View,
    /// `[max seqs, 1]` u32 state, written where a row has a sequence slot.
    pub last: BufferId,
    /// `[O, SAMPLED_WORDS]` u32: [`crate::step::Sampled`]s.
    pub out: BufferId,
    /// `[Targets, 1]` f32: the log-probability of each target.
    pub target_logprobs: BufferId,
}

impl Operation for Sample {
    const NAME: &'static str = "Sample";

    fn check(&self, c: &Checker) -> Result<(), String> {
        c.rows(self.logits, Rows::Outputs)?;
        c.masks(self.logits.cols)?;
        c.last_tokens(self.last)?;
        c.kind(self.out, BufferKind::StepOutput)?;
        c.ints(self.out, Rows::Outputs, SAMPLED_WORDS)?;
        c.kind(self.target_logprobs, BufferKind::StepOutput)?;
        c.plain_f32(self.target_logprobs, Rows::Targets, 1)
    }

    fn inputs(&self) -> &'static [Input] {
        &[Input::Sampling, Input::Adjustments, Input::Masks, Input::Targets]
    }

    fn reads(&self) -> Vec<View> {
        vec![self.logits]
    }

    fn writes(&self) -> Vec<View> {
        Vec::new()
    }

    fn cost(&self, s: &Sizes) -> Cost {
        Cost { bytes: s.view(self.logits), flops: 4 * s.elements(self.logits), ..Cost::default() }
    }
}

#[cfg(feature = "cases")]
pub mod cases {
    //! Cases of Sample.
    use super::*;
    use crate::cases::{Builder, Case, dims};
    use crate::dtype::DType;
    use crate::numbers::Numbers;
    use crate::step::{Adjustment, NONE, SampleRow};

    /// Sample: each row another way, over well separated logits, so that devices which round differently still
    /// agree. With `drawn`, rows draw at a temperature; without, they are greedy.
    pub fn sample(vocab: usize, drawn: bool) -> Case {
        let how = if drawn { "drawn" } else { "greedy" };
        let mut b = Builder::new(format!("Sample {vocab} {how}"), dims(8));
        let id = b.buffer("logits", BufferKind::Activation, DType::F32, Rows::Outputs, vocab);
        let values: Vec<f32> = (0..8).flat_map(|row| ladder(&mut b.numbers, vocab, row, 1, 0.5)).collect();
        b.case.writes.push((id, DType::F32.encode(&values)));
        let last = b.buffer("last", BufferKind::State, DType::U32, Rows::Fixed(8), 1);
        b.case.writes.push((last, vec![0; 32]));
        let out = b.buffer("sampled", BufferKind::StepOutput, DType::U32, Rows::Outputs, SAMPLED_WORDS);
        let best = |row: usize| {
            let logits = &values[row * vocab..][..vocab];
            (0..vocab).fold(0, |best, i| if logits[i] > logits[best] { i } else { best }) as u32
        };
        rows(&mut b, vocab, drawn, best(3), best(5));
        let reported = b.buffer("target logprobs", BufferKind::StepOutput, DType::F32, Rows::Targets, 1);
        ask(&mut b, &[(1, 3), (2, 700.min(vocab)), (5, 1), (7, 2)], vocab);
        let plan = &b.case.plan;
        let sampled = (View { buffer: out, start: 0, cols: 1 }, 8);
        let outputs = [sampled, (plan.view(last), 8), (plan.view(reported), b.case.step.targets.len())];
        let logits = plan.view(id);
        b.finish(Sample { logits, last, out, target_logprobs: reported }, &outputs)
    }

    /// Sample: rows that keep few of the likely tokens or many, over logits of which every two are equal.
    pub fn sample_filtered(vocab: usize) -> Case {
        let mut b = Builder::new(format!("Sample {vocab} filtered"), dims(8));
        let id = b.buffer("logits", BufferKind::Activation, DType::F32, Rows::Outputs, vocab);
        let values: Vec<f32> = (0..8).flat_map(|row| ladder(&mut b.numbers, vocab, row, 2, 0.04)).collect();
        b.case.writes.push((id, DType::F32.encode(&values)));
        let last = b.buffer("last", BufferKind::State, DType::U32, Rows::Fixed(8), 1);
        b.case.writes.push((last, vec![0; 32]));
        let out = b.buffer("sampled", BufferKind::StepOutput, DType::U32, Rows::Outputs, SAMPLED_WORDS);
        let reported = b.buffer("target logprobs", BufferKind::StepOutput, DType::F32, Rows::Targets, 1);
        let step = &mut b.case.step;
        step.output_rows = (0..8).collect();
        step.sampling = vec![
            SampleRow { top_k: 5, ..SampleRow::greedy() },
            SampleRow { top_k: 100, ..SampleRow::greedy() },
            SampleRow { top_p: 0.3, logprobs: 20, ..SampleRow::greedy() },
            SampleRow { top_p: 0.97, ..SampleRow::greedy() },
            SampleRow { top_k: 9, top_p: 0.5, ..SampleRow::greedy() },
            SampleRow { top_k: 90, top_p: 0.9, min_p: 0.1, ..SampleRow::greedy() },
            SampleRow { min_p: 0.4, logprobs: 3, ..SampleRow::greedy() },
            SampleRow { mask: 0, top_k: 3, top_p: 0.95, seq_slot: 5, ..SampleRow::greedy() },
        ];
        for (i, row) in step.sampling.iter_mut().enumerate() {
            row.temperature = 0.6 + 0.1 * i as f32;
            (row.key_lo, row.key_hi) = (b.numbers.bits() as u32, b.numbers.bits() as u32);
        }
        step.mask_words = vocab.div_ceil(32);
        step.masks = (0..step.mask_words as u32).map(|w| 0x8421_0001_u32.rotate_left(w)).collect();
        let plan = &b.case.plan;
        let sampled = (View { buffer: out, start: 0, cols: 1 }, 8);
        let outputs = [sampled, (plan.view(last), 8)];
        let logits = plan.view(id);
        b.finish(Sample { logits, last, out, target_logprobs: reported }, &outputs)
    }

    /// Sample: rows that only report targets; the logits of some of them are not finite.
    pub fn sample_not_finite(vocab: usize) -> Case {
        let mut b = Builder::new(format!("Sample {vocab} not finite"), dims(8));
        let id = b.buffer("logits", BufferKind::Activation, DType::F32, Rows::Outputs, vocab);
        let mut values: Vec<f32> =
            (0..4).flat_map(|row| ladder(&mut b.numbers, vocab, row, 1, 0.5)).collect();
        values[0] = f32::INFINITY;
        values[2 * vocab + vocab / 2] = f32::NAN;
        values[4 * vocab - 1] = f32::NEG_INFINITY;
        b.case.writes.push((id, DType::F32.encode(&values)));
        let last = b.buffer("last", BufferKind::State, DType::U32, Rows::Fixed(8), 1);
        b.case.writes.push((last, vec![0; 32]));
        let out = b.buffer("sampled", BufferKind::StepOutput, DType::U32, Rows::Outputs, SAMPLED_WORDS);
        let reported = b.buffer("target logprobs", BufferKind::StepOutput, DType::F32, Rows::Targets, 1);
        b.case.step.output_rows = (0..4).collect();
        b.case.step.sampling = vec![SampleRow { target: 1, ..SampleRow::greedy() }; 4];
        b.case.step.mask_words = vocab.div_ceil(32);
        ask(&mut b, &[(0, 2), (1, 5), (2, 1), (3, 3)], vocab);
        let plan = &b.case.plan;
        let sampled = (View { buffer: out, start: 0, cols: 1 }, 4);
        let outputs = [sampled, (plan.view(last), 8), (plan.view(reported), b.case.step.targets.len())];
        let logits = plan.view(id);
        b.finish(Sample { logits, last, out, target_logprobs: reported }, &outputs)
    }

    /// Gives rows of the step so many targets each; a token may be asked for twice.
    fn ask(b: &mut Builder, rows: &[(usize, usize)], vocab: usize) {
        let step = &mut b.case.step;
        for &(row, count) in rows {
            step.sampling[row].target_start = step.targets.len() as u32;
            step.sampling[row].target_len = count as u32;
            step.targets.extend((0..count).map(|_| b.numbers.below(vocab) as u32));
        }
    }

    /// Fills the step with a row of every kind; the greatest logits of two of them are adjusted.
    fn rows(b: &mut Builder, vocab: usize, drawn: bool, best_of_3: u32, best_of_5: u32) {
        let rows = [
            SampleRow { seq_slot: 3, ..SampleRow::greedy() },
            SampleRow { logprobs: 5, seq_slot: 0, ..SampleRow::greedy() },
            SampleRow { target: 7, logprobs: 20, ..SampleRow::greedy() },
            SampleRow { adjust_start: 0, adjust_len: 3, ..SampleRow::greedy() },
            SampleRow { mask: 0, seq_slot: 7, ..SampleRow::greedy() },
            SampleRow { mask: 1, adjust_start: 3, adjust_len: 1, logprobs: 1, ..SampleRow::greedy() },
            SampleRow { top_k: 3, ..SampleRow::greedy() },
            SampleRow { top_p: 0.6, min_p: 0.2, ..SampleRow::greedy() },
        ];
        let step = &mut b.case.step;
        step.output_rows = (0..8).collect();
        step.sampling = rows.to_vec();
        if drawn {
            for (i, row) in step.sampling.iter_mut().enumerate() {
                row.temperature = 0.25 + i as f32 * 0.5;
                (row.key_lo, row.key_hi) = (b.numbers.bits() as u32, b.numbers.bits() as u32);
                row.position = 11 * i as u32;
            }
        }
        let adjustment = |token, repetition, bias| Adjustment { token, repetition, bias, reserved: 0 };
        step.adjustments = vec![
            adjustment(best_of_3, 1.0, f32::NEG_INFINITY),
            adjustment((best_of_3 + 1) % vocab as u32, 1.3, 4.0),
            adjustment((best_of_3 + 2) % vocab as u32, 0.7, -4.0),
            adjustment(best_of_5, 2.0, -1.0),
        ];
        step.mask_words = vocab.div_ceil(32);
        step.masks = (0..2 * step.mask_words as u32).map(|w| 0x1357_9bdf_u32.rotate_left(w)).collect();
        debug_assert!(step.sampling.iter().all(|row| row.mask == NONE || row.mask < 2));
    }

    /// Logits in runs of equal ones, `step` apart, shuffled: no two likely ones that differ are close.
    fn ladder(numbers: &mut Numbers, vocab: usize, row: usize, run: usize, step: f32) -> Vec<f32> {
        let mut logits: Vec<f32> =
            (0..vocab).map(|i| 6.0 - step * (i / run) as f32).map(|l| l.max(-40.0)).collect();
        for i in (1..vocab).rev() {
            logits.swap(i, numbers.below(i + 1));
        }
        logits.iter().map(|l| l + row as f32).collect()
    }
}
