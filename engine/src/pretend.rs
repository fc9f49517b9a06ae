//! A device that only pretends: tokens are made up, and steps take a time that is given, one behind the other. What it
//! stands idle is the host's doing. For tests and benches.

use crate::device::{ComputeTypes, Device, DeviceError, DeviceInfo, DeviceKind, PlanId, Ticket};
use crate::dtype::DType;
use crate::op::Op;
use crate::plan::{BufferId, Dims, Plan};
use crate::sample::philox;
use crate::step::{MAX_LOGPROBS, NONE, SampleRow, Sampled, Step, StepOutput};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A token that ends answers of `tests/golden/qwen3`.
const END: u32 = 379;

/// Made-up tokens of that model: one in 24 is the end; the rest are letters.
pub fn letter_or_end(word: u32) -> u32 {
    if word.is_multiple_of(24) { END } else { 32 + (word >> 8) % 90 }
}

/// What the device has done so far.
#[derive(Default)]
pub struct Work {
    /// Tokens that were sampled.
    pub sampled: AtomicU64,
    /// Microseconds that its steps took.
    pub busy: AtomicU64,
}

/// A device that remembers nothing that is written to it.
pub struct PretendDevice {
    info: DeviceInfo,
    /// Tokens of the vocabulary, which the plan says.
    vocab: usize,
    /// The token of a random word.
    token_of: fn(u32) -> u32,
    /// Of a step, and of each token in it.
    takes: (Duration, Duration),
    steps: VecDeque<PretendStep>,
    submitted: u64,
    work: Arc<Work>,
}

struct PretendStep {
    rows: Vec<SampleRow>,
    masks: Vec<u32>,
    targets: usize,
    done: Instant,
}

impl PretendDevice {
    /// A device without delay whose token is that of a hash of the row's key and position, or the next one after it that is
    /// allowed.
    pub fn new(token_of: fn(u32) -> u32) -> PretendDevice {
        let memory = 1 << 30;
        let info = DeviceInfo {
            kind: DeviceKind::Cpu,
            family: "cpu",
            name: "a device that pretends".into(),
            memory_total: memory,
            memory_free: memory,
            max_buffer: memory,
            types: vec![ComputeTypes {
                activations: DType::F32,
                kv: vec![DType::F32],
                weights: vec![DType::BF16.into(), DType::F32.into()],
            }],
            breaks_contract: None,
        };
        let takes = (Duration::ZERO, Duration::ZERO);
        PretendDevice {
            info,
            vocab: 0,
            token_of,
            takes,
            steps: VecDeque::new(),
            submitted: 0,
            work: Arc::default(),
        }
    }

    /// With steps that take a time, and more for each of their tokens.
    pub fn that_takes(self, step: Duration, token: Duration) -> PretendDevice {
        PretendDevice { takes: (step, token), ..self }
    }

    /// With memory, in bytes.
    pub fn of_memory(mut self, bytes: usize) -> PretendDevice {
        (self.info.memory_total, self.info.memory_free, self.info.max_buffer) = (bytes, bytes, bytes);
        self
    }

    /// Counting what it does where it can be watched.
    pub fn counting(self, work: Arc<Work>) -> PretendDevice {
        PretendDevice { work, ..self }
    }

    fn sampled(&self, row: &SampleRow, masks: &[u32]) -> Sampled {
        let words = self.vocab.div_ceil(32);
        let mask = (row.mask != NONE).then(|| &masks[row.mask as usize * words..][..words]);
        let allowed =
            |token: &u32| mask.is_none_or(|mask| mask[*token as usize / 32] >> (token % 32) & 1 == 1);
        let [word, ..] = philox([row.position, 0, 0, 0], [row.key_lo, row.key_hi]);
        let first = (self.token_of)(word);
        let mut all = (0..self.vocab as u32).map(|i| (first + i) % self.vocab as u32);
        let chosen = if row.target == NONE { all.find(allowed) } else { Some(row.target) };
        Sampled {
            token: chosen.unwrap_or_default(),
            logprob: -1.0,
            top_tokens: [0; MAX_LOGPROBS],
            top_logprobs: [0.0; MAX_LOGPROBS],
        }
    }
}

impl Device for PretendDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, _: &Plan, _: &Op) -> Result<(), String> {
        Ok(())
    }

    fn compile(&mut self, plan: &Plan, _: &Dims) -> Result<PlanId, DeviceError> {
        for op in &plan.ops {
            if let Op::Sample(sample) = op {
                self.vocab = sample.logits.cols;
            }
        }
        Ok(PlanId(0))
    }

    fn write(&mut self, _: PlanId, _: BufferId, _: usize, _: &[u8]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&mut self, _: PlanId, _: BufferId, _: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        Ok(Vec::new())
    }

    fn submit(&mut self, _: PlanId, step: &Step) -> Result<Ticket, DeviceError> {
        let takes = self.takes.0 + self.takes.1 * step.tokens.len() as u32;
        self.work.busy.fetch_add(takes.as_micros() as u64, Ordering::Relaxed);
        let begins = self.steps.back().map_or(Instant::now(), |last| last.done.max(Instant::now()));
        let (rows, masks, targets) = (step.sampling.clone(), step.masks.clone(), step.targets.len());
        self.steps.push_back(PretendStep { rows, masks, targets, done: begins + takes });
        self.submitted += 1;
        Ok(Ticket(self.submitted))
    }

    fn provide(&mut self, _: &Ticket, masks: &[u32]) -> Result<(), DeviceError> {
        if let Some(last) = self.steps.back_mut() {
            last.masks = masks.to_vec();
            // Masks that come after the model's ops hold the device up.
            last.done = last.done.max(Instant::now());
        }
        Ok(())
    }

    fn wait(&mut self, _: Ticket) -> Result<StepOutput, DeviceError> {
        let step = self.steps.pop_front();
        let step = step.ok_or_else(|| DeviceError::BadStep("nothing was submitted".into()))?;
        std::thread::sleep(step.done.saturating_duration_since(Instant::now()));
        let sampled: Vec<Sampled> = step.rows.iter().map(|row| self.sampled(row, &step.masks)).collect();
        self.work.sampled.fetch_add(sampled.len() as u64, Ordering::Relaxed);
        Ok(StepOutput { sampled, target_logprobs: vec![-1.0; step.targets] })
    }
}
