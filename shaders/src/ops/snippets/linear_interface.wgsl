// What both shaders of Linear share.

override LANES: u32;
override HAS_BIAS: bool;

struct Params {
    // Rows first .. rows are served.
    rows: u32,
    first: u32,
    // Columns of x.
    inner: u32,
    // Runs of 8 columns in a row of the weight, with its padding: a multiple of 4.
    units: u32,
    // Columns of the output that this shard of the weight makes, from `shard` on.
    cols: u32,
    shard: u32,
    x: View,
    out: View,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// Stores one element of the output; lanes past the end of the shard have none.
fn store_one(row: u32, col: u32, sum: f32) {
    if (col < p.cols) {
        var v = sum;
        if (HAS_BIAS) { v += bias[p.shard + col]; }
        out[place(p.out, row, p.shard + col)] = v;
    }
}

