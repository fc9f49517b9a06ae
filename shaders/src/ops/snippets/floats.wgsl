// Types in memory, as blocks.rs numbers them.
const F32: u32 = 0u;
const F16: u32 = 1u;
const BF16: u32 = 2u;

// Widens the two floats of a word.
fn widen_two(word: u32, format: u32) -> vec2<f32> {
    if (format == F16) { return unpack2x16float(word); }
    return vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

