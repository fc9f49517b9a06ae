//! Where the time of one step goes, op by op.

use super::Engine;
use crate::buffer::{BufferKind, Rows};
use crate::device::DeviceError;
use crate::error::EngineError;
use crate::op::{Cost, Op};
use crate::step::{SampleRow, Step};
use std::ops::Range;
use std::time::{Duration, Instant};

/// The shape of a step to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepShape {
    /// Tokens of the step, shared out evenly over its sequences; at least one each.
    pub tokens: usize,
    /// Sequences of the step, each of which gets a token sampled.
    pub seqs: usize,
    /// The length of each sequence after the step.
    pub context: usize,
}

/// The times of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTimes {
    /// The step as a job runs it, from its submission to its result.
    pub step: Duration,
    /// Its ops by kind and shape, those that take longest first.
    pub ops: Vec<OpsTime>,
}

/// The ops of one kind and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct OpsTime {
    /// The kind, and of a Linear its input and output columns; where a device runs neighbours together, all of them.
    pub name: String,
    /// How many there are in the step.
    pub count: usize,
    /// What all of them took.
    pub time: Duration,
    /// What all of them move and compute.
    pub cost: Cost,
}

impl Engine {
    /// Runs a step of a shape and measures it: the median of `runs` runs, after one that only warms up. The engine must
    /// be idle; what its pages hold is lost.
    ///
    /// # Errors
    /// [`EngineError::Option`] if the step does not fit; [`EngineError::Device`].
    pub fn time_step(&mut self, shape: StepShape, runs: usize) -> Result<StepTimes, EngineError> {
        let (step, took) = self.time_whole_step(shape, runs)?;
        let timed = (0..runs.max(1)).map(|_| self.device.time_ops(self.compiled, &step));
        let timed = timed.collect::<Result<Vec<_>, DeviceError>>()?;
        let dims = crate::buffer::Dims { pages: self.max_dims.pages, ..step.dims() };
        let mut ops: Vec<OpsTime> = Vec::new();
        for (i, first) in timed[0].iter().enumerate() {
            let mut times: Vec<Duration> = timed.iter().map(|run| run[i].time).collect();
            let (name, time) = (self.name(first.ops.clone()), median(&mut times));
            let costs = self.plan.ops[first.ops.clone()].iter().map(|op| op.cost(&self.plan.buffers, &dims));
            let cost = costs.fold(Cost::default(), add);
            match ops.iter_mut().find(|ops| ops.name == name) {
                Some(ops) => {
                    ops.count += 1;
                    ops.time += time;
                    ops.cost = add(ops.cost, cost);
                }
                None => ops.push(OpsTime { name, count: 1, time, cost }),
            }
        }
        ops.sort_by_key(|ops| std::cmp::Reverse(ops.time));
        Ok(StepTimes { step: took, ops })
    }

    /// The step of a shape, and what it takes as a whole: the median of `runs` runs, after one that only warms up.
    pub(super) fn time_whole_step(
        &mut self,
        shape: StepShape,
        runs: usize,
    ) -> Result<(Step, Duration), EngineError> {
        self.check_shape(shape)?;
        self.scheduler.forget_pages();
        let step = self.step_of(shape);
        self.clear_pages(shape)?;
        let mut run = || {
            let start = Instant::now();
            let ticket = self.device.submit(self.compiled, &step)?;
            self.device.wait(ticket)?;
            Ok(start.elapsed())
        };
        run()?;
        let mut steps = (0..runs.max(1)).map(|_| run()).collect::<Result<Vec<_>, DeviceError>>()?;
        Ok((step, median(&mut steps)))
    }

    fn check_shape(&self, shape: StepShape) -> Result<(), EngineError> {
        let StepShape { tokens, seqs, context } = shape;
        let bad = |field, why| Err(EngineError::Option { field, why });
        if !self.is_idle() {
            return bad("step", "the engine has requests; time it when it is idle".into());
        }
        if seqs == 0 || seqs > self.limits.seqs {
            return bad("seqs", format!("{seqs} is not from 1 to {}", self.limits.seqs));
        }
        if tokens < seqs || tokens > self.limits.tokens {
            return bad(
                "tokens",
                format!("{tokens} is not from {seqs} (the sequences) to {}", self.limits.tokens),
            );
        }
        let longest = tokens.div_ceil(seqs);
        if context < longest || context > self.limits.max_len {
            let max = self.limits.max_len;
            return bad(
                "context",
                format!("{context} is not from {longest} (tokens of a sequence) to {max}"),
            );
        }
        let pages = seqs * context.div_ceil(self.limits.page_size);
        if pages > self.pages() {
            return bad(
                "context",
                format!("{seqs} sequences of {context} need {pages} KV pages; there are {}", self.pages()),
            );
        }
        Ok(())
    }

    /// A step of greedy rows, whose tokens go through the vocabulary.
    fn step_of(&self, shape: StepShape) -> Step {
        let (page_size, pages_per_seq) = (self.max_dims.page_size, self.max_dims.pages_per_seq);
        let mask_words = self.vocab.div_ceil(32);
        let mut step = Step { page_size, pages_per_seq, mask_words, query_start: vec![0], ..Step::default() };
        let pages = shape.context.div_ceil(page_size);
        for s in 0..shape.seqs {
            let len = shape.tokens / shape.seqs + usize::from(s < shape.tokens % shape.seqs);
            for position in shape.context - len..shape.context {
                step.tokens.push((step.tokens.len() * 7919 % self.vocab) as u32);
                step.positions.push(position as u32);
                step.kv_slots.push((s * pages * page_size + position) as u32);
            }
            step.query_start.push(step.tokens.len() as u32);
            step.block_tables.extend((s * pages..(s + 1) * pages).map(|page| page as u32));
            step.block_tables.extend(std::iter::repeat_n(0, pages_per_seq - pages));
            step.output_rows.push(step.tokens.len() as u32 - 1);
            step.sampling.push(SampleRow { seq_slot: s as u32, ..SampleRow::greedy() });
        }
        step
    }

    /// Writes zeros to the keys and values before the step's: what is not written may be anything.
    fn clear_pages(&mut self, shape: StepShape) -> Result<(), EngineError> {
        const BYTES: usize = 8 << 20;
        let slots = shape.seqs * shape.context.next_multiple_of(self.max_dims.page_size);
        let pages = self.plan.iter().filter(|(_, desc)| desc.kind == BufferKind::KvPage);
        for (id, desc) in pages {
            debug_assert_eq!(desc.rows, Rows::KvSlots);
            let rows = (BYTES / desc.row_bytes()).max(1);
            for first in (0..slots).step_by(rows) {
                let zeros = vec![0; rows.min(slots - first) * desc.row_bytes()];
                self.device.write(self.compiled, id, first, &zeros)?;
            }
        }
        Ok(())
    }

    fn name(&self, ops: Range<usize>) -> String {
        let name = |op: &Op| match op {
            Op::Linear(op) => format!("Linear {} x {}", op.x.cols, op.out.cols),
            op => op.name().to_owned(),
        };
        self.plan.ops[ops].iter().map(name).collect::<Vec<_>>().join(" + ")
    }
}

fn add(a: Cost, b: Cost) -> Cost {
    Cost { bytes: a.bytes + b.bytes, flops: a.flops + b.flops, fp8_flops: a.fp8_flops + b.fp8_flops }
}

/// The middle one; of an even number the greater of the two.
fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
