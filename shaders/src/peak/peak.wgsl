// What an adapter reaches without any of an op's work: a plain copy, or chains of multiply-adds.

override COPY: bool;

struct Params {
    // Vectors to copy, or turns of the chains.
    count: u32,
    invocations: u32,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> from_here: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> to_here: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    if (i >= p.invocations) { return; }
    if (COPY) {
        to_here[i] = from_here[i];
        return;
    }
    let x = from_here[i];
    var a = x;
    var b = x + 1.0;
    var c = x + 2.0;
    var d = x + 3.0;
    for (var turn = 0u; turn < p.count; turn++) {
        a = fma(a, x, x);
        b = fma(b, x, x);
        c = fma(c, x, x);
        d = fma(d, x, x);
    }
    to_here[i] = a + b + c + d;
}
