//! The date that templates see (`strftime_now`): the day on which a job was begun, at midnight UTC.
//!
//! It belongs to the job, as the template does: rows that are answered tomorrow, or after a clock has jumped, get
//! the prompts that they would have got today.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// The beginning of this day in seconds since 1970, UTC.
pub fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    now - now.rem_euclid(DAY)
}

/// A day as `2026-03-07`.
pub fn shown(seconds: i64) -> String {
    let (year, month, date, _) = civil(seconds.div_euclid(DAY));
    format!("{year:04}-{month:02}-{date:02}")
}

/// The beginning of a day that was made by [`shown`].
pub fn read(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, date) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..10_000).contains(&year) {
        return None;
    }
    // No year has more than 366 days; the first of January is at most so far from the day.
    let near = (year - 1970) * 365 + (year - 1969) / 4 - 20;
    let day = (near..near + 420).find(|&day| {
        let (y, m, d, _) = civil(day);
        (y, m, d) == (year, month, date)
    });
    day.map(|day| day * DAY)
}

/// The subset of `strftime` that chat templates use, of a time in seconds since 1970, in UTC.
///
/// # Errors
/// The first letter that is not known.
pub fn strftime(format: &str, seconds: i64) -> Result<String, String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, date, day_of_year) = civil(day);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[(day + 3).rem_euclid(7) as usize];
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out += &match chars.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{date:02}"),
            Some('e') => format!("{date:2}"),
            Some('j') => format!("{day_of_year:03}"),
            Some('b' | 'h') => month_name[..3].to_string(),
            Some('B') => month_name.to_string(),
            Some('a') => day_name[..3].to_string(),
            Some('A') => day_name.to_string(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_string(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{:02}", second % 60),
            Some('F') => format!("{year}-{month:02}-{date:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{:02}", second % 60),
            Some('Z') => "UTC".to_string(),
            Some('z') => "+0000".to_string(),
            Some('-') => match chars.next() {
                Some('d') => date.to_string(),
                Some('m') => month.to_string(),
                Some('H') => hour.to_string(),
                other => return Err(unknown(other)),
            },
            Some('%') => "%".to_string(),
            other => return Err(unknown(other)),
        };
    }
    Ok(out)
}

fn unknown(letter: Option<char>) -> String {
    format!("strftime_now: %{} is not known", letter.map(String::from).unwrap_or_default())
}

/// Year, month, day and day of the year of a day counted from 1970-01-01, in the Gregorian calendar.
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(day: i64) -> (i64, i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let date = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
    (year, month, date, before + date + i64::from(leap && month > 2))
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
