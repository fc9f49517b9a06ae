//! The definition of sampling, shared by every device.
//!
//! For a row of logits `l[0..V]`, as [`crate::step::SampleRow`] says:
//!
//! 1. The report: with `m = max l` and `z = sum exp(l - m)`, a token's log-probability is
//!    `l - m - ln z`. It is of the raw logits, before anything below (vLLM's `raw_logprobs`). If any
//!    logit is not finite, the reported log-probability is NaN and the token is arbitrary.
//!    It is made for the chosen token, for the likeliest ones, and for each of the row's targets.
//! 2. If there is a `target`, it is the token, and nothing below happens.
//! 3. Each adjustment changes its logit; tokens outside the mask become negative infinity.
//! 4. If `temperature` is 0, the token has the highest logit; of equal ones the lowest id.
//! 5. Otherwise, logits are divided by the temperature, `w = exp(l - max l)`, and tokens are kept:
//!    `top_k`: the `k` highest (all that equal the k-th are kept); then `top_p`: in descending order,
//!    a token is kept while the mass before it is less than `top_p` of the mass that `top_k` left
//!    (tokens equal to the last kept are kept too); then `min_p`: `w >= min_p`.
//! 6. With `u` uniform from [`uniform`], the token is the first in order of id at which the running
//!    sum of kept `w` exceeds `u` times their total (the last kept token if rounding leaves none).
//!
//! Sums run in an order that depends on the vocabulary only.

/// The random number of a row's position: uniform in `[0, 1)`, 24 bits.
///
/// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
/// with the row's key and the counter `(position, 0, 0, 0)`; the first word's upper 24 bits.
pub fn uniform(key_lo: u32, key_hi: u32, position: u32) -> f32 {
    (philox([position, 0, 0, 0], [key_lo, key_hi])[0] >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// The Philox4x32-10 block function.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
