//! Chance that every run of a test repeats.

/// A linear congruential generator (Knuth, MMIX); its high bits are thrown.
pub struct Dice(pub u64);

impl Dice {
    /// A number from 0 to `n` - 1, and 0 where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }

    /// A number from 0 to `n` - 1, and 0 where `n` is 0.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }
}
