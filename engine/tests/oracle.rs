//! The CPU device against plain loops in f64: the oracle's own oracle.

#![allow(clippy::unwrap_used)]

use engine::cases::{Attention, Case, Formats, cases};
use engine::cpu::CpuDevice;
use engine::device::{Device, Ticket};
use engine::dtype::DType;
use engine::format::Format;
use engine::op::{Activation, GatedMul, KvWrite, Linear, Op, PagedAttention, RmsNorm, Rope, Sample};
use engine::plan::{BufferId, View};
use engine::sample::uniform;
use engine::step::{NONE, Step, last_slot};

/// The inputs of a case as numbers.
struct Inputs<'a>(&'a Case);

impl Inputs<'_> {
    fn floats(&self, id: BufferId) -> Vec<f64> {
        let (_, bytes) = self.0.writes.iter().find(|(w, _)| *w == id).unwrap();
        let desc = self.0.plan.desc(id);
        desc.format.decode(bytes, desc.cols).into_iter().map(f64::from).collect()
    }

    fn rows(&self, view: View) -> Vec<Vec<f64>> {
        let cols = self.0.plan.desc(view.buffer).cols;
        self.floats(view.buffer).chunks(cols).map(|r| r[view.start..][..view.cols].to_vec()).collect()
    }

    fn matrix(&self, id: BufferId) -> Vec<Vec<f64>> {
        self.rows(self.0.plan.view(id))
    }
}

/// What a case of two ops should write: the second op's input is what the first one made.
fn expected_of_two(case: &Case) -> Vec<Vec<f64>> {
    let (buffer, rotated) = match case.plan.ops[0] {
        Op::Linear(op) => (op.out.buffer, false),
        Op::Rope(op) => (op.x.buffer, true),
        _ => panic!("{}: no such pair is known", case.name),
    };
    let first = expected(case);
    let (mut plan, mut writes) = (case.plan.clone(), case.writes.clone());
    plan.ops.remove(0);
    let floats: Vec<f32> = first[0].iter().map(|&v| v as f32).collect();
    writes.retain(|(id, _)| *id != buffer);
    let desc = plan.desc(buffer);
    writes.push((buffer, desc.format.encode(&floats, desc.cols)));
    let second = expected(&Case { plan, writes, ..case.clone() });
    if rotated { first.into_iter().chain(second).collect() } else { second }
}

/// What the first op should write, output by output, flattened.
fn expected(case: &Case) -> Vec<Vec<f64>> {
    let inputs = Inputs(case);
    let step = &case.step;
    let flat = |rows: Vec<Vec<f64>>| rows.concat();
    match case.plan.ops[0] {
        Op::Embed(op) => {
            let (table, last) = (inputs.matrix(op.table), inputs.floats(op.last));
            let token = |t: u32| last_slot(t).map_or(t as usize, |s| last[s as usize] as usize);
            let row = |&t: &u32| table[token(t)].iter().map(|v| v * f64::from(op.scale)).collect();
            vec![flat(step.tokens.iter().map(row).collect())]
        }
        Op::RmsNorm(RmsNorm { x, add, weight, width, eps, .. }) => {
            let mut rows = inputs.rows(x);
            if let Some(add) = add {
                for (x, add) in rows.iter_mut().zip(inputs.rows(add)) {
                    x.iter_mut().zip(add).for_each(|(x, add)| *x += add);
                }
            }
            let weight = inputs.floats(weight);
            let norm = |x: &[f64]| {
                let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let scale = 1.0 / (mean + f64::from(eps)).sqrt();
                x.iter().zip(&weight).map(|(x, w)| x * scale * w).collect::<Vec<_>>()
            };
            let out = rows.iter().flat_map(|r| r.chunks(width).flat_map(norm)).collect();
            if add.is_some() { vec![out, flat(rows)] } else { vec![out] }
        }
        Op::Linear(Linear { x, weight, bias, .. }) => {
            let weight = inputs.matrix(weight);
            let bias = bias.map_or(vec![0.0; weight.len()], |b| inputs.floats(b));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let row = |x: &Vec<f64>| weight.iter().zip(&bias).map(|(w, b)| dot(x, w) + b).collect();
            vec![flat(inputs.rows(x).iter().map(row).collect())]
        }
        Op::Rope(Rope { x, table, head_dim }) => {
            let mut rows = inputs.matrix(x.buffer);
            let table = inputs.matrix(table);
            let half = table[0].len() / 2;
            for (row, &p) in rows.iter_mut().zip(&step.positions) {
                for head in row[x.start..][..x.cols].chunks_mut(head_dim) {
                    for i in 0..half {
                        let (cos, sin) = (table[p as usize][i], table[p as usize][half + i]);
                        let (a, b) = (head[i], head[half + i]);
                        (head[i], head[half + i]) = (a * cos - b * sin, b * cos + a * sin);
                    }
                }
            }
            vec![flat(rows)]
        }
        Op::KvWrite(KvWrite { k, v, k_pages, v_pages }) => {
            let written = |pages: BufferId, rows: View| {
                let mut pages = inputs.matrix(pages);
                step.kv_slots.iter().zip(inputs.rows(rows)).for_each(|(&s, row)| pages[s as usize] = row);
                flat(pages)
            };
            vec![written(k_pages, k), written(v_pages, v)]
        }
        Op::PagedAttention(PagedAttention {
            q,
            k_pages,
            v_pages,
            head_dim: d,
            scale,
            window,
            softcap,
            ..
        }) => {
            let (q, k, v) = (inputs.rows(q), inputs.matrix(k_pages), inputs.matrix(v_pages));
            let group = q[0].len() / k[0].len();
            let mut out = Vec::new();
            for seq in 0..step.seqs() {
                let pages = &step.block_tables[seq * step.pages_per_seq..];
                let slot =
                    |p: usize| pages[p / step.page_size] as usize * step.page_size + p % step.page_size;
                for t in step.query_rows(seq) {
                    let p = step.positions[t] as usize;
                    let seen = (p + 1).saturating_sub(window.unwrap_or(usize::MAX))..p + 1;
                    for (h, q) in q[t].chunks(d).enumerate() {
                        let head = h / group * d..(h / group + 1) * d;
                        let score = |p: usize| {
                            let k = &k[slot(p)][head.clone()];
                            let score = f64::from(scale) * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                            softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                        };
                        let scores: Vec<f64> = seen.clone().map(score).collect();
                        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                        for c in head {
                            let terms = seen.clone().zip(&scores);
                            out.push(terms.map(|(p, s)| (s - most).exp() / total * v[slot(p)][c]).sum());
                        }
                    }
                }
            }
            vec![out]
        }
        Op::GatedMul(GatedMul { x, out, act }) => {
            let gate = |g: f64| match act {
                Activation::Silu => g / (1.0 + (-g).exp()),
                Activation::GeluTanh => {
                    let y = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g * g * g);
                    0.5 * g * (1.0 + y.tanh())
                }
            };
            let row = |x: &Vec<f64>| (0..out.cols).map(|i| gate(x[i]) * x[out.cols + i]).collect();
            vec![flat(inputs.rows(x).iter().map(row).collect())]
        }
        Op::Add(op) => {
            let (a, b) = (inputs.floats(op.a.buffer), inputs.floats(op.b.buffer));
            vec![a.iter().zip(b).map(|(a, b)| a + b).collect()]
        }
        Op::SoftCap(op) => {
            let cap = f64::from(op.cap);
            vec![inputs.floats(op.x.buffer).iter().map(|x| cap * (x / cap).tanh()).collect()]
        }
        Op::GatherRows(op) => {
            let x = inputs.rows(op.x);
            vec![flat(step.output_rows.iter().map(|&r| x[r as usize].clone()).collect())]
        }
        Op::Sample(Sample { logits, last, .. }) => {
            let tokens: Vec<u32> =
                inputs.rows(logits).iter().enumerate().map(|(r, l)| choose(case, r, l.clone())).collect();
            let reported = step.sampling.iter().zip(inputs.rows(logits)).flat_map(|(how, logits)| {
                let targets = &step.targets[how.target_start as usize..][..how.target_len as usize];
                let log_total = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
                let finite = logits.iter().all(|l| l.is_finite());
                let logprob = move |&t: &u32| if finite { logits[t as usize] - log_total } else { f64::NAN };
                targets.iter().map(logprob).collect::<Vec<_>>()
            });
            let reported = reported.collect();
            let mut last = inputs.floats(last);
            for (row, &token) in step.sampling.iter().zip(&tokens) {
                if row.seq_slot != NONE {
                    last[row.seq_slot as usize] = f64::from(token);
                }
            }
            vec![tokens.iter().map(|&t| f64::from(t)).collect(), last, reported]
        }
    }
}

/// Sampling by sorting, as the definition reads.
fn choose(case: &Case, r: usize, mut logits: Vec<f64>) -> u32 {
    let (step, how) = (&case.step, case.step.sampling[r]);
    if how.target != NONE {
        return how.target;
    }
    for a in &step.adjustments[how.adjust_start as usize..][..how.adjust_len as usize] {
        let l = &mut logits[a.token as usize];
        let repetition = f64::from(a.repetition);
        *l = if *l > 0.0 { *l / repetition } else { *l * repetition } + f64::from(a.bias);
    }
    if how.mask != NONE {
        let mask = &step.masks[how.mask as usize * step.mask_words..];
        let banned = (0..logits.len()).filter(|i| mask[i / 32] >> (i % 32) & 1 == 0);
        banned.for_each(|i| logits[i] = f64::NEG_INFINITY);
    }
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if how.temperature == 0.0 {
        return logits.iter().position(|&l| l == most).unwrap() as u32;
    }
    let mut weights: Vec<f64> =
        logits.iter().map(|l| ((l - most) / f64::from(how.temperature)).exp()).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    if how.top_k > 0 {
        let least = weights[order[(how.top_k as usize).min(order.len()) - 1]];
        weights.iter_mut().filter(|w| **w < least).for_each(|w| *w = 0.0);
    }
    let total: f64 = weights.iter().sum();
    let (mut before, mut least) = (0.0, f64::INFINITY);
    for &i in &order {
        if before < f64::from(how.top_p) * total {
            least = weights[i];
        }
        before += weights[i];
    }
    weights.iter_mut().filter(|w| **w < least || **w < f64::from(how.min_p)).for_each(|w| *w = 0.0);
    let goal = f64::from(uniform(how.key_lo, how.key_hi, how.position)) * weights.iter().sum::<f64>();
    let mut running = 0.0;
    let mut passes = |w: &f64| {
        running += w;
        *w > 0.0 && running > goal
    };
    weights.iter().position(&mut passes).unwrap() as u32
}

/// The e4m3 element nearest to a value, of two the one whose last bit is 0: by looking at all of them.
fn nearest_e4m3(value: f64) -> f64 {
    let element = |bits: u32| {
        let (exponent, fraction) = ((bits >> 3).cast_signed(), f64::from(bits & 7) / 8.0);
        if exponent == 0 {
            fraction * 2.0_f64.powi(-6)
        } else {
            (1.0 + fraction) * 2.0_f64.powi(exponent - 7)
        }
    };
    let far = |bits: u32| (element(bits) - value.abs().min(448.0)).abs();
    let nearest = (0..127).min_by(|&a, &b| far(a).total_cmp(&far(b)).then((a % 2).cmp(&(b % 2))));
    if value.is_nan() { value } else { element(nearest.unwrap()).copysign(value) }
}

/// The bf16 nearest to a value that is not subnormal, of two the one whose last bit is 0.
fn nearest_bf16(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let last_bit = 2.0_f64.powf(value.abs().log2().floor() - 7.0);
    (value / last_bit).round_ties_even() * last_bit
}

fn compare(case: &Case) {
    let mut device = CpuDevice::new(Some(2)).unwrap();
    let (id, output) = case.run(&mut device).unwrap();
    let got = case.read(&mut device, id).unwrap();
    let expected = if case.plan.ops.len() == 2 { expected_of_two(case) } else { expected(case) };
    for ((got, want), (view, _)) in got.iter().zip(expected).zip(&case.outputs) {
        assert_eq!(got.len(), want.len(), "{}", case.name);
        let nearest = match case.plan.desc(view.buffer).value_type() {
            DType::E4M3 => nearest_e4m3,
            DType::BF16 => nearest_bf16,
            _ => |value| value,
        };
        let want = want.into_iter().map(nearest);
        for (i, (&got, want)) in got.iter().zip(want).enumerate() {
            let error = (f64::from(got) - want).abs();
            let same = got.is_nan() && want.is_nan() || f64::from(got) == want;
            assert!(same || error <= 2e-5 * want.abs().max(1.0), "{} [{i}]: {got}, not {want}", case.name);
        }
    }
    if let Op::Sample(op) = case.plan.ops[0] {
        for (r, (sampled, logits)) in output.sampled.iter().zip(Inputs(case).rows(op.logits)).enumerate() {
            if logits.iter().any(|l| !l.is_finite()) {
                assert!(sampled.logprob.is_nan(), "{} row {r}: {}", case.name, sampled.logprob);
                continue;
            }
            let log_total = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
            let close = |got: f32, token: u32| {
                let want = logits[token as usize] - log_total;
                assert!((f64::from(got) - want).abs() < 1e-4, "{} row {r}: {got}, not {want}", case.name);
            };
            close(sampled.logprob, sampled.token);
            let top = sampled.top_tokens.iter().zip(sampled.top_logprobs).zip(&order);
            for ((&token, logprob), &want) in top.take(case.step.sampling[r].logprobs as usize) {
                assert_eq!(token, want, "{} row {r}", case.name);
                close(logprob, want);
            }
        }
    }
}

#[test]
fn every_case_in_f32() {
    cases(Formats::F32).iter().for_each(compare);
}

#[test]
fn every_case_with_bf16_weights() {
    cases(Formats { weights: DType::BF16.into(), ..Formats::F32 }).iter().for_each(compare);
}

#[test]
fn every_case_with_f16_weights() {
    cases(Formats { weights: DType::F16.into(), ..Formats::F32 }).iter().for_each(compare);
}

#[test]
fn every_case_with_q8_0_weights() {
    cases(Formats { weights: Format::Q8_0, ..Formats::F32 }).iter().for_each(compare);
}

#[test]
fn every_case_with_fp8_weights() {
    for weights in [Format::Fp8, Format::Fp8Blocks] {
        cases(Formats { weights, ..Formats::F32 }).iter().for_each(compare);
    }
}

#[test]
fn every_case_with_narrow_pages() {
    for kv in [DType::BF16, DType::E4M3] {
        cases(Formats { kv, ..Formats::F32 }).iter().for_each(compare);
    }
}

/// Narrow pages give the bits that wide pages give which hold the same values.
#[test]
fn narrow_pages_are_widened_as_they_are_read() {
    let attentions = |kv| {
        let all = cases(Formats { kv, ..Formats::F32 });
        all.into_iter().filter(|case| matches!(case.plan.ops[0], Op::PagedAttention(_)))
    };
    let both = |kv| attentions(kv).zip(attentions(DType::F32)).map(move |(narrow, wide)| (kv, narrow, wide));
    for (kv, narrow, mut wide) in [DType::BF16, DType::E4M3].into_iter().flat_map(both) {
        for ((id, to), (_, from)) in wide.writes.iter_mut().zip(&narrow.writes) {
            if narrow.plan.desc(*id).value_type() == kv {
                *to = DType::F32.encode(&kv.decode(from));
            }
        }
        let mut device = CpuDevice::new(Some(2)).unwrap();
        let mut run = |case: &Case| {
            let (id, _) = case.run(&mut device).unwrap();
            device.read(id, case.outputs[0].0.buffer, 0..case.outputs[0].1).unwrap()
        };
        assert!(run(&narrow) == run(&wide), "{kv}: {}", narrow.name);
    }
}

/// What a device says of an attention whose step is broken.
fn refusal(breaks: fn(&mut Step)) -> String {
    let case = engine::cases::attention(Formats::F32, Attention::new(4, 2, 32, 16), &[(3, 20)]);
    let mut device = CpuDevice::new(Some(1)).unwrap();
    let mut broken = case;
    breaks(&mut broken.step);
    broken.run(&mut device).unwrap_err().to_string()
}

#[test]
fn malformed_steps_are_refused() {
    let refused = |breaks, why| {
        let error = refusal(breaks);
        assert!(error.contains(why), "{error}");
    };
    refused(|step| step.block_tables[0] = 1000, "page 1000 is not below");
    refused(|step| step.positions[2] = 500, "sequence 0 needs 32 pages; its table has 3");
    refused(|step| step.query_start = vec![0, 2], "2 tokens of sequences, not 3");
    refused(|step| step.query_start[0] = 1, "do not ascend from 0");
    refused(|step| step.kv_slots[0] = 1 << 20, "KV slot 1048576 is not below");
}

#[test]
fn late_masks_come_in_turn() {
    let case = engine::cases::sample(300, false);
    let mut device = CpuDevice::new(Some(1)).unwrap();
    let (id, _) = case.run(&mut device).unwrap();
    let mut step = case.step.clone();
    let masks = std::mem::take(&mut step.masks);
    step.late_masks = 2;
    let ticket = device.submit(id, &step).unwrap();
    for error in [
        device.submit(id, &step).unwrap_err(),
        device.read(id, case.outputs[0].0.buffer, 0..1).unwrap_err(),
        device.wait(Ticket(ticket.0)).unwrap_err(),
    ] {
        assert!(error.to_string().contains("waits for its masks"), "{error}");
    }
    // What is refused leaves the step waiting.
    let fewer = device.provide(&ticket, &masks[1..]).unwrap_err().to_string();
    assert!(fewer.contains("19 words of late masks, not 20"), "{fewer}");
    let other = device.provide(&Ticket(ticket.0 + 1), &masks).unwrap_err().to_string();
    assert!(other.contains("waits for no masks"), "{other}");
    device.provide(&ticket, &masks).unwrap();
    let again = device.provide(&ticket, &masks).unwrap_err().to_string();
    assert!(again.contains("waits for no masks"), "{again}");
    device.wait(ticket).unwrap();
}
