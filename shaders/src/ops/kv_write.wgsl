// Stores each token's key and value in its slot.
//
// A slot holds heads of `units` runs of 4 columns each; columns beyond the head are zero. A run is one
// pair of words in f16 and bf16, two pairs in f32.

// The types of the pages.
override K_FORMAT: u32;
override V_FORMAT: u32;

struct Params {
    rows: u32,
    heads: u32,
    head_dim: u32,
    units: u32,
    k: View,
    v: View,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> k: array<f32>;
@group(0) @binding(1) var<storage, read> v: array<f32>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read_write> k_pages: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> v_pages: array<vec2<u32>>;

// Rounds to nearest even; pack2x16float leaves the rounding to the driver.
fn to_f16(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if (size >= 0x47800000u) { return sign | select(0x7c00u, 0x7e00u, size > 0x7f800000u); }
    // Below 2^-14 the last place is 2^-24, which is that of 0.5 in f32.
    if (size < 0x38800000u) { return sign | (bitcast<u32>(bitcast<f32>(size) + 0.5) - 0x3f000000u); }
    return sign | ((size + 0xfffu + ((size >> 13u) & 1u) - 0x38000000u) >> 13u);
}

fn to_bf16(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

fn narrow_two(a: f32, b: f32, format: u32) -> u32 {
    if (format == F16) { return to_f16(a) | (to_f16(b) << 16u); }
    return to_bf16(a) | (to_bf16(b) << 16u);
}

fn narrow(v: vec4<f32>, format: u32) -> vec2<u32> {
    return vec2(narrow_two(v.x, v.y, format), narrow_two(v.z, v.w, format));
}

@compute @workgroup_size(64)
fn main(at: Invocation) {
    let i = index_of(at);
    let units = p.heads * p.units;
    let row = i / units;
    if (row >= p.rows) { return; }
    let unit = i % units;
    let first = (unit % p.units) * 4u;
    let col = (unit / p.units) * p.head_dim + first;
    let left = min(p.head_dim - first, 4u);
    var key = vec4(0.0);
    var value = vec4(0.0);
    for (var c = 0u; c < left; c++) {
        key[c] = k[place(p.k, row, col + c)];
        value[c] = v[place(p.v, row, col + c)];
    }
    let run = slots[row] * units + unit;
    if (K_FORMAT == F32) {
        let words = bitcast<vec4<u32>>(key);
        k_pages[run * 2u] = words.xy;
        k_pages[run * 2u + 1u] = words.zw;
    } else {
        k_pages[run] = narrow(key, K_FORMAT);
    }
    if (V_FORMAT == F32) {
        let words = bitcast<vec4<u32>>(value);
        v_pages[run * 2u] = words.xy;
        v_pages[run * 2u + 1u] = words.zw;
    } else {
        v_pages[run] = narrow(value, V_FORMAT);
    }
}
