//! What the engine has done, for the journal to note.

use crate::journal::costs::StartFigures;
use crate::receipt::energy::EnergyMeter;
use crate::receipt::machine::{machine, peak_memory};
use engine::{Engine, Stats};
use std::time::{Duration, Instant};

/// How often the figures are noted: what a kill can cost of them.
const EVERY: Duration = Duration::from_secs(1);

/// The pause before they are noted for the second time; it doubles up to [`EVERY`].
const EARLY: Duration = Duration::from_millis(10);

/// Looks at the engine from time to time.
pub struct CostMeter {
    machine: String,
    /// When the rates were measured that steps are compared with.
    rates_of: Option<u64>,
    noted: Instant,
    pause: Duration,
    /// Or why energy is not measured.
    energy: Result<EnergyMeter, String>,
    /// What the engine had done before.
    before: Stats,
}

impl CostMeter {
    /// One that has noted nothing yet, which is to be done at once: then a start is known however early it dies.
    /// `energy` is measured from earlier on: since the journal was opened, as time is.
    pub fn begin(energy: Result<EnergyMeter, String>) -> CostMeter {
        let (noted, pause, before) = (Instant::now(), Duration::ZERO, Stats::default());
        CostMeter { machine: machine(), rates_of: None, noted, pause, energy, before }
    }

    /// One of what an engine does from now on, which has worked before.
    #[must_use]
    pub fn behind(self, engine: &Engine) -> CostMeter {
        CostMeter { before: engine.stats(), ..self }
    }

    /// What the engine has done since.
    pub fn stats(&self, engine: &Engine) -> Stats {
        engine.stats().since(&self.before)
    }

    /// One of steps that are compared with rates of this time.
    #[must_use]
    pub fn by_rates_of(self, measured: Option<u64>) -> CostMeter {
        CostMeter { rates_of: measured, ..self }
    }

    /// Whether it is time to note the figures again.
    pub fn is_due(&self) -> bool {
        self.noted.elapsed() >= self.pause
    }

    /// The figures of this start so far.
    pub fn figures(&mut self, engine: &Engine) -> StartFigures {
        self.noted = Instant::now();
        self.pause = (2 * self.pause).clamp(EARLY, EVERY);
        let stats = self.stats(engine);
        let (energy, no_energy) = match &mut self.energy {
            Ok(meter) => match meter.so_far() {
                Some(energy) => (Some(energy), None),
                None => (None, Some("a counter could not be read any more".to_string())),
            },
            Err(why) => (None, Some(why.clone())),
        };
        StartFigures {
            machine: self.machine.clone(),
            device: format!("{}: {}", engine.device().info().kind, engine.device().info().name),
            steps: stats.steps,
            prefill_tokens: stats.prefill_tokens,
            decode_tokens: stats.decode_tokens,
            cached_tokens: stats.cached_tokens,
            preemptions: stats.preemptions,
            prefill_us: stats.prefill_time.as_micros() as u64,
            decode_us: stats.decode_time.as_micros() as u64,
            bound_us: (!(stats.prefill_bound + stats.decode_bound).is_zero())
                .then(|| [stats.prefill_bound, stats.decode_bound].map(|bound| bound.as_micros() as u64)),
            rates_of: self.rates_of,
            shared_input_tokens: None,
            kv_pages: engine.pages() as u64,
            peak_kv_pages: stats.peak_pages as u64,
            peak_memory: peak_memory(),
            energy,
            no_energy,
        }
    }
}
