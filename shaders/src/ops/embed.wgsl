// out[t] = table[token[t]] * SCALE, where a token with its top bit set stands for the last token of a slot.
//
// The table lies as the weights of a Linear do (see blocks.rs), since a model may use it as both. A
// dispatch serves one shard of it: rows first .. first + count.

// 1 leaves every bit as it is.
override SCALE: f32;

struct Params {
    rows: u32,
    cols: u32,
    // Runs of 8 columns in a row of the table, with its padding.
    units: u32,
    first: u32,
    count: u32,
    out: View,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> last: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    let used = (p.cols + 7u) / 8u;
    let row = i / used;
    let unit = i % used;
    if (row >= p.rows) { return; }
    var token = tokens[row];
    if ((token & 0x80000000u) != 0u) { token = last[token & 0x7fffffffu]; }
    // Below `first` the difference wraps and is not less than `count` either.
    let n = token - p.first;
    if (n >= p.count) { return; }

    var v = widen(weight_at(n, p.units) + unit * 64u);
    if (SCALE != 1.0) { v = Eight(v.low * SCALE, v.high * SCALE); }
    let first = place(p.out, row, unit * 8u);
    let left = min(p.cols - unit * 8u, 8u);
    for (var c = 0u; c < min(left, 4u); c++) { out[first + c] = v.low[c]; }
    for (var c = 4u; c < left; c++) { out[first + c] = v.high[c - 4u]; }
}
