// out[o] = x[row[o]].

struct Params {
    rows: u32,
    cols: u32,
    x: View,
    out: View,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> wanted: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    let row = i / p.cols;
    let col = i % p.cols;
    if (row >= p.rows) { return; }
    out[place(p.out, row, col)] = x[place(p.x, wanted[row], col)];
}
