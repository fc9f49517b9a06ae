// A weight of a Linear or Embed: see blocks.rs for how it lies.

// The format of the weight: F32, F16 or BF16.
override FORMAT: u32;

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;

// 8 columns of one row.
struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Where the first 8 columns of a row are, with `units` runs of 8 columns in a row; the next 8 are 64 on.
fn place_of(row: u32, units: u32) -> u32 {
    return (row / 64u) * units * 64u + row % 64u;
}

// Widens 8 columns.
fn widen(place: u32) -> Eight {
    if (FORMAT == F32) {
        // The low halves of all 64 rows come before the high ones.
        let first = (place / 64u) * 128u + place % 64u;
        return Eight(bitcast<vec4<f32>>(weight[first]), bitcast<vec4<f32>>(weight[first + 64u]));
    }
    let words = weight[place];
    return Eight(
        vec4(widen_two(words.x, FORMAT), widen_two(words.y, FORMAT)),
        vec4(widen_two(words.z, FORMAT), widen_two(words.w, FORMAT)),
    );
}

