//! Masks that come late change no bit, with graphs and without, and nothing else may come before them.
#![allow(clippy::unwrap_used)]

mod common;

use engine::device::{Device, DeviceError, PlanId, Ticket};
use engine::dtype::DType;
use engine::numbers::Numbers;
use engine::op::{Embed, GatherRows, Linear, Sample, SoftCap};
use engine::plan::{BufferId, BufferKind, Dims, Plan, Rows};
use engine::step::{SAMPLED_WORDS, SampleRow, Sampled, Step, from_last};
use kernels::{CudaDevice, Options};

const SEQS: usize = 5;
const VOCAB: usize = 300;
const HIDDEN: usize = 64;
const MASK_WORDS: usize = VOCAB.div_ceil(32);
const DIMS: Dims = Dims {
    tokens: 8,
    seqs: 8,
    outputs: 8,
    adjustments: 0,
    masks: 8,
    targets: 0,
    pages: 1,
    page_size: 16,
    pages_per_seq: 8,
    attended: 0,
    contexts: 0,
};

fn open(enforce_eager: bool) -> CudaDevice {
    CudaDevice::open_with(Options { enforce_eager, cache: common::cache(), ..Options::default() }).unwrap()
}

/// A model of the last token alone: embedding, head, soft cap, Sample.
fn compile(device: &mut CudaDevice) -> (PlanId, BufferId) {
    let mut plan = Plan::default();
    let last = plan.buffer("last", BufferKind::State, DType::U32, Rows::Fixed(8), 1);
    let table = plan.buffer("table", BufferKind::Weight, DType::BF16, Rows::Fixed(VOCAB), HIDDEN);
    let head = plan.buffer("head", BufferKind::Weight, DType::BF16, Rows::Fixed(VOCAB), HIDDEN);
    let hidden = plan.buffer("hidden", BufferKind::Activation, DType::BF16, Rows::Tokens, HIDDEN);
    let gathered = plan.buffer("gathered", BufferKind::Activation, DType::BF16, Rows::Outputs, HIDDEN);
    let logits = plan.buffer("logits", BufferKind::Activation, DType::F32, Rows::Outputs, VOCAB);
    let out = plan.buffer("sampled", BufferKind::StepOutput, DType::U32, Rows::Outputs, SAMPLED_WORDS);
    let target_logprobs =
        plan.buffer("target logprobs", BufferKind::StepOutput, DType::F32, Rows::Targets, 1);
    let [hidden, gathered, logits] = [hidden, gathered, logits].map(|id| plan.view(id));
    let mut push = |op: engine::op::Op| plan.push(op, DIMS.pages_per_seq, MASK_WORDS);
    push(Embed { last, table, out: hidden, scale: 8.0 }.into());
    push(GatherRows { x: hidden, out: gathered }.into());
    push(Linear { x: gathered, weight: head, bias: None, out: logits }.into());
    push(SoftCap { x: logits, cap: 30.0 }.into());
    push(Sample { logits, last, out, target_logprobs }.into());
    let id = device.compile(&plan, &DIMS).unwrap();
    let mut numbers = Numbers(11);
    for weight in [table, head] {
        let values: Vec<f32> = (0..VOCAB * HIDDEN).map(|_| numbers.float()).collect();
        device.write(id, weight, 0, &DType::BF16.encode(&values)).unwrap();
    }
    let first: Vec<u32> = (0..8).map(|slot| 31 * slot + 7).collect();
    device.write(id, last, 0, bytemuck::cast_slice(&first)).unwrap();
    (id, last)
}

/// A decode step: one token of each sequence, at this position, without its masks.
fn step(position: u32) -> Step {
    let row = |seq: usize| SampleRow {
        temperature: 0.8,
        key_lo: seq as u32,
        position,
        seq_slot: seq as u32,
        mask: seq as u32,
        logprobs: 3,
        ..SampleRow::greedy()
    };
    Step {
        tokens: (0..SEQS as u32).map(from_last).collect(),
        positions: vec![position; SEQS],
        kv_slots: vec![0; SEQS],
        query_start: (0..=SEQS as u32).collect(),
        block_tables: vec![0; SEQS * DIMS.pages_per_seq],
        pages_per_seq: DIMS.pages_per_seq,
        page_size: DIMS.page_size,
        output_rows: (0..SEQS as u32).collect(),
        sampling: (0..SEQS).map(row).collect(),
        late_masks: SEQS,
        mask_words: MASK_WORDS,
        ..Step::default()
    }
}

/// What each sequence may choose next depends on what it chose last.
fn masks(chosen: &[Sampled]) -> Vec<u32> {
    let token = |seq: usize| chosen.get(seq).map_or(seq as u32, |sampled| sampled.token);
    let allowed = |seq: usize, t: usize| (t as u32 * 5 + token(seq)) % 7 < 3;
    let word =
        |seq: usize, w: usize| (0..32).fold(0, |bits, b| bits | u32::from(allowed(seq, 32 * w + b)) << b);
    (0..SEQS).flat_map(|seq| (0..MASK_WORDS).map(move |w| word(seq, w))).collect()
}

/// Six steps with masks at hand: each is submitted when the one before it is done.
fn run_in_time(device: &mut CudaDevice) -> Vec<Vec<Sampled>> {
    let (id, _) = compile(device);
    let mut steps: Vec<Vec<Sampled>> = Vec::new();
    for position in 0..6 {
        let masks = masks(steps.last().map_or(&[], Vec::as_slice));
        let step = Step { masks, late_masks: 0, ..step(position) };
        let ticket = device.submit(id, &step).unwrap();
        steps.push(device.wait(ticket).unwrap().sampled);
    }
    steps
}

/// The same steps with late masks: each is submitted before the one before it is waited for.
fn run_late(device: &mut CudaDevice) -> Vec<Vec<Sampled>> {
    let (id, _) = compile(device);
    let mut steps: Vec<Vec<Sampled>> = Vec::new();
    let mut before: Option<Ticket> = None;
    for position in 0..6 {
        let ticket = device.submit(id, &step(position)).unwrap();
        steps.extend(before.map(|before| device.wait(before).unwrap().sampled));
        device.provide(&ticket, &masks(steps.last().map_or(&[], Vec::as_slice))).unwrap();
        before = Some(ticket);
    }
    steps.extend(before.map(|before| device.wait(before).unwrap().sampled));
    steps
}

#[test]
fn lateness_changes_no_bit() {
    let want = run_in_time(&mut open(true));
    assert_eq!(want.len(), 6);
    for (seq, sampled) in want.windows(2).flat_map(|w| (0..SEQS).map(|seq| (seq, [w[0][seq], w[1][seq]]))) {
        assert!((sampled[1].token * 5 + sampled[0].token) % 7 < 3, "sequence {seq} is not masked");
    }
    assert!(want.windows(2).any(|w| w[0] != w[1]), "all steps are alike");
    for (enforce_eager, late) in [(true, true), (false, false), (false, true)] {
        let mut device = open(enforce_eager);
        let got = if late { run_late(&mut device) } else { run_in_time(&mut device) };
        assert!(got == want, "eager {enforce_eager}, late {late}");
    }
}

/// Until the masks are there, nothing but a wait for older steps is taken; afterwards all is as if nothing had been.
#[test]
fn a_step_waits_for_its_masks() {
    let mut device = open(false);
    let (id, last) = compile(&mut device);
    let bad = |result: Result<(), DeviceError>| assert!(matches!(result, Err(DeviceError::BadStep(_))));
    let ticket = device.submit(id, &step(0)).unwrap();
    let masks = masks(&[]);
    bad(device.submit(id, &step(1)).map(drop));
    bad(device.read(id, last, 0..1).map(drop));
    bad(device.write(id, last, 0, &[0; 4]));
    bad(device.wait(Ticket(ticket.0)).map(drop));
    bad(device.provide(&ticket, &masks[1..]));
    bad(device.provide(&Ticket(ticket.0 + 1), &masks));
    device.provide(&ticket, &masks).unwrap();
    bad(device.provide(&ticket, &masks));
    let sampled = device.wait(ticket).unwrap().sampled;
    assert!(sampled == run_in_time(&mut open(false))[0]);
    let narrow = Step { mask_words: MASK_WORDS - 1, ..step(1) };
    bad(device.submit(id, &narrow).map(drop));
}
