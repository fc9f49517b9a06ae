//! Writes Parquet footers that no library would: Thrift in its compact form.

// Every test binary compiles this module and uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

/// The value of a field, an element of a list, or a footer.
#[derive(Clone)]
pub enum Thrift {
    I32(i64),
    I64(i64),
    Bytes(Vec<u8>),
    /// Elements of one type.
    List(Vec<Thrift>),
    /// An element, so many times.
    Repeated(Box<Thrift>, usize),
    /// Fields by their numbers, ascending.
    Struct(Vec<(u8, Thrift)>),
}

use Thrift::{Bytes, I32, I64, List, Repeated, Struct};

impl Thrift {
    fn kind(&self) -> u8 {
        match self {
            I32(_) => 5,
            I64(_) => 6,
            Bytes(_) => 8,
            List(_) | Repeated(..) => 9,
            Struct(_) => 12,
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            I32(number) | I64(number) => out.extend(varint(((number << 1) ^ (number >> 63)) as u64)),
            Bytes(bytes) => {
                out.extend(varint(bytes.len() as u64));
                out.extend_from_slice(bytes);
            }
            List(items) => {
                out.extend(list(items.first().map_or(12, Thrift::kind), items.len()));
                items.iter().for_each(|item| item.write(out));
            }
            Repeated(item, n) => {
                out.extend(list(item.kind(), *n));
                out.extend_from_slice(&item.bytes().repeat(*n));
            }
            Struct(fields) => {
                for (number, value) in fields {
                    out.push(value.kind());
                    out.extend(varint(u64::from(*number) << 1));
                    value.write(out);
                }
                out.push(0);
            }
        }
    }
}

fn list(kind: u8, n: usize) -> Vec<u8> {
    [vec![0xf0 | kind], varint(n as u64)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The root of a schema, or a group in it, with so many children.
pub fn group(children: i64) -> Thrift {
    Struct(vec![(3, I32(0)), (4, Bytes(b"g".to_vec())), (5, I32(children))])
}

/// A column of texts.
pub fn text(name: &str) -> Thrift {
    Struct(vec![(1, I32(6)), (3, I32(1)), (4, Bytes(name.into())), (6, I32(0))])
}

/// A row group.
pub fn row_group(columns: Vec<Thrift>, rows: i64) -> Thrift {
    Struct(vec![(1, List(columns)), (2, I64(100)), (3, I64(rows))])
}

/// What is said of the column `q` in a row group, which lies at byte 4.
pub fn chunk(rows: i64) -> Thrift {
    let path = List(vec![Bytes(b"q".to_vec())]);
    let sizes = [(5, I64(rows)), (6, I64(100)), (7, I64(100)), (9, I64(4))];
    let fields = [(1, I32(6)), (2, List(vec![I32(0)])), (3, path), (4, I32(0))];
    Struct(vec![(2, I64(4)), (3, Struct([&fields[..], &sizes].concat()))])
}

/// A file with a schema, so many rows, row groups and other fields.
pub fn file(schema: Thrift, rows: i64, groups: Thrift, more: Vec<(u8, Thrift)>) -> Vec<u8> {
    let fields = [vec![(1, I32(1)), (2, schema), (3, I64(rows)), (4, groups)], more].concat();
    let footer = Struct(fields).bytes();
    [&b"PAR1"[..], &[0; 200], &footer, &(footer.len() as u32).to_le_bytes(), b"PAR1"].concat()
}
