//! The records of a CSV file, one after another, by `csv_core`, on which Arrow's reader stands too: that one tells no empty
//! field from an empty string, and ends at the first record that is wrong.

use crate::input::lines::BOM;
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
    delimiter: u8,
    /// Whether a blank line is a record of one field that is null, as in a file of one column.
    pub blank_records: bool,
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
    /// The line that it ends on.
    pub last_line: u64,
    /// The line of a quote that is not closed by the end of the file.
    pub open_quote: Option<u64>,
    /// Something stands between a closing quote and the end of its field.
    pub after_quote: bool,
}

/// What was read of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    Begin,
    /// It does not begin with a quote, so quotes are letters.
    Bare,
    Open,
    /// Behind a quote that closes it, unless another follows.
    Closed,
    /// Something follows on the closing quote.
    After,
}

impl Quoting {
    fn next(self, byte: u8, delimiter: u8) -> Quoting {
        match (self, byte) {
            (Quoting::Begin | Quoting::Closed, b'"') => Quoting::Open,
            (Quoting::Begin, _) => Quoting::Bare,
            (Quoting::Open, b'"') => Quoting::Closed,
            (Quoting::Closed, b'\r' | b'\n') => Quoting::Closed,
            (Quoting::Closed, byte) if byte != delimiter => Quoting::After,
            (quoting, _) => quoting,
        }
    }
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
        let mut core = ReaderBuilder::new().delimiter(delimiter).build();
        // It takes a mark off the first bytes that it sees, which may be a field's own.
        core.read_field(b"\n", &mut [0]);
        let reader = BufReader::with_capacity(1 << 18, reader);
        Records { reader, core, at, line, delimiter, blank_records: false }
    }

    /// Reads the next record; false if there is none.
    ///
    /// # Errors
    /// That of the system, and of a record that is too long.
    pub fn next(&mut self, record: &mut Record) -> Result<bool, Error> {
        record.fields.clear();
        (record.open_quote, record.after_quote) = (None, false);
        if self.at == 0 && self.reader.fill_buf()?.starts_with(BOM) {
            self.take(BOM.len());
        }
        loop {
            match self.reader.fill_buf()?.first() {
                None => return Ok(false),
                Some(&end @ (b'\r' | b'\n')) => {
                    (record.at, record.line, record.last_line) = (self.at, self.line, self.line);
                    self.line += u64::from(end == b'\n');
                    self.take(1);
                    self.end_line(end)?;
                    if self.blank_records {
                        record.fields.push((0, false));
                        return Ok(true);
                    }
                }
                Some(_) => break,
            }
        }
        (record.at, record.line) = (self.at, self.line);
        let (mut filled, mut last, mut field_line, mut quoting) = (0, 0, self.line, Quoting::Begin);
        loop {
            let bytes = self.reader.fill_buf()?;
            if record.bytes.len() < filled + 64 {
                record.bytes.resize((2 * record.bytes.len()).max(1024), 0);
            }
            let (result, taken, written) = self.core.read_field(bytes, &mut record.bytes[filled..]);
            for &byte in &bytes[..taken] {
                quoting = quoting.next(byte, self.delimiter);
                self.line += u64::from(byte == b'\n');
                last = byte;
            }
            self.take(taken);
            filled += written;
            if filled > LONGEST {
                let why = format!("line {}: a record of more than {} MiB", record.line, LONGEST >> 20);
                return Err(Error::new(ErrorKind::InvalidData, why));
            }
            match result {
                ReadFieldResult::InputEmpty | ReadFieldResult::OutputFull => {}
                ReadFieldResult::End => return Ok(!record.fields.is_empty()),
                ReadFieldResult::Field { record_end } => {
                    if quoting == Quoting::Open {
                        record.open_quote.get_or_insert(field_line);
                    }
                    record.after_quote |= quoting == Quoting::After;
                    let quoted = !matches!(quoting, Quoting::Begin | Quoting::Bare);
                    record.fields.push((filled, quoted));
                    (field_line, quoting) = (self.line, Quoting::Begin);
                    if record_end {
                        record.last_line = self.line - u64::from(last == b'\n');
                        self.end_line(last)?;
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn take(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.at += bytes as u64;
    }

    /// Reads the rest of a line's end, of which this byte was read.
    fn end_line(&mut self, end: u8) -> Result<(), Error> {
        if end == b'\r' && self.reader.fill_buf()?.first() == Some(&b'\n') {
            self.take(1);
            self.line += 1;
        }
        Ok(())
    }
}
