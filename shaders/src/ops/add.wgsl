// out = a + b, element by element. The output may be either operand.

struct Params {
    rows: u32,
    cols: u32,
    a_stride: u32,
    a_start: u32,
    b_stride: u32,
    b_start: u32,
    out_stride: u32,
    out_start: u32,
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
    out[row * p.out_stride + p.out_start + col] =
        a[row * p.a_stride + p.a_start + col] + b[row * p.b_stride + p.b_start + col];
}
