//! A case on a device, amid poison, against the same case on the oracle.

use super::Case;
use crate::cpu::CpuDevice;
use crate::device::{Device, DeviceError, PlanId};
use crate::dtype::DType;
use crate::e4m3;
use crate::plan::{BufferDesc, BufferId, BufferKind, View};
use crate::step::StepOutput;

/// A NaN that no arithmetic produces; of a two-byte type its upper half, a NaN there too.
const POISON: [u8; 4] = [0xad, 0xde, 0xc1, 0x7f];

impl Case {
    /// Runs the case on a device and on the oracle and compares what they wrote. Whatever the ops write before they
    /// read it is poisoned first; what they have no business to write must keep its bytes.
    ///
    /// `epsilon` is the relative error of one rounding of the activations, see [`super::Formats::epsilon`].
    ///
    /// # Errors
    /// The first difference, or what a device says.
    pub fn check(&self, device: &mut dyn Device, oracle: &mut CpuDevice, epsilon: f32) -> Result<(), String> {
        let what = format!("{} on {}", self.name, device.info().name);
        self.compare(device, oracle, epsilon).map_err(|why| format!("{what}: {why}"))
    }

    fn compare(&self, device: &mut dyn Device, oracle: &mut CpuDevice, epsilon: f32) -> Result<(), String> {
        let said = |e: DeviceError| e.to_string();
        let id = self.prepare(device).map_err(said)?;
        self.poison(device, id)?;
        let before = self.snapshot(device, id)?;
        let output = self.submit(device, id).map_err(said)?;
        self.outside(&before, &self.snapshot(device, id)?)?;

        let got = self.read(device, id).map_err(said)?;
        let wide = self.widened();
        let (wide_id, wide_output) = wide.run(oracle).map_err(said)?;
        let want = wide.read(oracle, wide_id).map_err(said)?;
        for (out, (got, want)) in got.iter().zip(&want).enumerate() {
            // What the oracle keeps in f32 the device rounds once, to nearest even.
            let dtype = self.plan.desc(self.outputs[out].0.buffer).value_type();
            let want = match dtype {
                // What is rounded to so few bits may have been rounded to those of activations before.
                DType::E4M3 => want.iter().map(|value| value.clamp(-e4m3::MAX, e4m3::MAX)).collect(),
                _ if dtype.is_float() => dtype.decode(&dtype.encode(want)),
                _ => want.clone(),
            };
            let step = |want: f32| if dtype == DType::E4M3 { e4m3::half_step(want) } else { 0.0 };
            let close = |got: f32, want: f32| {
                (got - want).abs() <= (1e-4 + 4.0 * epsilon) * want.abs().max(1.0) + step(want)
                    || got.is_nan() && want.is_nan()
                    || got == want
            };
            if let Some(i) = (0..want.len()).find(|&i| !close(got[i], want[i])) {
                return Err(format!("output {out}, element {i}: {}, the oracle says {}", got[i], want[i]));
            }
        }
        self.compare_samples(&output, &wide_output)
    }

    fn compare_samples(&self, got: &StepOutput, want: &StepOutput) -> Result<(), String> {
        // The buffer has been compared already: what the host is given must be what lies there.
        let target = |i: usize| (got.target_logprobs.get(i), want.target_logprobs.get(i));
        let close = |got: f32, want: f32| (got - want).abs() < 1e-4 || got.is_nan() && want.is_nan();
        for i in 0..got.target_logprobs.len().max(want.target_logprobs.len()) {
            if !matches!(target(i), (Some(&got), Some(&want)) if close(got, want)) {
                return Err(format!("target {i}: {:?}, the oracle says {:?}", target(i).0, target(i).1));
            }
        }
        for (r, (got, want)) in got.sampled.iter().zip(&want.sampled).enumerate() {
            let tops = (self.step.sampling[r].logprobs as usize).min(got.top_tokens.len());
            let same = got.token == want.token
                && close(got.logprob, want.logprob)
                && got.top_tokens[..tops] == want.top_tokens[..tops]
                && (0..tops).all(|i| close(got.top_logprobs[i], want.top_logprobs[i]));
            if !same {
                return Err(format!("row {r}: {got:?}, the oracle says {want:?}"));
            }
        }
        Ok(())
    }

    /// The same case, of the same numbers, in f32.
    fn widened(&self) -> Case {
        let mut wide = self.clone();
        for desc in wide.plan.buffers.iter_mut().filter(|desc| desc.value_type().is_float()) {
            desc.format = DType::F32.into();
        }
        for (id, bytes) in &mut wide.writes {
            let desc = self.plan.desc(*id);
            if desc.value_type().is_float() {
                *bytes = DType::F32.encode(&desc.format.decode(bytes, desc.cols));
            }
        }
        wide
    }

    /// Whether the ops write a column of a buffer before any of them reads it: what lies there does not matter.
    fn overwrites(&self, buffer: BufferId, col: usize) -> bool {
        let has = |views: Vec<View>| views.iter().any(|v| v.buffer == buffer && v.columns().contains(&col));
        let first = self.plan.ops.iter().find(|op| has(op.reads()) || has(op.writes()));
        first.is_some_and(|op| !has(op.reads()))
    }

    /// Fills with poison what the ops overwrite and what they sample into.
    fn poison(&self, device: &mut dyn Device, id: PlanId) -> Result<(), String> {
        for (buffer, desc) in self.plan.iter() {
            if !is_poisoned(desc) {
                continue;
            }
            let sampled = desc.kind == BufferKind::StepOutput;
            let poisoned: Vec<bool> =
                (0..desc.cols).map(|col| sampled || self.overwrites(buffer, col)).collect();
            let mut bytes = vec![0; desc.bytes(&self.max_dims)];
            if let Some((_, written)) = self.writes.iter().find(|(id, _)| *id == buffer) {
                bytes[..written.len()].copy_from_slice(written);
            }
            for (i, element) in bytes.chunks_exact_mut(desc.value_type().size()).enumerate() {
                if poisoned[i % desc.cols] {
                    element.copy_from_slice(poison_of(desc));
                }
            }
            device.write(id, buffer, 0, &bytes).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The bytes of all buffers but the inputs of the step, which the device fills itself.
    fn snapshot(&self, device: &mut dyn Device, id: PlanId) -> Result<Vec<Vec<u8>>, String> {
        let buffers = self.plan.iter().map(|(buffer, desc)| match desc.kind {
            BufferKind::StepInput(_) => Ok(Vec::new()),
            _ => device.read(id, buffer, 0..self.max_dims.count(desc.rows)).map_err(|e| e.to_string()),
        });
        buffers.collect()
    }

    /// Finds an element of the outputs that is still the poison, or another one that changed and should not.
    fn outside(&self, before: &[Vec<u8>], after: &[Vec<u8>]) -> Result<(), String> {
        let dims = self.step.dims();
        for (buffer, desc) in self.plan.iter() {
            // Of each column, the rows that are an output, and the rows that one op hands to the next: a device
            // that runs both as one never writes those.
            let output = |col: usize| {
                let whole = desc.kind == BufferKind::StepOutput;
                let covers = |view: &View| view.buffer == buffer && (whole || view.columns().contains(&col));
                self.outputs.iter().find(|(view, _)| covers(view)).map_or(0, |&(_, rows)| rows)
            };
            let between = |col| if self.overwrites(buffer, col) { dims.count(desc.rows) } else { 0 };
            let rows: Vec<_> = (0..desc.cols).map(|col| (output(col), between(col))).collect();
            if desc.kind == BufferKind::Weight {
                // Its elements may not lie one by one.
                if before[buffer.0] != after[buffer.0] {
                    return Err(weight_written(desc, &before[buffer.0], &after[buffer.0]));
                }
                continue;
            }
            let size = desc.value_type().size();
            let pairs = before[buffer.0].chunks(size).zip(after[buffer.0].chunks(size));
            for (element, (before, after)) in pairs.enumerate() {
                let (row, col) = (element / desc.cols, element % desc.cols);
                let (output, between) = rows[col];
                if row < output && is_poisoned(desc) && after == poison_of(desc) {
                    return Err(format!("row {row}, column {col} of {} was not written", desc.name));
                }
                if row >= output.max(between) && before != after {
                    return Err(format!("row {row}, column {col} of {} was written", desc.name));
                }
            }
        }
        Ok(())
    }
}

/// Names the first row of a weight that a device wrote.
fn weight_written(desc: &BufferDesc, before: &[u8], after: &[u8]) -> String {
    let rows = before.chunks(desc.row_bytes()).zip(after.chunks(desc.row_bytes()));
    let row = rows.take_while(|(before, after)| before == after).count();
    format!("row {row} of {} was written", desc.name)
}

/// Whether a buffer is poisoned where the ops overwrite it. KV pages hold numbers before, too.
fn is_poisoned(desc: &BufferDesc) -> bool {
    matches!(desc.kind, BufferKind::Activation | BufferKind::StepOutput)
}

/// The poison as an element of a buffer.
fn poison_of(desc: &BufferDesc) -> &'static [u8] {
    &POISON[POISON.len() - desc.value_type().size()..]
}
