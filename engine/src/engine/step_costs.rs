//! What steps cost, by the costs of a plan's ops.

use super::Engine;
use super::config::EngineConfig;
use super::layout::Layout;
use super::step_times::StepShape;
use crate::buffer::Dims;
use crate::device::{Device, Peaks};
use crate::error::EngineError;
use crate::models::Model;
use crate::plan::Plan;
use std::time::Duration;

/// The steps of a model on a device. Nothing is loaded.
pub struct StepCosts {
    plan: Plan,
    max_dims: Dims,
}

/// What is in a step, or in a mean one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepLoad {
    /// Tokens.
    pub tokens: f64,
    /// Sequences that they are of, each of which gets a token sampled.
    pub seqs: f64,
    /// Positions that the tokens attend to, summed over them.
    pub attended: f64,
    /// Positions of the sequences that they are of.
    pub contexts: f64,
}

impl StepCosts {
    /// Those of a model on a device.
    ///
    /// # Errors
    /// As [`crate::Engine::new`] for options and memory.
    pub fn of(model: &Model, device: &dyn Device, config: &EngineConfig) -> Result<StepCosts, EngineError> {
        let Layout { decoder, max_dims, .. } = Layout::new(model, device, config)?;
        Ok(StepCosts { plan: decoder.plan, max_dims })
    }

    /// Tokens of a step, at most.
    pub fn max_tokens(&self) -> usize {
        self.max_dims.tokens
    }

    /// The least seconds that a step takes at these rates: each op moves and computes, and the slower of both counts.
    pub fn bound(&self, load: StepLoad, peaks: &Peaks) -> f64 {
        let whole = |count: f64| count.ceil().max(1.0) as usize;
        let (tokens, seqs) = (whole(load.tokens), whole(load.seqs));
        let dims = Dims {
            tokens,
            seqs,
            outputs: seqs,
            adjustments: 0,
            masks: 0,
            targets: 0,
            attended: whole(load.attended),
            contexts: whole(load.contexts),
            ..self.max_dims
        };
        bound(&self.plan, &dims, peaks)
    }
}

/// The least seconds that a plan's ops take at these rates.
pub(super) fn bound(plan: &Plan, dims: &Dims, peaks: &Peaks) -> f64 {
    plan.ops.iter().map(|op| peaks.bound(&op.cost(&plan.buffers, dims))).sum()
}

impl Engine {
    /// Has [`crate::Stats`] count what the steps to come would take at these rates.
    pub fn compare_with(&mut self, peaks: Peaks) {
        self.peaks = Some(peaks);
    }

    /// The share of a device's rates that a step of a shape reaches, which is what it would take at these over the median of
    /// `runs` runs, and that median. The engine must be idle; what its pages hold is lost.
    ///
    /// # Errors
    /// As [`Engine::time_step`].
    pub fn step_share(
        &mut self,
        shape: StepShape,
        runs: usize,
        peaks: &Peaks,
    ) -> Result<(f64, Duration), EngineError> {
        let (step, took) = self.time_whole_step(shape, runs)?;
        let dims = Dims { pages: self.max_dims.pages, ..step.dims() };
        let share = bound(&self.plan, &dims, peaks) / took.max(Duration::from_nanos(1)).as_secs_f64();
        Ok((share, took))
    }
}
