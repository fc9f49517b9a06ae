// A weight of a Linear or Embed: see blocks.rs for how it lies.

// A format beside the plain types, as blocks.rs numbers it.
const Q8_0: u32 = 3u;

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
    let words = weight[at];
    return Eight(
        vec4(widen_two(words.x, FORMAT), widen_two(words.y, FORMAT)),
        vec4(widen_two(words.z, FORMAT), widen_two(words.w, FORMAT)),
    );
}

