// Chooses a token from each row of logits, as engine::sample defines it. One workgroup for a row.
//
// Sums over the vocabulary run lane by lane (columns l, l + 256, ... ascending, or for the draw one
// stretch of neighbours to a lane) and meet in a fixed order, so they depend on the vocabulary only.
// Changed logits are kept as keys: u32 in the order of the floats, 0 for a token that is not allowed.

struct Params {
    rows: u32,
    vocab: u32,
    logits: View,
    mask_words: u32,
    key_stride: u32,
}

struct Adjustment {
    token: u32,
    repetition: f32,
    bias: f32,
    reserved: u32,
}

const NONE: u32 = 0xffffffffu;
const LANES: u32 = 256u;
const WORDS: u32 = 42u;
const ALTERNATIVES: u32 = 20u;
const NAN_BITS: u32 = 0x7fc00000u;

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> sampling: array<Row>;
@group(0) @binding(2) var<storage, read> adjustments: array<Adjustment>;
@group(0) @binding(3) var<storage, read> masks: array<u32>;
@group(0) @binding(4) var<storage, read_write> last: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<u32>;
@group(0) @binding(6) var<storage, read_write> keys: array<u32>;

var<workgroup> ints: array<u32, LANES>;
var<workgroup> ids: array<u32, LANES>;
var<workgroup> chosen: u32;

fn key_of(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn value_of(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key ^ 0x80000000u, (key & 0x80000000u) != 0u));
}

// The sum of one integer of each lane, for all lanes.
fn sum_ints(lane: u32, v: u32) -> u32 {
    workgroupBarrier();
    ints[lane] = v;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if (lane < step) { ints[lane] += ints[lane + step]; }
        workgroupBarrier();
    }
    return ints[0];
}

struct Best {
    key: u32,
    id: u32,
}

fn better(key: u32, id: u32, than_key: u32, than_id: u32) -> bool {
    return key > than_key || (key == than_key && id < than_id);
}

// The greatest key with the lowest id among those of the lanes, for all lanes.
fn best_of(lane: u32, mine: Best) -> Best {
    workgroupBarrier();
    ints[lane] = mine.key;
    ids[lane] = mine.id;
    workgroupBarrier();
    for (var step = LANES / 2u; step > 0u; step >>= 1u) {
        if (lane < step && better(ints[lane + step], ids[lane + step], ints[lane], ids[lane])) {
            ints[lane] = ints[lane + step];
            ids[lane] = ids[lane + step];
        }
        workgroupBarrier();
    }
    return Best(ints[0], ids[0]);
}

// Philox4x32-10, first word (see engine::sample).
fn wide(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let mid = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let mid2 = (a & 0xffffu) * (b >> 16u) + (mid & 0xffffu);
    return vec2(a * b, (a >> 16u) * (b >> 16u) + (mid >> 16u) + (mid2 >> 16u));
}

fn uniform_draw(key_lo: u32, key_hi: u32, position: u32) -> f32 {
    var c = vec4(position, 0u, 0u, 0u);
    var k = vec2(key_lo, key_hi);
    for (var round = 0u; round < 10u; round++) {
        let a = wide(c.x, 0xD2511F53u);
        let b = wide(c.z, 0xCD9E8D57u);
        c = vec4(b.y ^ c.y ^ k.x, b.x, a.y ^ c.w ^ k.y, a.x);
        k += vec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return f32(c.x >> 8u) * (1.0 / 16777216.0);
}

fn allowed(mask: u32, token: u32) -> bool {
    if (mask == NONE) { return true; }
    return (masks[mask * p.mask_words + token / 32u] & (1u << (token % 32u))) != 0u;
}

// Writes the keys of the row's changed logits.
fn change(lane: u32, row: u32, logit_at: u32, key_at: u32) {
    let s = sampling[row];
    let divisor = select(s.temperature, 1.0, s.temperature == 0.0);
    for (var t = lane; t < p.vocab; t += LANES) {
        keys[key_at + t] = select(0u, key_of(logits[logit_at + t] / divisor), allowed(s.mask, t));
    }
    storageBarrier();
    workgroupBarrier();
    for (var i = lane; i < s.adjust_len; i += LANES) {
        let a = adjustments[s.adjust_start + i];
        let v = logits[logit_at + a.token];
        let changed = select(v * a.repetition, v / a.repetition, v > 0.0) + a.bias;
        let banned = bitcast<u32>(a.bias) == 0xff800000u || !allowed(s.mask, a.token);
        keys[key_at + a.token] = select(key_of(changed / divisor), 0u, banned);
    }
    storageBarrier();
    workgroupBarrier();
}

// The k-th greatest key (0 if there are fewer).
fn kth(lane: u32, key_at: u32, k: u32) -> u32 {
    var threshold = 0u;
    for (var bit = 0x80000000u; bit != 0u; bit >>= 1u) {
        let candidate = threshold | bit;
        var count = 0u;
        for (var t = lane; t < p.vocab; t += LANES) { count += u32(keys[key_at + t] >= candidate); }
        if (sum_ints(lane, count) >= k) { threshold = candidate; }
    }
    return threshold;
}

// The mass of the keys from `threshold` on.
fn mass(lane: u32, key_at: u32, threshold: u32, top: f32) -> f32 {
    var sum = 0.0;
    for (var t = lane; t < p.vocab; t += LANES) {
        let key = keys[key_at + t];
        if (key >= threshold) { sum += exp(value_of(key) - top); }
    }
    return sum_floats(lane, sum);
}

// The greatest threshold whose mass is at least `wanted`: the last key that top_p keeps.
fn nucleus(lane: u32, key_at: u32, lowest: u32, top: f32, wanted: f32) -> u32 {
    var threshold = 0u;
    for (var bit = 0x80000000u; bit != 0u; bit >>= 1u) {
        let candidate = threshold | bit;
        if (mass(lane, key_at, max(candidate, lowest), top) >= wanted) { threshold = candidate; }
    }
    return max(threshold, lowest);
}

fn weight(key: u32, threshold: u32, top: f32, min_p: f32) -> f32 {
    if (key < threshold) { return 0.0; }
    let w = exp(value_of(key) - top);
    return select(0.0, w, w >= min_p);
}

// The token at which the running sum of weights exceeds `draw` of their total.
fn draw_token(lane: u32, key_at: u32, threshold: u32, top: f32, min_p: f32, draw: f32) -> u32 {
    let stretch = (p.vocab + LANES - 1u) / LANES;
    let first = min(lane * stretch, p.vocab);
    let end = min(first + stretch, p.vocab);
    var mine = 0.0;
    for (var t = first; t < end; t++) { mine += weight(keys[key_at + t], threshold, top, min_p); }
    workgroupBarrier();
    floats[lane] = mine;
    workgroupBarrier();
    if (lane == 0u) {
        var total = 0.0;
        for (var l = 0u; l < LANES; l++) { total += floats[l]; }
        let wanted = draw * total;
        var before = 0.0;
        var run = 0.0;
        var found = LANES;
        var last_used = 0u;
        for (var l = 0u; l < LANES; l++) {
            if (floats[l] > 0.0) {
                last_used = l;
                if (found == LANES && run + floats[l] > wanted) {
                    found = l;
                    before = run;
                }
            }
            run += floats[l];
        }
        if (found == LANES) {
            found = last_used;
            before = run;
        }
        run = before;
        var token = 0u;
        for (var t = found * stretch; t < min((found + 1u) * stretch, p.vocab); t++) {
            let w = weight(keys[key_at + t], threshold, top, min_p);
            run += w;
            if (w > 0.0) {
                token = t;
                if (run > wanted && before <= wanted) { break; }
            }
        }
        chosen = token;
    }
    workgroupBarrier();
    return chosen;
}

// Steps 3 to 6 of the definition.
fn choose(lane: u32, row: u32, logit_at: u32) -> u32 {
    let s = sampling[row];
    let key_at = row * p.key_stride;
    change(lane, row, logit_at, key_at);
    var mine = Best(0u, p.vocab);
    for (var t = lane; t < p.vocab; t += LANES) {
        let key = keys[key_at + t];
        if (key > mine.key) { mine = Best(key, t); }
    }
    let best = best_of(lane, mine);
    if (best.key == 0u) { return 0u; }
    if (s.temperature == 0.0) { return best.id; }
    let top = value_of(best.key);
    var threshold = 1u;
    if (s.top_k > 0u && s.top_k < p.vocab) { threshold = max(kth(lane, key_at, s.top_k), 1u); }
    if (s.top_p < 1.0) {
        let wanted = s.top_p * mass(lane, key_at, threshold, top);
        threshold = nucleus(lane, key_at, threshold, top, wanted);
    }
    return draw_token(lane, key_at, threshold, top, s.min_p, uniform_draw(s.key_lo, s.key_hi, s.position));
}

@compute @workgroup_size(LANES)
fn main(at: Invocation) {
    let row = workgroup_of(at);
    let lane = at.lane;
    if (row >= p.rows) { return; }
    let s = sampling[row];
    let first = place(p.logits, row, 0u);
    let to = row * WORDS;

    var mine = Best(0u, p.vocab);
    var bad = 0u;
    for (var t = lane; t < p.vocab; t += LANES) {
        let v = logits[first + t];
        bad += u32((bitcast<u32>(v) & 0x7f800000u) == 0x7f800000u);
        let key = key_of(v);
        if (key > mine.key) { mine = Best(key, t); }
    }
    let broken = sum_ints(lane, bad) > 0u;
    let best = best_of(lane, mine);
    let top = value_of(best.key);
    var sum = 0.0;
    for (var t = lane; t < p.vocab; t += LANES) { sum += exp(logits[first + t] - top); }
    let log_sum = log(sum_floats(lane, sum));

    var token = best.id;
    if (broken) {
        token = select(0u, s.target_token, s.target_token != NONE);
    } else if (s.target_token != NONE) {
        token = s.target_token;
    } else if (s.temperature != 0.0 || s.mask != NONE || s.adjust_len > 0u) {
        token = choose(lane, row, first);
    }
    if (lane == 0u) {
        out[to] = token;
        out[to + 1u] = select(bitcast<u32>(logits[first + token] - top - log_sum), NAN_BITS, broken);
        if (s.seq_slot != NONE) { last[s.seq_slot] = token; }
    }

    // The alternatives, each the best of those behind the one before.
    var found = best;
    let wanted = select(min(s.logprobs, min(p.vocab, ALTERNATIVES)), 0u, broken);
    for (var n = 0u; n < ALTERNATIVES; n++) {
        if (n > 0u && n < wanted) {
            var next = Best(0u, p.vocab);
            for (var t = lane; t < p.vocab; t += LANES) {
                let key = key_of(logits[first + t]);
                if (better(found.key, found.id, key, t) && better(key, t, next.key, next.id)) {
                    next = Best(key, t);
                }
            }
            found = best_of(lane, next);
        }
        if (lane == 0u) {
            let used = n < wanted;
            out[to + 2u + n] = select(0u, found.id, used);
            let logprob = bitcast<u32>(value_of(found.key) - top - log_sum);
            out[to + 2u + ALTERNATIVES + n] = select(0u, logprob, used);
        }
    }
}
