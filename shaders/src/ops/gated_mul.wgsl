// out = act(x[.., ..N]) * x[.., N..].

// 0: silu, 1: gelu (tanh form).
override ACTIVATION: u32;

struct Params {
    rows: u32,
    cols: u32,
    x: View,
    out: View,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

// 1 / (1 + exp(-v)); beyond 80 the exponential leaves f32 and WGSL promises nothing.
fn sigmoid(v: f32) -> f32 {
    return 1.0 / (1.0 + exp(clamp(-v, -80.0, 80.0)));
}

// tanh(v) = 2 sigmoid(2 v) - 1, so 0.5 v (1 + tanh(y)) = v sigmoid(2 y).
fn gelu(v: f32) -> f32 {
    let y = 0.7978845608 * fma(0.044715 * v * v, v, v);
    return v * sigmoid(2.0 * y);
}

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    let row = i / p.cols;
    let col = i % p.cols;
    if (row >= p.rows) { return; }
    let first = place(p.x, row, col);
    let gate = x[first];
    var g: f32;
    if (ACTIVATION == 0u) {
        g = gate * sigmoid(gate);
    } else {
        g = gelu(gate);
    }
    out[place(p.out, row, col)] = g * x[first + p.cols];
}
