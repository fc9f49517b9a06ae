//! `--shard`: which of how many shares of a job's files.

use crate::options::size::parse_size;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Shards of a job, at most: publishing looks at each of them.
pub const MOST: u64 = 100_000;

/// One of the shards of a job: a range of the files of its output, and of the rows that they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// From 1.
    pub number: u64,
    pub of: u64,
}

/// The shard that a command is to run.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardOptions {
    /// None where shards are named one after another ([`crate::run::shard_worker`]).
    pub shard: Option<Shard>,
    /// The folder of the state of all shards, in which the shard's own is.
    pub job_dir: PathBuf,
    /// The day on which the first of the shards was begun, in seconds since 1970, if one was.
    pub date: Option<i64>,
}

impl Shard {
    /// Reads `3/20`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Shard, String> {
        let wrong = || format!("{text:?} is no shard such as 3/20, the third of 20");
        let (number, of) = text.split_once('/').ok_or_else(wrong)?;
        let number = number.trim().parse().map_err(|_| wrong())?;
        let of = of.trim().parse().map_err(|_| wrong())?;
        if !(1..=MOST).contains(&of) {
            return Err(format!("{text:?}: there are from 1 to {MOST} shards"));
        }
        if !(1..=of).contains(&number) {
            return Err(format!("{text:?}: shards are counted from 1 to {of}"));
        }
        Ok(Shard { number, of })
    }

    /// Reads a number of shards.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse_count(text: &str) -> Result<u64, String> {
        let count = parse_size(text)?;
        (1..=MOST).contains(&count).then_some(count).ok_or_else(|| format!("{text} must be from 1 to {MOST}"))
    }

    /// All shards of a job.
    pub fn all(of: u64) -> impl Iterator<Item = Shard> {
        (1..=of).map(move |number| Shard { number, of })
    }

    /// Its share of so many files: as many as any other has, or one less.
    pub fn files(self, files: u64) -> Range<u64> {
        let before = |shards: u64| (u128::from(shards) * u128::from(files) / u128::from(self.of)) as u64;
        before(self.number - 1)..before(self.number)
    }

    /// The rows of its files, of which all but the last have `per_file`.
    pub fn rows(self, rows: u64, per_file: u64) -> Range<u64> {
        let files = self.files(files_of(rows, per_file));
        first_row(files.start, rows, per_file)..first_row(files.end, rows, per_file)
    }

    /// The name of what belongs to it: `3-of-20`.
    pub fn name(self) -> String {
        format!("{}-of-{}", self.number, self.of)
    }

    /// Reads [`Shard::name`].
    pub fn of_name(name: &str) -> Option<Shard> {
        let shard = Shard::parse(&name.replacen("-of-", "/", 1)).ok()?;
        (shard.name() == name).then_some(shard)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// The files of an output of so many rows, with `per_file` in each but the last. There is one at least.
pub fn files_of(rows: u64, per_file: u64) -> u64 {
    rows.div_ceil(per_file.max(1)).max(1)
}

/// The rows of a file of such an output.
pub fn rows_of_file(at: u64, rows: u64, per_file: u64) -> Range<u64> {
    first_row(at, rows, per_file)..first_row(at.saturating_add(1), rows, per_file)
}

fn first_row(file: u64, rows: u64, per_file: u64) -> u64 {
    file.saturating_mul(per_file.max(1)).min(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_out_all_files_and_rows_in_order() {
        for (rows, per_file) in
            [(0, 7), (1, 7), (6, 7), (7, 7), (8, 7), (1000, 7), (1000, 1), (u64::MAX, 1 << 40)]
        {
            for of in [1, 2, 3, 20, 150] {
                let (mut next_file, mut next_row) = (0, 0);
                for shard in Shard::all(of) {
                    let (files, own) = (shard.files(files_of(rows, per_file)), shard.rows(rows, per_file));
                    assert_eq!(
                        (files.start, own.start),
                        (next_file, next_row),
                        "{shard} of {rows}/{per_file}"
                    );
                    assert!(own.end == rows || own.end.is_multiple_of(per_file));
                    assert!(files.end - files.start <= files_of(rows, per_file).div_ceil(of));
                    (next_file, next_row) = (files.end, own.end);
                }
                assert_eq!((next_file, next_row), (files_of(rows, per_file), rows));
            }
        }
    }

    #[test]
    fn a_shard_is_read_as_it_is_shown() {
        assert_eq!(Shard::parse("3/20"), Ok(Shard { number: 3, of: 20 }));
        for shard in Shard::all(12) {
            assert_eq!(Shard::parse(&shard.to_string()), Ok(shard));
            assert_eq!(Shard::of_name(&shard.name()), Some(shard));
        }
        for text in ["", "3", "0/20", "21/20", "3/0", "-1/2", "a/b", "3/20/1", "1/100001"] {
            assert!(Shard::parse(text).is_err(), "{text}");
        }
        for name in ["3-of-2", "03-of-20", "3-of-20.json", "3/20", "lock"] {
            assert_eq!(Shard::of_name(name), None, "{name}");
        }
    }
}
