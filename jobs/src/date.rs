//! The date that templates see (`strftime_now`): the day on which a job was begun, at midnight UTC.
//!
//! It belongs to the job, as the template does: rows that are answered tomorrow, or after a clock has jumped, get
//! the prompts that they would have got today.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// How a day is written.
const DATE: &str = "%Y-%m-%d";

/// What `strftime` has in Python, too, and writes alike; `-` may stand before the letters of numbers.
const LETTERS: &str = "YyCmdejUWuwGgVbBhaAHIpMSDFTRcxXZznt%";
const NUMBERS: &str = "ymdejUWuwGgVHIMS";

/// The beginning of this day in seconds since 1970, UTC.
pub fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    now - now.rem_euclid(DAY)
}

/// A day as `2026-03-07`.
pub fn shown(seconds: i64) -> String {
    time(seconds).format(DATE).to_string()
}

/// The beginning of a day that was made by [`shown`].
pub fn read(text: &str) -> Option<i64> {
    let day = NaiveDate::parse_from_str(text, DATE).ok()?;
    let known = (1970..10_000).contains(&day.year());
    known.then(|| day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp())
}

/// Python's `strftime` of a time in seconds since 1970, in UTC.
///
/// # Errors
/// The first letter that is not known, or means something else in Python.
pub fn strftime(format: &str, seconds: i64) -> Result<String, String> {
    let mut rest = format;
    while let Some((_, letters)) = rest.split_once('%') {
        let (known, letter) = match letters.strip_prefix('-') {
            Some(letters) => (NUMBERS, letters),
            None => (LETTERS, letters),
        };
        let length = letter.chars().next().filter(|&c| known.contains(c)).map(char::len_utf8);
        let Some(length) = length else {
            let unknown: String = letters.chars().take(1 + letters.len() - letter.len()).collect();
            return Err(format!("strftime_now: %{unknown} is not known"));
        };
        rest = &letter[length..];
    }
    let items: Vec<Item> = StrftimeItems::new(format).collect();
    Ok(time(seconds).format_with_items(items.into_iter()).to_string())
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dates_are_right() {
        let date = |seconds| strftime("%Y-%m-%d %A %j %H:%M:%S %d %b %y", seconds).unwrap();
        assert_eq!(date(0), "1970-01-01 Thursday 001 00:00:00 01 Jan 70");
        assert_eq!(date(951_827_696), "2000-02-29 Tuesday 060 12:34:56 29 Feb 00");
        assert_eq!(date(1_735_689_599), "2024-12-31 Tuesday 366 23:59:59 31 Dec 24");
        // As Python 3.13 writes it.
        let all = "%C|%e|%h|%I|%p|%u|%w|%U|%W|%G|%g|%V|%D|%F|%T|%R|%c|%x|%X|%Z|%z|%%|%-d|%-m|%-I|%-j";
        let written = "20|29|Feb|12|PM|2|2|09|09|2000|00|09|02/29/00|2000-02-29|12:34:56|12:34|Tue Feb 29 12:34:56 \
                       2000|02/29/00|12:34:56|UTC|+0000|%|29|2|12|60";
        assert_eq!(strftime(all, 951_827_696).as_deref(), Ok(written));
        assert_eq!(strftime("a\n100", 0).as_deref(), Ok("a\n100"));
        for unknown in ["%", "%f", "%-", "%-B", "%q", "%ä", "x%:z", "%+", "%.3f", "%%%"] {
            assert!(strftime(unknown, 0).unwrap_err().contains("is not known"), "{unknown}");
        }
    }

    #[test]
    fn days_are_read_as_they_are_shown() {
        for day in [0, 58, 59, 364, 365, 10_956, 11_016, 20_454, 20_780, 47_540, 400_000] {
            assert_eq!(read(&shown(day * DAY)), Some(day * DAY), "{}", shown(day * DAY));
        }
        assert_eq!(shown(951_827_696), "2000-02-29");
        assert_eq!(["", "2026-02-30", "2026-3", "9-9-9x", "9223372036854775807-1-1"].map(read), [None; 5]);
        assert_eq!(today() % DAY, 0);
    }
}
