//! The lines of a file, one after another. Blank lines are none.

use crate::input::ranges::SourceReader;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read};

/// A longer line is refused.
const LONGEST: u64 = 256 << 20;

/// Reads lines from a place on.
pub struct Lines {
    reader: BufReader<SourceReader>,
    at: u64,
    /// The number of the next line, from 1.
    number: u64,
}

/// Where a line is.
#[derive(Clone, Copy, Debug)]
pub struct LinePlace {
    pub at: u64,
    /// From 1.
    pub number: u64,
}

impl Lines {
    /// Reads from a line's first byte on.
    pub fn new(reader: SourceReader, at: u64, number: u64) -> Lines {
        Lines { reader: BufReader::with_capacity(1 << 18, reader), at, number }
    }

    /// Reads the next line into `line`, without its end.
    ///
    /// # Errors
    /// That of the system, and of a line that is too long.
    pub fn next(&mut self, line: &mut Vec<u8>) -> Result<Option<LinePlace>, Error> {
        loop {
            line.clear();
            let place = LinePlace { at: self.at, number: self.number };
            let read = self.reader.by_ref().take(LONGEST + 1).read_until(b'\n', line)? as u64;
            if read == 0 {
                return Ok(None);
            }
            if read > LONGEST {
                let why = format!("line {}: a line of more than {} MiB", self.number, LONGEST >> 20);
                return Err(Error::new(ErrorKind::InvalidData, why));
            }
            self.at += read;
            self.number += 1;
            if place.at == 0 && line.starts_with(BOM) {
                line.drain(..BOM.len());
            }
            while let Some(b'\n' | b'\r') = line.last() {
                line.pop();
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some(place));
            }
        }
    }
}

/// A mark that some programs write before text in UTF-8.
pub const BOM: &[u8] = b"\xef\xbb\xbf";
