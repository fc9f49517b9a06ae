// Attention of each token over the KV pages of its own sequence, up to its own position.
//
// One workgroup serves one token and the query heads that share a KV head (at most 4 of them). It walks
// blocks of 32 positions that start at absolute multiples of 32, in ascending order:
//   1. lane j scores position j of the block for each head (over the head's columns in ascending order);
//   2. lane r takes head r's maximum and sum, position after position (online softmax);
//   3. lane c adds the block's values to its columns, position after position.
// So the order of every sum depends on the token's position only, and a position that the token does
// not see changes nothing.

// The types of the pages.
override K_FORMAT: u32;
override V_FORMAT: u32;
// Query heads of this workgroup: 1 to 4.
override HEADS: u32;
// Runs of 32 * 4 columns in a head: 1 to 4.
override CHUNKS: u32;
// Bounds the scores; 0 for models that do not.
override SOFTCAP: f32;

struct Params {
    tokens: u32,
    seqs: u32,
    first_token: u32,
    // Query heads to a KV head, and KV heads.
    group: u32,
    kv_heads: u32,
    head_dim: u32,
    // Runs of 4 columns in a head.
    units: u32,
    page_size: u32,
    pages_per_seq: u32,
    // The greatest number of positions that a token sees, its own among them.
    window: u32,
    q: View,
    out: View,
    scale: f32,
    // The first of this workgroup's query heads within its group.
    first_head: u32,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k_pages: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> v_pages: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> positions: array<u32>;
@group(0) @binding(4) var<storage, read> query_start: array<u32>;
@group(0) @binding(5) var<storage, read> block_tables: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

// A score that no finite score reaches: WGSL does not promise infinities.
const UNSEEN: f32 = -3.0e38;

// Heads of at most 512 columns.
var<workgroup> queries: array<vec4<f32>, 512>;
// Scores of the block's positions, then their weights: a component for each head.
var<workgroup> scores: array<vec4<f32>, 32>;
// Where the heads of the block's positions begin in the pages.
var<workgroup> places: array<u32, 32>;
var<workgroup> shrink: array<f32, 4>;
var<workgroup> total: array<f32, 4>;

fn widen_four(words: vec2<u32>, format: u32) -> vec4<f32> {
    return vec4(widen_two(words.x, format), widen_two(words.y, format));
}

fn key(unit: u32) -> vec4<f32> {
    if (K_FORMAT == F32) { return bitcast<vec4<f32>>(vec4(k_pages[unit * 2u], k_pages[unit * 2u + 1u])); }
    return widen_four(k_pages[unit], K_FORMAT);
}

fn value(unit: u32) -> vec4<f32> {
    if (V_FORMAT == F32) { return bitcast<vec4<f32>>(vec4(v_pages[unit * 2u], v_pages[unit * 2u + 1u])); }
    return widen_four(v_pages[unit], V_FORMAT);
}

// The sequence of a token: the last one that starts at or before it and is not empty.
fn sequence(token: u32) -> u32 {
    var low = 0u;
    var high = p.seqs;
    while (high - low > 1u) {
        let middle = (low + high) / 2u;
        if (query_start[middle] <= token) { low = middle; } else { high = middle; }
    }
    return low;
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = p.first_token + group.x;
    let kv_head = group.y;
    let query_head = kv_head * p.group + p.first_head;
    let position = positions[token];
    let pages = sequence(token) * p.pages_per_seq;
    let row_units = p.kv_heads * p.units;

    for (var i = lane; i < HEADS * p.units; i += 32u) {
        let first = (i % p.units) * 4u;
        let left = min(p.head_dim - first, 4u);
        let at = place(p.q, token, (query_head + i / p.units) * p.head_dim + first);
        var v = vec4(0.0);
        for (var c = 0u; c < left; c++) { v[c] = q[at + c]; }
        queries[i] = v;
    }
    workgroupBarrier();

    // Of head `lane`.
    var top = UNSEEN;
    var sum = 0.0;
    // Of columns `lane * 4 ..`, chunk by chunk and head by head.
    var acc: array<vec4<f32>, 16>;
    for (var i = 0u; i < 16u; i++) { acc[i] = vec4(0.0); }

    let low = position + 1u - min(position + 1u, p.window);
    for (var start = low / 32u * 32u; start <= position; start += 32u) {
        let seen = start + lane >= low && start + lane <= position;
        var s = vec4(0.0);
        if (seen) {
            let at = start + lane;
            let slot = block_tables[pages + at / p.page_size] * p.page_size + at % p.page_size;
            let first = slot * row_units + kv_head * p.units;
            places[lane] = first;
            for (var u = 0u; u < p.units; u++) {
                let kv = key(first + u);
                for (var r = 0u; r < HEADS; r++) {
                    let qv = queries[r * p.units + u];
                    s[r] = fma(qv.w, kv.w, fma(qv.z, kv.z, fma(qv.y, kv.y, fma(qv.x, kv.x, s[r]))));
                }
            }
        }
        s *= p.scale;
        if (SOFTCAP != 0.0) {
            for (var r = 0u; r < HEADS; r++) { s[r] = soft_cap(s[r], SOFTCAP); }
        }
        scores[lane] = select(vec4(UNSEEN), s, seen);
        workgroupBarrier();

        if (lane < HEADS) {
            var next = top;
            for (var j = 0u; j < 32u; j++) { next = max(next, scores[j][lane]); }
            let factor = exp(top - next);
            sum *= factor;
            for (var j = 0u; j < 32u; j++) {
                let visible = start + j >= low && start + j <= position;
                let weight = select(0.0, exp(scores[j][lane] - next), visible);
                sum += weight;
                scores[j][lane] = weight;
            }
            shrink[lane] = factor;
            top = next;
        }
        workgroupBarrier();

        for (var c = 0u; c < CHUNKS; c++) {
            let unit = c * 32u + lane;
            if (unit < p.units) {
                for (var r = 0u; r < HEADS; r++) { acc[c * 4u + r] *= shrink[r]; }
                for (var j = max(start, low) - start; j <= min(position - start, 31u); j++) {
                    let vv = value(places[j] + unit);
                    let weights = scores[j];
                    for (var r = 0u; r < HEADS; r++) {
                        acc[c * 4u + r] = fma(vec4(weights[r]), vv, acc[c * 4u + r]);
                    }
                }
            }
        }
        workgroupBarrier();
    }

    if (lane < HEADS) { total[lane] = sum; }
    workgroupBarrier();
    for (var c = 0u; c < CHUNKS; c++) {
        let unit = c * 32u + lane;
        if (unit < p.units) {
            for (var r = 0u; r < HEADS; r++) {
                let v = acc[c * 4u + r] / total[r];
                let at = place(p.out, token, (query_head + r) * p.head_dim + unit * 4u);
                let left = min(p.head_dim - unit * 4u, 4u);
                for (var e = 0u; e < left; e++) { out[at + e] = v[e]; }
            }
        }
    }
}
