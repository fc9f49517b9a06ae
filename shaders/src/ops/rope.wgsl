// Rotates pairs (i, i + rotary / 2) of each head in place by the angles of the token's position.

struct Params {
    rows: u32,
    heads: u32,
    head_dim: u32,
    half: u32,
    x: View,
    table_stride: u32,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    let pairs = p.heads * p.half;
    let row = i / pairs;
    if (row >= p.rows) { return; }
    let head = (i % pairs) / p.half;
    let pair = i % p.half;
    let angle = positions[row] * p.table_stride + pair;
    let c = table[angle];
    let s = table[angle + p.half];
    let first = place(p.x, row, head * p.head_dim + pair);
    let a = x[first];
    let b = x[first + p.half];
    x[first] = fma(a, c, -(b * s));
    x[first + p.half] = fma(b, c, a * s);
}
