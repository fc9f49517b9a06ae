// out = x weight^T + bias for adapters without subgroups: the same sums as linear.wgsl, with x shared
// through workgroup memory. Tiles of 8 rows by LANES columns.

// 8 rows of 32 columns.
var<workgroup> tile: array<f32, 256>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = p.first + group.x * 8u;
    let col = group.y * LANES + lane;
    let first = weight_at(col, p.units);
    var sums: array<f32, 8>;
    for (var i = 0u; i < 8u; i++) { sums[i] = 0.0; }
    for (var u = 0u; u < p.units; u += 4u) {
        workgroupBarrier();
        for (var i = lane; i < 256u; i += LANES) {
            let inner = u * 8u + i % 32u;
            let at = place(p.x, min(row + i / 32u, p.rows - 1u), 0u);
            tile[i] = select(0.0, x[at + min(inner, p.inner - 1u)], inner < p.inner);
        }
        workgroupBarrier();
        for (var v = 0u; v < 4u; v++) {
            let w = widen(first + (u + v) * 64u);
            for (var i = 0u; i < 8u; i++) {
                var s = sums[i];
                for (var c = 0u; c < 4u; c++) { s = fma(tile[i * 32u + v * 8u + c], w.low[c], s); }
                for (var c = 0u; c < 4u; c++) { s = fma(tile[i * 32u + v * 8u + 4u + c], w.high[c], s); }
                sums[i] = s;
            }
        }
    }
    for (var i = 0u; i < 8u; i++) {
        if (row + i < p.rows) { store_one(row + i, col, sums[i]); }
    }
}
