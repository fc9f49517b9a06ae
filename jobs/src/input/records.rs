//! The records of a CSV file, one after another, by `csv_core`, on which Arrow's reader stands too: that one tells no empty
//! field from an empty string, and ends at the first record that is wrong.

use crate::input::ranges::SourceReader;
use csv_core::{ReadFieldResult, Reader, ReaderBuilder};
use std::io::{BufRead, BufReader, Error, ErrorKind};

/// A longer record is refused.
pub const LONGEST: usize = 256 << 20;

/// Reads records from a place on.
pub struct Records {
    reader: BufReader<SourceReader>,
    core: Reader,
    /// Where the next byte is, and its line.
    at: u64,
    line: u64,
}

/// One record. Its memory is used again for the next.
#[derive(Default)]
pub struct Record {
    bytes: Vec<u8>,
    /// Where each field ends, and whether it stands in quotes.
    fields: Vec<(usize, bool)>,
    /// Where the record begins, and on which line.
    pub at: u64,
    pub line: u64,
    /// A quote is opened and not closed.
    pub open_quote: bool,
}

impl Record {
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// A field; none where nothing stands between two delimiters, not even quotes.
    pub fn field(&self, at: usize) -> Option<&[u8]> {
        let start = at.checked_sub(1).map_or(0, |before| self.fields[before].0);
        let (end, quoted) = self.fields[at];
        (start < end || quoted).then(|| &self.bytes[start..end])
    }
}

impl Records {
    /// Reads from a record's first byte on.
    pub fn new(reader: SourceReader, delimiter: u8, at: u64, line: u64) -> Records {
        let core = ReaderBuilder::new().delimiter(delimiter).build();
        Records { reader: BufReader::with_capacity(1 << 18, reader), core, at, line }
    }

    /// Reads the next record; false if there is none. Blank lines are none.
    ///
    /// # Errors
    /// That of the system, and of a record that is too long.
    pub fn next(&mut self, record: &mut Record) -> Result<bool, Error> {
        record.fields.clear();
        record.open_quote = false;
        loop {
            match self.reader.fill_buf()?.first() {
                None => return Ok(false),
                Some(&end @ (b'\r' | b'\n')) => {
                    self.line += u64::from(end == b'\n');
                    self.reader.consume(1);
                    self.at += 1;
                }
                Some(_) => break,
            }
        }
        (record.at, record.line) = (self.at, self.line);
        let (mut filled, mut begun, mut quoted, mut quotes) = (0, false, false, 0);
        loop {
            let bytes = self.reader.fill_buf()?;
            if !begun {
                quoted = bytes.first() == Some(&b'"');
                (begun, quotes) = (true, 0);
            }
            if record.bytes.len() < filled + 64 {
                record.bytes.resize((2 * record.bytes.len()).max(1024), 0);
            }
            let (result, taken, written) = self.core.read_field(bytes, &mut record.bytes[filled..]);
            quotes += bytes[..taken].iter().filter(|&&byte| byte == b'"').count();
            self.line += bytes[..taken].iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.at += taken as u64;
            self.reader.consume(taken);
            filled += written;
            if filled > LONGEST {
                let why = format!("line {}: a record of more than {} MiB", record.line, LONGEST >> 20);
                return Err(Error::new(ErrorKind::InvalidData, why));
            }
            match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::End => return Ok(!record.fields.is_empty()),
                ReadFieldResult::Field { record_end } => {
                    record.open_quote |= quoted && quotes % 2 == 1;
                    record.fields.push((filled, quoted));
                    begun = false;
                    if record_end {
                        return Ok(true);
                    }
                }
            }
        }
    }
}
