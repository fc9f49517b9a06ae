// A weight of a Linear or Embed: see blocks.rs for how it lies.

// Formats beside the plain types, as blocks.rs numbers them.
const Q8_0: u32 = 3u;
const FP8: u32 = 4u;

// The format of the weight.
override FORMAT: u32;

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

// 8 columns of one row.
struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Where the first 8 columns of a row are, given `units` runs of 8 columns in a row; the next 8 are 64 on.
fn weight_at(row: u32, units: u32) -> u32 {
    return (row / 64u) * units * 64u + row % 64u;
}

// The four signed bytes of a word, the lowest first.
fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

// The four e4m3 elements of a word, the lowest first; none is NaN.
fn e4m3(word: u32) -> vec4<f32> {
    let bits = (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu);
    let magnitude = bits & vec4(0x7fu);
    // The exponent's bias of f32 is greater by 120. Subnormals have no leading one: it is taken away.
    let normal = bitcast<vec4<f32>>((magnitude << vec4(20u)) + vec4(120u << 23u));
    let subnormal = bitcast<vec4<f32>>((magnitude << vec4(20u)) + vec4(121u << 23u)) - vec4(0.015625);
    let value = select(normal, subnormal, magnitude < vec4(8u));
    return select(value, -value, bits > vec4(0x7fu));
}

// Widens 8 columns of one row. A format is decoded here and nowhere else.
fn widen(at: u32) -> Eight {
    if (FORMAT == F32) {
        // The low halves of all 64 rows come before the high ones.
        let first = (at / 64u) * 128u + at % 64u;
        return Eight(bitcast<vec4<f32>>(weight[first]), bitcast<vec4<f32>>(weight[first + 64u]));
    }
    if (FORMAT == Q8_0) {
        // 64 columns of 64 rows: 4 times 16 quants of all rows, then their two scales.
        let unit = at / 64u;
        let row = at % 64u;
        let group = (unit / 8u) * 272u;
        let quants = weight[group + (unit % 8u) / 2u * 64u + row];
        let words = select(quants.xy, quants.zw, unit % 2u == 1u);
        let scales = unpack2x16float(weight[group + 256u + row / 4u][row % 4u]);
        let scale = select(scales.x, scales.y, unit % 8u >= 4u);
        return Eight(scale * signed_bytes(words.x), scale * signed_bytes(words.y));
    }
    if (FORMAT == FP8) {
        // 128 columns of 64 rows: 8 times 16 elements of all rows, then their scale.
        let unit = at / 64u;
        let row = at % 64u;
        let group = (unit / 16u) * 528u;
        let elements = weight[group + (unit % 16u) / 2u * 64u + row];
        let words = select(elements.xy, elements.zw, unit % 2u == 1u);
        let scale = bitcast<f32>(weight[group + 512u + row / 4u][row % 4u]);
        return Eight(scale * e4m3(words.x), scale * e4m3(words.y));
    }
    let words = weight[at];
    return Eight(
        vec4(widen_two(words.x, FORMAT), widen_two(words.y, FORMAT)),
        vec4(widen_two(words.z, FORMAT), widen_two(words.w, FORMAT)),
    );
}

