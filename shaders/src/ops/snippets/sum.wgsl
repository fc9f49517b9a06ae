// The shader declares LANES, a power of two.

var<workgroup> floats: array<f32, LANES>;

// The sum of one float of each lane, for all lanes: a binary tree.
fn sum_floats(lane: u32, v: f32) -> f32 {
    workgroupBarrier();
    floats[lane] = v;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if (lane < step) { floats[lane] += floats[lane + step]; }
        workgroupBarrier();
    }
    return floats[0];
}

