// out[t] = table[token[t]], where a token with its top bit set stands for the last token of a slot.
//
// The table lies as the weights of a Linear do (see weight.rs), since a model may use it as both. A
// dispatch serves one shard of it: rows first .. first + count.

// 0: f32, 1: f16, 2: bf16.
override FORMAT: u32;

struct Params {
    rows: u32,
    cols: u32,
    // Runs of 8 columns in a row of the table, with its padding.
    units: u32,
    first: u32,
    count: u32,
    out_stride: u32,
    out_start: u32,
}

var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> last: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

fn two(word: u32) -> vec2<f32> {
    if (FORMAT == 1u) { return unpack2x16float(word); }
    return vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let used = (p.cols + 7u) / 8u;
    let row = i / used;
    let unit = i % used;
    if (row >= p.rows) { return; }
    var token = tokens[row];
    if ((token & 0x80000000u) != 0u) { token = last[token & 0x7fffffffu]; }
    // Below `first` the difference wraps and is not less than `count` either.
    let n = token - p.first;
    if (n >= p.count) { return; }

    let block = (n / 64u) * p.units + unit;
    var v: array<f32, 8>;
    if (FORMAT == 0u) {
        let a = bitcast<vec4<f32>>(table[block * 128u + n % 64u]);
        let b = bitcast<vec4<f32>>(table[block * 128u + 64u + n % 64u]);
        v = array<f32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w);
    } else {
        let words = table[block * 64u + n % 64u];
        let a = two(words.x);
        let b = two(words.y);
        let c = two(words.z);
        let d = two(words.w);
        v = array<f32, 8>(a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y);
    }
    let at = row * p.out_stride + p.out_start + unit * 8u;
    let left = min(p.cols - unit * 8u, 8u);
    for (var c = 0u; c < left; c++) { out[at + c] = v[c]; }
}
