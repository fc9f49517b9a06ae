// out = x weight^T + bias for adapters without subgroups: the same sums as linear.wgsl, with x handed
// round through workgroup memory. Tiles of 8 rows by LANES columns.

// 0: f32, 1: f16, 2: bf16.
override FORMAT: u32;
override LANES: u32;
override HAS_BIAS: bool;

struct Params {
    rows: u32,
    first: u32,
    inner: u32,
    units: u32,
    cols: u32,
    shard: u32,
    x_stride: u32,
    x_start: u32,
    out_stride: u32,
    out_start: u32,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// 8 rows of 32 columns.
var<workgroup> tile: array<f32, 256>;

fn two(word: u32) -> vec2<f32> {
    if (FORMAT == 1u) { return unpack2x16float(word); }
    return vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

fn eight(at: u32) -> array<f32, 8> {
    if (FORMAT == 0u) {
        let first = (at / 64u) * 128u + at % 64u;
        let a = bitcast<vec4<f32>>(weight[first]);
        let b = bitcast<vec4<f32>>(weight[first + 64u]);
        return array<f32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
    }
    let words = weight[at];
    let a = two(words.x);
    let b = two(words.y);
    let c = two(words.z);
    let d = two(words.w);
    return array<f32, 8>(a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = p.first + group.x * 8u;
    let col = group.y * LANES + lane;
    let place = (col / 64u) * p.units * 64u + col % 64u;
    var sums: array<f32, 8>;
    for (var i = 0u; i < 8u; i++) { sums[i] = 0.0; }
    for (var u = 0u; u < p.units; u += 4u) {
        workgroupBarrier();
        for (var i = lane; i < 256u; i += LANES) {
            let inner = u * 8u + i % 32u;
            let at = min(row + i / 32u, p.rows - 1u) * p.x_stride + p.x_start;
            tile[i] = select(0.0, x[at + min(inner, p.inner - 1u)], inner < p.inner);
        }
        workgroupBarrier();
        for (var v = 0u; v < 4u; v++) {
            let w = eight(place + (u + v) * 64u);
            for (var i = 0u; i < 8u; i++) {
                var s = sums[i];
                for (var c = 0u; c < 8u; c++) { s = fma(tile[i * 32u + v * 8u + c], w[c], s); }
                sums[i] = s;
            }
        }
    }
    if (col < p.cols) {
        for (var i = 0u; i < 8u; i++) {
            if (row + i < p.rows) {
                var v = sums[i];
                if (HAS_BIAS) { v += bias[p.shard + col]; }
                out[(row + i) * p.out_stride + p.out_start + p.shard + col] = v;
            }
        }
    }
}
