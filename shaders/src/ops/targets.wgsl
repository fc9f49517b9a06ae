// The log-probabilities of the targets of each row of logits, as engine::sample defines them. One workgroup for a row.
//
// The sum over the vocabulary runs as that of sample.wgsl does, so that a token has the same bits in both reports.

struct Params {
    rows: u32,
    vocab: u32,
    logits: View,
}

const LANES: u32 = 256u;
const NAN_BITS: u32 = 0x7fc00000u;

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> sampling: array<Row>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> logprobs: array<u32>;

var<workgroup> broken: array<u32, LANES>;

// The maximum of one float of each lane, and whether any lane has met one that is not finite.
fn max_floats(lane: u32, v: f32, bad: u32) -> f32 {
    floats[lane] = v;
    broken[lane] = bad;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if (lane < step) {
            floats[lane] = max(floats[lane], floats[lane + step]);
            broken[lane] |= broken[lane + step];
        }
        workgroupBarrier();
    }
    return floats[0];
}

@compute @workgroup_size(LANES)
fn main(at: Invocation) {
    let row = workgroup_of(at);
    let lane = at.lane;
    if (row >= p.rows) { return; }
    let start = sampling[row].target_start;
    let count = sampling[row].target_len;
    if (count == 0u) { return; }
    let first = place(p.logits, row, 0u);

    var mine = logits[first + min(lane, p.vocab - 1u)];
    var bad = 0u;
    for (var t = lane; t < p.vocab; t += LANES) {
        let v = logits[first + t];
        bad |= u32((bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u);
        mine = max(mine, v);
    }
    let top = max_floats(lane, mine, bad);
    let not_finite = broken[0] != 0u;
    var sum = 0.0;
    for (var t = lane; t < p.vocab; t += LANES) { sum += exp(logits[first + t] - top); }
    let log_sum = log(sum_floats(lane, sum));
    for (var i = lane; i < count; i += LANES) {
        let logprob = bitcast<u32>(logits[first + targets[start + i]] - top - log_sum);
        logprobs[start + i] = select(logprob, NAN_BITS, not_finite);
    }
}
