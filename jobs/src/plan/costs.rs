//! What is left of a job would take: time, energy, money, from least to most.
//!
//! A step of `n` tokens takes some time by itself and some for each token. Of all steps together only two sums count then:
//! how many steps there are, and how many tokens. What they take is reckoned by the costs of the plan's ops at the rates of
//! the device or, once rows of the job have run, by the share of these rates that its steps have reached.

use crate::journal::costs::Start;
use crate::options::prices::PriceOptions;
use crate::plan::sample::Estimate;
use crate::rates::Rates;
use crate::receipt::money::amount;
use engine::StepLoad;
use serde::Serialize;

/// Of a figure: the least, the most, and what lies between, where that can be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bounds {
    pub least: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<f64>,
    pub most: f64,
}

impl Bounds {
    /// All of it so many times.
    pub fn times(self, by: f64) -> Bounds {
        let Bounds { least, expected, most } = self;
        Bounds { least: least * by, expected: expected.map(|expected| expected * by), most: most * by }
    }

    /// All of it so much more.
    pub fn plus(self, more: f64) -> Bounds {
        self.and(Bounds::exactly(more))
    }

    /// Both together.
    pub fn and(self, other: Bounds) -> Bounds {
        Bounds {
            least: self.least + other.least,
            expected: self.expected.zip(other.expected).map(|(a, b)| a + b),
            most: self.most + other.most,
        }
    }

    /// What is known.
    pub fn exactly(value: f64) -> Bounds {
        Bounds { least: value, expected: Some(value), most: value }
    }

    /// What is expected, or the most where that cannot be said.
    fn expected_or_most(self) -> f64 {
        self.expected.unwrap_or(self.most)
    }

    /// An estimate with its error; without one it says nothing of the bounds.
    pub fn of(estimate: Estimate, greatest: f64) -> Bounds {
        let Estimate { value, error } = estimate;
        let (least, most) = match error {
            Some(error) => ((value - error).max(0.0), (value + error).min(greatest.max(value))),
            None => (0.0, greatest),
        };
        Bounds { least, expected: Some(value), most }
    }
}

/// What is left for the engine to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Left {
    /// Requests that it runs, and positions of their prompts and branches that it computes.
    pub requests: f64,
    pub positions: Bounds,
    /// Tokens of a mean prompt, found in cached pages or not.
    pub prompt_tokens: f64,
    /// Tokens that it generates, and those of the longest answer.
    pub generated: Bounds,
    pub longest: f64,
    /// Requests that run at once.
    pub at_once: f64,
}

/// What steps of the job have taken so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub steps: f64,
    pub tokens: f64,
    pub seconds: f64,
    /// What they would have taken at the rates of the device, and when these were measured.
    pub bound: Option<(f64, u64)>,
    /// Of a start, besides its steps: loading, and the rest.
    pub beside: f64,
    /// Mean power, if energy is measured, and of what; else why not.
    pub watts: Option<f64>,
    pub energy: String,
}

/// What all starts of a job have taken so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SoFar {
    pub seconds: f64,
    /// If all of them have measured it.
    pub joules: Option<f64>,
}

/// Time, energy and money.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Costs {
    pub seconds: Bounds,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules: Option<Bounds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<Bounds>,
}

/// What a job would take.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlannedCosts {
    /// Of the rows that are left.
    #[serde(flatten)]
    pub left: Costs,
    /// Of all rows, with what those have taken that were answered, if any were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whole: Option<Costs>,
    /// What was measured of the energy, or why it is not known.
    pub energy: String,
    /// What all tokens of the job would cost elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Bounds>,
    /// What the time of the rows that are left is reckoned by.
    pub by: String,
}

/// Steps of what is left, tokens in them, and what a mean one holds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Steps {
    steps: f64,
    tokens: f64,
    load: StepLoad,
}

impl Left {
    /// The fewest steps in which so many tokens are generated: as many requests as fit run in each, or as many tokens.
    fn steps(&self, positions: f64, generated: f64, max_tokens: f64) -> Steps {
        let tokens = positions + generated;
        let at_once = self.at_once.min(self.requests).max(1.0);
        let steps = (generated / at_once).max(tokens / max_tokens).ceil();
        let of_step = |count: f64| if steps > 0.0 { count / steps } else { 0.0 };
        let answer = generated / self.requests.max(1.0);
        let decoded = generated * (self.prompt_tokens + answer / 2.0);
        let attended = positions * self.prompt_tokens / 2.0 + decoded;
        let load = StepLoad {
            tokens: of_step(tokens),
            seqs: of_step(generated + self.requests).min(at_once),
            attended: of_step(attended),
            contexts: of_step(positions + decoded),
        };
        Steps { steps, tokens, load }
    }

    /// The same with the steps at the end, where fewer and fewer requests run: at most as many as the longest answer has
    /// tokens.
    fn with_end(&self, steps: Steps) -> f64 {
        let end = if steps.steps > 0.0 { self.longest } else { 0.0 };
        steps.steps + end
    }

    /// Seconds at the rates of a device: at least with all of them, at most with the shares of them that steps of the model
    /// reach and prompts and decodes in steps of their own.
    pub fn at_rates(&self, rates: &Rates, max_tokens: f64, bound: impl Fn(StepLoad) -> f64) -> Bounds {
        let least = self.steps(self.positions.least, self.generated.least, max_tokens);
        let prompts = self.steps(self.positions.most, 0.0, max_tokens);
        let decoding = self.steps(0.0, self.generated.most, max_tokens);
        let of = |steps: f64, load| if steps > 0.0 { steps * bound(load) } else { 0.0 };
        let ends = if self.generated.most > 0.0 { self.with_end(decoding) } else { 0.0 };
        let least = of(least.steps, least.load);
        let most = of(prompts.steps, prompts.load) / rates.prefill_share.min(1.0)
            + of(ends, decoding.load) / rates.decode_share.min(1.0);
        Bounds { least, expected: None, most: most.max(least) }
    }

    /// Seconds by what steps of the job have taken: at least if a step took as long whatever it holds, at most if it took as
    /// long for each token, or the other way round where its steps hold less.
    pub fn at_pace(&self, taken: &Taken, max_tokens: f64, bound: Option<impl Fn(StepLoad) -> f64>) -> Bounds {
        let (of_step, of_token) = (taken.seconds / taken.steps, taken.seconds / taken.tokens);
        let Left { positions, generated, .. } = self;
        let [least, expected, most] = [
            (positions.least, generated.least),
            (positions.expected_or_most(), generated.expected_or_most()),
            (positions.most, generated.most),
        ]
        .map(|(positions, generated)| self.steps(positions, generated, max_tokens));
        let both = |steps: f64, tokens: f64| [steps * of_step, tokens * of_token];
        let [low, high] = [both(least.steps, least.tokens), both(self.with_end(most), most.tokens)];
        let (low, high) = (low[0].min(low[1]), high[0].max(high[1]));
        let share = taken.bound.map(|(bound, _)| bound / taken.seconds).filter(|share| *share > 0.0);
        // The geometric mean of both where the device's rates are not known.
        let between = match bound.zip(share).filter(|_| expected.steps > 0.0) {
            Some((bound, share)) => expected.steps * bound(expected.load) / share,
            None => (low * high).sqrt(),
        };
        Bounds { least: low, expected: Some(between.clamp(low, high)), most: high }
    }
}

impl Taken {
    /// What all starts of a job have taken; none if none of them has computed anything.
    pub fn of(starts: &[Start]) -> Option<Taken> {
        let known: Vec<_> = starts
            .iter()
            .filter_map(|start| Some((start, start.figures.as_ref().filter(|figures| figures.steps > 0)?)))
            .collect();
        let sum = |of: fn(&crate::journal::costs::StartFigures) -> u64| {
            known.iter().map(|(_, figures)| of(figures) as f64).sum::<f64>()
        };
        let (steps, seconds) = (sum(|f| f.steps), sum(|f| f.prefill_us.saturating_add(f.decode_us)) / 1e6);
        let tokens = sum(|f| f.prefill_tokens.saturating_add(f.decode_tokens));
        if steps == 0.0 || seconds == 0.0 || tokens == 0.0 {
            return None;
        }
        let active = known.iter().map(|(start, _)| start.active_ms as f64 / 1e3).sum::<f64>();
        // Of other rates, bounds cannot be added up.
        let rates_of = known[0].1.rates_of;
        let compared =
            known.iter().all(|(_, figures)| figures.bound_us.is_some() && figures.rates_of == rates_of);
        let bound =
            || sum(|f| f.bound_us.map_or(0, |[prefill, decode]| prefill.saturating_add(decode))) / 1e6;
        let bound = rates_of.filter(|_| compared).map(|rates_of| (bound(), rates_of));
        let energies: Option<Vec<_>> = known.iter().map(|(_, figures)| figures.energy.as_ref()).collect();
        let microjoules =
            energies.as_ref().map(|all| all.iter().map(|energy| energy.microjoules as f64).sum::<f64>());
        let energy = match energies.as_ref().and_then(|all| all.last()) {
            Some(energy) => energy.source.clone(),
            None => {
                let why = known.iter().find_map(|(_, figures)| figures.no_energy.clone());
                format!("not measured: {}", why.unwrap_or_default())
            }
        };
        Some(Taken {
            steps,
            tokens,
            seconds,
            bound,
            beside: (active - seconds).max(0.0) / known.len() as f64,
            watts: microjoules.filter(|_| active > 0.0).map(|all| all / 1e6 / active),
            energy,
        })
    }
}

impl SoFar {
    /// Of all starts of a job; none if nothing has run.
    pub fn of(starts: &[Start]) -> Option<SoFar> {
        let seconds = starts.iter().map(|start| start.active_ms as f64 / 1e3).sum();
        let joules = |start: &Start| Some(start.figures.as_ref()?.energy.as_ref()?.microjoules as f64 / 1e6);
        let joules = starts.iter().map(joules).sum();
        (seconds > 0.0).then_some(SoFar { seconds, joules })
    }
}

impl Costs {
    fn new(seconds: Bounds, joules: Option<Bounds>, prices: &PriceOptions) -> Costs {
        Costs { seconds, joules, money: prices.price_per_hour.map(|price| seconds.times(price / 3600.0)) }
    }

    /// With what was taken before.
    fn after(&self, before: SoFar, prices: &PriceOptions) -> Costs {
        let joules = self.joules.zip(before.joules).map(|(left, before)| left.plus(before));
        Costs::new(self.seconds.plus(before.seconds), joules, prices)
    }
}

impl PlannedCosts {
    /// Of so many seconds for what is left, with tokens of prompts and of answers of the whole job.
    pub fn new(
        seconds: Bounds,
        by: String,
        (so_far, taken): (Option<SoFar>, Option<&Taken>),
        prices: &PriceOptions,
        (input, generated): (Bounds, Bounds),
    ) -> PlannedCosts {
        let unknown = "not known: power is measured as rows run (--pilot)".to_string();
        let elsewhere = prices
            .compare_price
            .map(|price| input.times(price.input).and(generated.times(price.output)).times(1e-6));
        let joules = taken.and_then(|taken| taken.watts).map(|watts| seconds.times(watts));
        let left = Costs::new(seconds, joules, prices);
        PlannedCosts {
            whole: so_far.map(|so_far| left.after(so_far, prices)),
            left,
            energy: taken.map_or(unknown, |taken| taken.energy.clone()),
            elsewhere,
            by,
        }
    }

    /// Money in one line.
    pub fn money_line(&self) -> String {
        let mut parts = vec![match self.left.money {
            Some(_) => self.of_both(|costs| costs.money, amount).unwrap_or_default(),
            None => "no price was given (--price-per-hour)".into(),
        }];
        parts.extend(
            self.elsewhere.map(|elsewhere| format!("all tokens elsewhere {}", elsewhere.text(amount))),
        );
        parts.join("; ")
    }

    /// A figure of what is left, and of all, if any rows were answered.
    pub fn of_both(
        &self,
        figure: fn(&Costs) -> Option<Bounds>,
        shown: impl Fn(f64) -> String,
    ) -> Option<String> {
        let left = figure(&self.left)?.text(&shown);
        Some(match &self.whole {
            None => left,
            Some(whole) => match figure(whole) {
                Some(whole) => {
                    format!("{left} for the rows that are left; {} for the whole job", whole.text(&shown))
                }
                None => format!("{left} for the rows that are left"),
            },
        })
    }
}

impl Bounds {
    /// `3 to 8, about 5`, with each figure as it is shown.
    pub fn text(&self, shown: impl Fn(f64) -> String) -> String {
        let (least, most) = (shown(self.least), shown(self.most));
        let range = if least == most { least } else { format!("{least} to {most}") };
        match self.expected.map(shown) {
            Some(expected) if expected != range => format!("{range}, about {expected}"),
            _ => range,
        }
    }
}

#[cfg(test)]
mod tests;
