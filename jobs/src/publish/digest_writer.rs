//! A file that is digested while it is written.

use std::fs::File;
use std::io::{BufWriter, Write};

pub(super) struct DigestWriter {
    pub file: BufWriter<File>,
    pub hasher: blake3::Hasher,
    pub bytes: u64,
}

impl Write for DigestWriter {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
