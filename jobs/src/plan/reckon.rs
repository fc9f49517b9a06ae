//! From counts to time, energy and money.

use crate::error::JobError;
use crate::journal::{JournalReader, schema};
use crate::options::devices::Open;
use crate::plan::Plan;
use crate::plan::costs::{Bounds, Left, PlannedCosts, SoFar, Taken};
use crate::plan::pilot::Pilot;
use crate::plan::sample::Estimate;
use crate::plan::show::number;
use crate::rates::Rates;
use crate::run::job::Job;
use engine::StepCosts;

impl Plan {
    /// Finds out what is left would take: by what the job has taken so far, or else by the rates of the device.
    pub(super) fn reckon(
        &mut self,
        job: &Job,
        pilot: Option<&[u64]>,
        open: Open<'_>,
    ) -> Result<(), JobError> {
        let state_dir = &job.options.state_dir;
        let begun = self.finished.is_some() && schema::path(state_dir).exists();
        let journal = if begun { Some(JournalReader::open(state_dir)?) } else { None };
        if let Some((journal, rows)) = journal.as_ref().zip(pilot) {
            self.pilot = Some(Pilot::of(journal, rows, self.rows)?);
        }
        let starts = journal.as_ref().map(|journal| journal.database.starts()).transpose()?;
        let starts = starts.unwrap_or_default();
        match self.costs(job, (SoFar::of(&starts), Taken::of(&starts)), open) {
            Ok(costs) => self.costs = Some(costs),
            Err(why) => self.no_costs = Some(why),
        }
        Ok(())
    }

    fn costs(
        &self,
        job: &Job,
        (so_far, taken): (Option<SoFar>, Option<Taken>),
        open: Open<'_>,
    ) -> Result<PlannedCosts, String> {
        let tokens = (self.input_tokens(job), self.all_generated(job));
        let left = self.left(job);
        let prices = &job.options.prices;
        if left.requests == 0.0 {
            let by = "the plan: no row is left that would run".to_string();
            let nothing = Bounds::exactly(0.0);
            return Ok(PlannedCosts::new(nothing, by, (so_far, taken.as_ref()), prices, tokens));
        }
        let options = &job.options.engine;
        let device = || open(options).map_err(|error| error.to_string());
        let costs = StepCosts::of(&job.model, device()?.as_ref(), &job.engine_config());
        let costs = costs.map_err(|error| error.to_string())?;
        let rates = Rates::kept_or_measured(&job.model, device()?, options);
        let rates = rates.map_err(|error| format!("the rates of the device: {error}"));
        let max_tokens = costs.max_tokens() as f64;
        let peaks = rates.as_ref().map(Rates::peaks);
        let bound = peaks.as_ref().ok().map(|peaks| |load| costs.bound(load, peaks));
        // What steps have reached is a share of the rates of then.
        let same = taken.as_ref().and_then(|taken| taken.bound).map(|(_, of)| of)
            == rates.as_ref().ok().map(|rates| rates.measured);
        let (seconds, by) = match &taken {
            Some(taken) => {
                let pace = left.at_pace(taken, max_tokens, bound.filter(|_| same));
                let steps = number(taken.steps as u64);
                (pace.plus(taken.beside), format!("what {steps} steps of the job have taken"))
            }
            None => {
                let (rates, peaks) = (rates.as_ref().map_err(String::clone)?, peaks.as_ref());
                let bound = |load| peaks.map_or(0.0, |peaks| costs.bound(load, peaks));
                let Rates { bytes_per_second, flops_per_second, prefill_share, decode_share, .. } = *rates;
                let by = format!(
                    "the device's {:.1} GB/s and {:.0} GFLOP/s, of which steps of prompts reach {:.0} %, and others {:.0} %",
                    bytes_per_second / 1e9,
                    flops_per_second / 1e9,
                    100.0 * prefill_share,
                    100.0 * decode_share
                );
                (left.at_rates(rates, max_tokens, bound), by)
            }
        };
        Ok(PlannedCosts::new(seconds, by, (so_far, taken.as_ref()), prices, tokens))
    }

    /// How many rows there are for each that was read.
    fn sampled(&self) -> f64 {
        match &self.sample {
            Some(sample) if sample.rows > 0 => self.rows as f64 / sample.rows as f64,
            _ => 1.0,
        }
    }

    /// Tokens of prompts of the whole job.
    fn input_tokens(&self, job: &Job) -> Bounds {
        let counted = match &self.sample {
            Some(sample) => Bounds::of(sample.prompt_tokens, self.most_tokens(job)),
            None => Bounds::exactly(self.prompt_tokens.sum as f64),
        };
        match (&self.documents, &self.pilot) {
            // Merges have prompts of their own.
            (Some(_), Some(pilot)) => {
                let value = pilot.input_tokens.value.max(counted.least);
                let all = Bounds::of(Estimate { value, ..pilot.input_tokens }, f64::MAX);
                // Of one row alone the pilot does not say how far off it is.
                let most = if pilot.input_tokens.error.is_some() { all.most } else { value };
                Bounds {
                    least: all.least.max(counted.least),
                    expected: Some(value),
                    most: most.max(counted.most),
                }
            }
            _ => counted,
        }
    }

    /// Tokens of answers of the whole job.
    fn all_generated(&self, job: &Job) -> Bounds {
        let (least, most) = match &self.sample {
            Some(sample) => {
                let greatest = self.most_tokens(job);
                let least = Bounds::of(sample.least_generated_tokens, greatest).least;
                (least, Bounds::of(sample.most_generated_tokens, greatest).most)
            }
            None => (self.generated_tokens.least as f64, self.generated_tokens.most as f64),
        };
        match &self.pilot {
            Some(pilot) => Bounds::of(pilot.generated_tokens, most),
            None => Bounds { least, expected: None, most },
        }
    }

    /// More tokens than all rows have where each has one request: what a sample of one row group says for certain.
    fn most_tokens(&self, job: &Job) -> f64 {
        let n = f64::from(job.sampling.n).max(1.0);
        self.rows as f64 * job.max_model_len as f64 * n
    }

    /// What is left for the engine.
    fn left(&self, job: &Job) -> Left {
        let rows = self.rows as f64;
        let left = if rows > 0.0 { (rows - self.finished.unwrap_or(0) as f64).max(0.0) / rows } else { 0.0 };
        let prompts = self.prompts as f64;
        let runs = (self.prompts - self.shared_prompts) as f64;
        let shares = if prompts > 0.0 { runs / prompts } else { 0.0 };
        let follow_ups = self.documents.map_or(0, |documents| documents.follow_ups.most) as f64;
        let requests = self.choices.filter(|_| self.documents.is_none());
        let requests = requests.map_or(runs + follow_ups, |choices| choices.requests as f64 * shares);
        let counted = self.prompt_tokens.sum as f64 * self.sampled();
        let computed = self.computed_tokens as f64 * self.sampled() * left;
        let tokens = self.input_tokens(job);
        let positions =
            if counted > 0.0 { tokens.times(computed / counted) } else { Bounds::exactly(computed) };
        let memory = self.devices.first().and_then(|device| device.memory.as_ref());
        let generates = self.generated_tokens.most > 0;
        Left {
            requests: requests * self.sampled() * left,
            positions,
            prompt_tokens: if prompts > 0.0 { self.prompt_tokens.sum as f64 / prompts } else { 0.0 },
            generated: self.all_generated(job).times(shares * left),
            longest: if generates { f64::from(job.sampling.params.max_tokens) } else { 0.0 },
            at_once: memory.map_or(1, |memory| memory.rows_at_once.p50.max(1)) as f64,
        }
    }
}
