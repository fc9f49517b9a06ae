// x += add where there is one, then out = x / sqrt(mean(x^2) + eps) * weight over runs of `width` columns.
//
// One workgroup for a run. Lane l sums columns l, l + 64, ... in ascending order; the 64 sums meet in a
// binary tree. The order depends on the width only.

override HAS_ADD: bool;

struct Params {
    runs: u32,
    runs_per_row: u32,
    width: u32,
    x: View,
    add: View,
    out: View,
    eps: f32,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> add: array<f32>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

const LANES: u32 = 64u;

@compute @workgroup_size(LANES)
fn main(at: Invocation) {
    let run = workgroup_of(at);
    if (run >= p.runs) { return; }
    let row = run / p.runs_per_row;
    let first = (run % p.runs_per_row) * p.width;
    let x_at = place(p.x, row, first);
    let add_at = place(p.add, row, first);
    let out_at = place(p.out, row, first);

    var sum = 0.0;
    for (var c = at.lane; c < p.width; c += LANES) {
        var v = x[x_at + c];
        if (HAS_ADD) {
            v += add[add_at + c];
            x[x_at + c] = v;
        }
        sum = fma(v, v, sum);
    }
    let total = sum_floats(at.lane, sum);
    let scale = 1.0 / sqrt(total / f32(p.width) + p.eps);
    for (var c = at.lane; c < p.width; c += LANES) {
        out[out_at + c] = x[x_at + c] * scale * weight[c];
    }
}
