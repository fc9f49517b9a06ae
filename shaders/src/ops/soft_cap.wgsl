// x = CAP * tanh(x / CAP), in place.

override CAP: f32;

struct Params {
    rows: u32,
    cols: u32,
    x: View,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    let row = i / p.cols;
    let col = i % p.cols;
    if (row >= p.rows) { return; }
    let first = place(p.x, row, col);
    x[first] = soft_cap(x[first], CAP);
}
