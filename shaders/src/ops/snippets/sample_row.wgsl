// How the token of one output position is chosen: engine::step::SampleRow.

struct Row {
    temperature: f32,
    top_p: f32,
    min_p: f32,
    top_k: u32,
    key_lo: u32,
    key_hi: u32,
    position: u32,
    seq_slot: u32,
    target_token: u32,
    mask: u32,
    adjust_start: u32,
    adjust_len: u32,
    logprobs: u32,
    target_start: u32,
    target_len: u32,
    reserved: u32,
}
