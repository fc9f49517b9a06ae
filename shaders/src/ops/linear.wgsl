// out = x weight^T + bias, in tiles of ROWS rows by LANES * COLS columns.
//
// Every element is one chain of fma over the columns of x in ascending order, whatever the tile. A lane
// owns up to 4 columns of the output, LANES apart, and all rows of the tile. Weights lie in blocks of
// 64 rows, so that neighbouring lanes read neighbouring words (see blocks.rs). The 32 columns of x of one
// turn are held by 8 lanes of each subgroup, which broadcast them, so subgroups may have any size from 8 on.
//
// Rows come in three groups of 8, held in arrays whose loops compilers unroll; groups that ROWS leaves
// empty fall away when the pipeline is made.

// 1 to 24.
override ROWS: u32;
// 1, 2 or 4.
override COLS: u32;
// x can be read 4 columns at a time.
override ALIGNED: bool;
// x has fewer columns than a padded row of the weight.
override RAGGED: bool;

override ROWS_A: u32 = min(ROWS, 8u);
override ROWS_B: u32 = min(max(ROWS, 8u) - 8u, 8u);
override ROWS_C: u32 = min(max(ROWS, 16u) - 16u, 8u);

alias Rows = array<vec4<f32>, 8>;

// 8 columns of the weight for the 4 columns of the output that a lane owns.
struct Unit {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
    g: vec4<f32>,
    h: vec4<f32>,
}

fn unit(at: vec4<u32>) -> Unit {
    let i = widen(at.x);
    var j: Eight;
    var k: Eight;
    var l: Eight;
    if (COLS > 1u) { j = widen(at.y); }
    if (COLS > 2u) { k = widen(at.z); l = widen(at.w); }
    return Unit(
        vec4(i.low.x, j.low.x, k.low.x, l.low.x),
        vec4(i.low.y, j.low.y, k.low.y, l.low.y),
        vec4(i.low.z, j.low.z, k.low.z, l.low.z),
        vec4(i.low.w, j.low.w, k.low.w, l.low.w),
        vec4(i.high.x, j.high.x, k.high.x, l.high.x),
        vec4(i.high.y, j.high.y, k.high.y, l.high.y),
        vec4(i.high.z, j.high.z, k.high.z, l.high.z),
        vec4(i.high.w, j.high.w, k.high.w, l.high.w),
    );
}

// Loads 4 columns of x of `count` rows; rows past the end repeat the last one and are not stored.
fn load(to: ptr<function, Rows>, row: u32, count: u32, col: u32) {
    for (var i = 0u; i < count; i++) {
        let at = place(p.x, min(row + i, p.rows - 1u), 0u);
        if (RAGGED) {
            let last = p.inner - 1u;
            let v = vec4(
                x[at + min(col, last)],
                x[at + min(col + 1u, last)],
                x[at + min(col + 2u, last)],
                x[at + min(col + 3u, last)],
            );
            (*to)[i] = select(vec4(0.0), v, vec4(col) + vec4(0u, 1u, 2u, 3u) < vec4(p.inner));
        } else if (ALIGNED) {
            (*to)[i] = x4[(at + col) / 4u];
        } else {
            (*to)[i] = vec4(x[at + col], x[at + col + 1u], x[at + col + 2u], x[at + col + 3u]);
        }
    }
}

fn chain(low: vec4<f32>, high: vec4<f32>, w: Unit, sum: vec4<f32>) -> vec4<f32> {
    var s = fma(vec4(low.x), w.a, sum);
    s = fma(vec4(low.y), w.b, s);
    s = fma(vec4(low.z), w.c, s);
    s = fma(vec4(low.w), w.d, s);
    s = fma(vec4(high.x), w.e, s);
    s = fma(vec4(high.y), w.f, s);
    s = fma(vec4(high.z), w.g, s);
    return fma(vec4(high.w), w.h, s);
}

// One unit of 8 columns each; the lane that a broadcast names must be a constant.
fn first(x: ptr<function, Rows>, w: Unit, sums: ptr<function, Rows>, count: u32) {
    for (var i = 0u; i < count; i++) {
        (*sums)[i] = chain(subgroupBroadcast((*x)[i], 0u), subgroupBroadcast((*x)[i], 1u), w, (*sums)[i]);
    }
}

fn second(x: ptr<function, Rows>, w: Unit, sums: ptr<function, Rows>, count: u32) {
    for (var i = 0u; i < count; i++) {
        (*sums)[i] = chain(subgroupBroadcast((*x)[i], 2u), subgroupBroadcast((*x)[i], 3u), w, (*sums)[i]);
    }
}

fn third(x: ptr<function, Rows>, w: Unit, sums: ptr<function, Rows>, count: u32) {
    for (var i = 0u; i < count; i++) {
        (*sums)[i] = chain(subgroupBroadcast((*x)[i], 4u), subgroupBroadcast((*x)[i], 5u), w, (*sums)[i]);
    }
}

fn fourth(x: ptr<function, Rows>, w: Unit, sums: ptr<function, Rows>, count: u32) {
    for (var i = 0u; i < count; i++) {
        (*sums)[i] = chain(subgroupBroadcast((*x)[i], 6u), subgroupBroadcast((*x)[i], 7u), w, (*sums)[i]);
    }
}

fn store(sums: ptr<function, Rows>, row: u32, count: u32, col: u32) {
    for (var i = 0u; i < count; i++) {
        if (row + i < p.rows) {
            store_one(row + i, col, (*sums)[i].x);
            if (COLS > 1u) { store_one(row + i, col + LANES, (*sums)[i].y); }
            if (COLS > 2u) {
                store_one(row + i, col + 2u * LANES, (*sums)[i].z);
                store_one(row + i, col + 3u * LANES, (*sums)[i].w);
            }
        }
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
    let row = p.first + group.x * ROWS;
    let col = group.y * LANES * COLS + lane;
    // Past the end of the shard there may be no memory; what is computed there is not stored.
    let cols = min(vec4(col, col + LANES, col + 2u * LANES, col + 3u * LANES), vec4(p.cols - 1u));
    let weights = vec4(
        weight_at(cols.x, p.units),
        weight_at(cols.y, p.units),
        weight_at(cols.z, p.units),
        weight_at(cols.w, p.units),
    );

    var sums_a: Rows;
    var sums_b: Rows;
    var sums_c: Rows;
    var x_a: Rows;
    var x_b: Rows;
    var x_c: Rows;
    for (var u = 0u; u < p.units; u += 4u) {
        let inner = u * 8u + (subgroup_lane % 8u) * 4u;
        load(&x_a, row, ROWS_A, inner);
        if (ROWS_B > 0u) { load(&x_b, row + 8u, ROWS_B, inner); }
        if (ROWS_C > 0u) { load(&x_c, row + 16u, ROWS_C, inner); }

        let w0 = unit(weights + u * 64u);
        first(&x_a, w0, &sums_a, ROWS_A);
        if (ROWS_B > 0u) { first(&x_b, w0, &sums_b, ROWS_B); }
        if (ROWS_C > 0u) { first(&x_c, w0, &sums_c, ROWS_C); }

        let w1 = unit(weights + (u + 1u) * 64u);
        second(&x_a, w1, &sums_a, ROWS_A);
        if (ROWS_B > 0u) { second(&x_b, w1, &sums_b, ROWS_B); }
        if (ROWS_C > 0u) { second(&x_c, w1, &sums_c, ROWS_C); }

        let w2 = unit(weights + (u + 2u) * 64u);
        third(&x_a, w2, &sums_a, ROWS_A);
        if (ROWS_B > 0u) { third(&x_b, w2, &sums_b, ROWS_B); }
        if (ROWS_C > 0u) { third(&x_c, w2, &sums_c, ROWS_C); }

        let w3 = unit(weights + (u + 3u) * 64u);
        fourth(&x_a, w3, &sums_a, ROWS_A);
        if (ROWS_B > 0u) { fourth(&x_b, w3, &sums_b, ROWS_B); }
        if (ROWS_C > 0u) { fourth(&x_c, w3, &sums_c, ROWS_C); }
    }

    store(&sums_a, row, ROWS_A, col);
    if (ROWS_B > 0u) { store(&sums_b, row + 8u, ROWS_B, col); }
    if (ROWS_C > 0u) { store(&sums_c, row + 16u, ROWS_C, col); }
}
