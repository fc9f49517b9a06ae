//! Thrift's compact protocol, walked without taking memory for what it claims.

use std::io::Read;

/// The deepest nesting of structs and lists.
const DEPTH: usize = 16;

/// A number of 32 bits.
pub const I32: u8 = 5;
/// A number of 64 bits.
pub const I64: u8 = 6;
/// Bytes.
pub const BINARY: u8 = 8;
/// A list.
pub const LIST: u8 = 9;
/// A struct.
pub const STRUCT: u8 = 12;

/// Walks through bytes once. Errors say what is wrong with them, or that they end too early.
pub struct Walker<R> {
    source: R,
    at: u64,
    end: u64,
}

impl<R: Read> Walker<R> {
    /// Begins.
    pub fn new(source: R) -> Walker<R> {
        Walker { source, at: 0, end: u64::MAX }
    }

    /// The bytes that it has walked over.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Lets it walk over so many more bytes only.
    pub fn limit(&mut self, bytes: u64) {
        self.end = self.at.saturating_add(bytes);
    }

    fn byte(&mut self) -> Result<u8, String> {
        let mut byte = [0];
        self.room_for(1)?;
        self.source.read_exact(&mut byte).map_err(|_| "cut short".to_string())?;
        self.at += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number without end".into())
    }

    /// A number with its sign.
    pub fn number(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn room_for(&self, n: u64) -> Result<(), String> {
        if n <= self.end - self.at { Ok(()) } else { Err("it is longer than can be read".into()) }
    }

    fn skip_bytes(&mut self, n: u64) -> Result<(), String> {
        self.room_for(n)?;
        let skipped = std::io::copy(&mut self.source.by_ref().take(n), &mut std::io::sink());
        self.at += skipped.as_ref().copied().unwrap_or(0);
        if skipped.is_ok_and(|skipped| skipped == n) { Ok(()) } else { Err("cut short".into()) }
    }

    /// Walks a struct. `take` is given the number and the type of each field, and says whether it has walked over it.
    pub fn fields(
        &mut self,
        depth: usize,
        mut take: impl FnMut(&mut Self, i64, u8) -> Result<bool, String>,
    ) -> Result<(), String> {
        let mut field = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let step = i64::from(head >> 4);
            field = if step == 0 { self.number()? } else { field.wrapping_add(step) };
            let kind = head & 0x0f;
            if !take(self, field, kind)? && !matches!(kind, 1 | 2) {
                self.skip(kind, depth + 1)?;
            }
        }
    }

    /// The head of a list: the type of its elements, and how many it claims.
    pub fn list(&mut self) -> Result<(u8, u64), String> {
        let head = self.byte()?;
        let n = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        if n > 0 && matches!(head & 0x0f, 1 | 2) {
            // To the Parquet library these take no byte, so that it would count to 2^31; the format has none here.
            return Err("a list of booleans".into());
        }
        Ok((head & 0x0f, n))
    }

    /// Walks over a value.
    pub fn skip(&mut self, kind: u8, depth: usize) -> Result<(), String> {
        if depth > DEPTH {
            return Err("nested too deep".into());
        }
        match kind {
            1..=3 => self.skip_bytes(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.skip_bytes(8),
            BINARY => self.varint().and_then(|n| self.skip_bytes(n)),
            LIST | 10 => {
                let (kind, n) = self.list()?;
                // Each element takes a byte at least, so that a forged count ends with the source.
                (0..n).try_for_each(|_| self.skip(kind, depth + 1))
            }
            STRUCT => self.fields(depth, |_, _, _| Ok(false)),
            _ => Err(format!("a field of unknown type {kind}")),
        }
    }
}
