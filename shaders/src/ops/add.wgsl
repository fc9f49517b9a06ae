// out = a + b, element by element. The output may be either operand.

struct Params {
    rows: u32,
    cols: u32,
    a: View,
    b: View,
    out: View,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    let row = i / p.cols;
    let col = i % p.cols;
    if (row >= p.rows) { return; }
    out[place(p.out, row, col)] = a[place(p.a, row, col)] + b[place(p.b, row, col)];
}
