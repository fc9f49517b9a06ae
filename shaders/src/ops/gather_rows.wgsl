// out[o] = x[row[o]].

struct Params {
    rows: u32,
    cols: u32,
    x_stride: u32,
    x_start: u32,
    out_stride: u32,
    out_start: u32,
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
    out[row * p.out_stride + p.out_start + col] = x[wanted[row] * p.x_stride + p.x_start + col];
}
