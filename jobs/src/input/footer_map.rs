//! Where things lie in a Parquet footer (parquet.thrift, `FileMetaData`).
//!
//! The footer is walked once, without memory for what it claims; of the row groups, which may be many and wide, only
//! what is read of one is taken into memory, when it is read.

use crate::input::thrift::{I32, I64, LIST, STRUCT, Walker};
use std::io::Read;
use std::ops::Range;

/// Groups within groups of a schema, at most: what reads them calls itself for each.
const SCHEMA_DEPTH: usize = 64;
/// Columns and groups of a schema, at most.
const ELEMENTS: u64 = 30_000;
/// Bytes of all but the row groups, at most.
const HEAD_BYTES: u64 = 16 << 20;
/// Entries of the key-value metadata, at most.
const ENTRIES: u64 = 100_000;
/// Bytes of what is said of one row group, at most.
const GROUP_BYTES: u64 = 64 << 20;
/// Rows of one row group, at most.
const GROUP_ROWS: i64 = 1 << 31;
/// Row groups, at most.
const GROUPS: u64 = 1 << 20;

/// The fields of `FileMetaData`.
const SCHEMA: i64 = 2;
const ROWS: i64 = 3;
const ROW_GROUPS: i64 = 4;
const KEY_VALUES: i64 = 5;

/// What a footer holds, and where.
#[derive(Clone, Debug, Default)]
pub struct FooterMap {
    /// The fields but for the rows and the row groups: number, type and place in the footer.
    fields: Vec<(i64, u8, Range<u64>)>,
    /// The place and the rows of each row group.
    pub groups: Vec<(Range<u64>, u64)>,
    /// The rows that the file claims.
    pub rows: i64,
    /// Nulls of each leaf column in all row groups, where the footer says so.
    pub nulls: Vec<Option<u64>>,
}

impl FooterMap {
    /// Walks a footer.
    ///
    /// # Errors
    /// What is wrong with it: it is damaged, or holds more than is taken.
    pub fn of(footer: impl Read) -> Result<FooterMap, String> {
        let mut map = FooterMap::default();
        let mut walker = Walker::new(footer);
        walker.fields(0, |walker, field, kind| {
            match (field, kind) {
                (ROWS, I64) => map.rows = walker.number()?,
                (ROW_GROUPS, LIST) => map.walk_groups(walker)?,
                // Of all other fields, none is a boolean.
                (_, 1 | 2) => {}
                _ => {
                    let start = walker.at();
                    walker.limit(
                        HEAD_BYTES
                            - map.fields.iter().map(|(_, _, place)| place.end - place.start).sum::<u64>(),
                    );
                    map.walk_field(walker, field, kind)
                        .map_err(|why| format!("schema or metadata: {why}"))?;
                    map.fields.push((field, kind, start..walker.at()));
                    walker.limit(u64::MAX);
                }
            }
            Ok(true)
        })?;
        Ok(map)
    }

    /// Walks a field beside rows and row groups.
    fn walk_field(&mut self, walker: &mut Walker<impl Read>, field: i64, kind: u8) -> Result<(), String> {
        match (field, kind) {
            (SCHEMA, LIST) => self.nulls = vec![Some(0); walk_schema(walker)?],
            (KEY_VALUES, LIST) => {
                let n = structs(walker)?;
                if n > ENTRIES {
                    return Err(format!("claims {n} key-values; at most {ENTRIES} are read"));
                }
                (0..n).try_for_each(|_| walker.skip(STRUCT, 2))?;
            }
            _ => walker.skip(kind, 1)?,
        }
        Ok(())
    }

    fn walk_groups(&mut self, walker: &mut Walker<impl Read>) -> Result<(), String> {
        let n = structs(walker)?;
        if n > GROUPS {
            return Err(format!("claims {n} row groups; at most {GROUPS} are read"));
        }
        for group in 0..n {
            let start = walker.at();
            let rows = self.walk_group(walker).map_err(|why| format!("row group {group}: {why}"))?;
            self.groups.push((start..walker.at(), rows));
        }
        Ok(())
    }

    /// Walks a row group; returns its rows.
    fn walk_group(&mut self, walker: &mut Walker<impl Read>) -> Result<u64, String> {
        let (leaves, mut rows) = (self.nulls.len() as u64, 0);
        walker.limit(GROUP_BYTES);
        let nulls = &mut self.nulls;
        walker.fields(2, |walker, field, kind| match (field, kind) {
            (1, LIST) => {
                let n = structs(walker)?;
                if n != leaves {
                    return Err(format!("it has {n} columns, and the schema {leaves}"));
                }
                for all in nulls.iter_mut() {
                    let more = null_count(walker)?;
                    *all = all.zip(more).and_then(|(all, more)| all.checked_add(more));
                }
                Ok(true)
            }
            (3, I64) => {
                rows = walker.number()?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        if !(0..=GROUP_ROWS).contains(&rows) {
            return Err(format!("it claims {rows} rows"));
        }
        walker.limit(u64::MAX);
        Ok(rows as u64)
    }

    /// The places of what a footer with this row group alone is made of, or with none.
    pub fn parts(&self, group: Option<usize>) -> impl Iterator<Item = Range<u64>> {
        let fields = self.fields.iter().map(|(_, _, place)| place.clone());
        fields.chain(group.and_then(|group| self.groups.get(group)).map(|(place, _)| place.clone()))
    }

    /// Puts a footer together: `parts` are the bytes of [`FooterMap::parts`].
    pub fn assemble(&self, parts: &[impl AsRef<[u8]>], group: Option<usize>) -> Vec<u8> {
        let mut footer = Vec::new();
        let mut field = |number: i64, kind: u8, value: &[u8]| {
            footer.push(kind);
            footer.extend(varint((number << 1 ^ number >> 63) as u64));
            footer.extend(value);
        };
        for ((number, kind, _), bytes) in self.fields.iter().zip(parts) {
            field(*number, *kind, bytes.as_ref());
        }
        let rows = group.and_then(|group| self.groups.get(group)).map_or(0, |(_, rows)| *rows);
        field(ROWS, I64, &varint(rows << 1));
        let groups = match parts.get(self.fields.len()) {
            Some(group) => [&[0x10 | STRUCT], group.as_ref()].concat(),
            None => vec![STRUCT],
        };
        field(ROW_GROUPS, LIST, &groups);
        footer.push(0);
        footer
    }
}

/// The head of a list of structs.
fn structs(walker: &mut Walker<impl Read>) -> Result<u64, String> {
    match walker.list()? {
        (STRUCT, n) => Ok(n),
        (_, 0) => Ok(0),
        (kind, _) => Err(format!("a list of type {kind} in place of structs")),
    }
}

/// Walks the schema, a tree of which each element says how many of the next are below it. Returns the number of its
/// leaves.
fn walk_schema(walker: &mut Walker<impl Read>) -> Result<usize, String> {
    let n = structs(walker)?;
    if n > ELEMENTS {
        return Err(format!("{n} columns and groups; at most {ELEMENTS} are read"));
    }
    // What is still missing below each open element.
    let (mut open, mut leaves): (Vec<i64>, usize) = (Vec::new(), 0);
    for element in 0..n {
        let (mut children, mut typed) = (0, false);
        walker.fields(2, |walker, field, kind| {
            typed |= field == 1;
            match (field, kind) {
                (5, I32) => children = walker.number()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if element > 0 {
            match open.last_mut() {
                None => return Err("columns outside of the tree".into()),
                Some(missing) => *missing -= 1,
            }
        }
        if children > 0 {
            open.push(children);
        } else {
            leaves += usize::from(element > 0 && typed);
        }
        if open.len() > SCHEMA_DEPTH {
            return Err(format!("more than {SCHEMA_DEPTH} groups within one another"));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    if open.is_empty() { Ok(leaves) } else { Err("the tree ends too early".into()) }
}

/// Walks a `ColumnChunk`. Returns its nulls, where its statistics say so.
fn null_count(walker: &mut Walker<impl Read>) -> Result<Option<u64>, String> {
    let mut count = None;
    walker.fields(4, |walker, field, kind| {
        if (field, kind) != (3, STRUCT) {
            return Ok(false);
        }
        walker.fields(5, |walker, field, kind| {
            if (field, kind) != (12, STRUCT) {
                return Ok(false);
            }
            walker.fields(6, |walker, field, kind| {
                let is_count = (field, kind) == (3, I64);
                if is_count {
                    count = u64::try_from(walker.number()?).ok();
                }
                Ok(is_count)
            })?;
            Ok(true)
        })?;
        Ok(true)
    })?;
    Ok(count)
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
