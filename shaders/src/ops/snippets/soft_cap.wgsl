// cap * tanh(v / cap), by an exponential that cannot overflow: the accuracy of WGSL's tanh is too low.
fn soft_cap(v: f32, cap: f32) -> f32 {
    let e = exp(-2.0 * abs(v / cap));
    return sign(v) * cap * ((1.0 - e) / (1.0 + e));
}

