//! The page: what stands on it, and its HTML.
//!
//! There is no script on it, and a policy that lets none run. What comes from data is escaped by the template's library, and
//! characters that nobody sees are written out before.

use crate::error::JobError;
use crate::printable::printable_lines;
use minijinja::{Environment, context};
use serde::Serialize;

/// A text of more characters is cut off.
const MAX_CHARS: usize = 300;

/// A table of more rows is folded.
const FOLDED: usize = 30;

/// How a page begins, by which a report is known that may be replaced.
pub const BEGINNING: &str = "<!doctype html>\n<html lang=\"en\" data-gristmill-report=\"\">";

#[derive(Serialize)]
pub struct Page {
    pub title: Text,
    pub subtitle: Text,
    pub tiles: Vec<Tile>,
    pub sections: Vec<Section>,
}

/// A figure that is seen first.
#[derive(Serialize)]
pub struct Tile {
    pub name: &'static str,
    pub value: String,
    pub detail: String,
}

#[derive(Serialize)]
pub struct Section {
    pub id: &'static str,
    pub title: &'static str,
    pub notes: Vec<Text>,
    pub parts: Vec<Part>,
}

impl Section {
    pub fn new(id: &'static str, title: &'static str) -> Section {
        Section { id, title, notes: Vec::new(), parts: Vec::new() }
    }

    pub fn note(&mut self, text: impl AsRef<str>) {
        self.notes.push(Text::of(text));
    }

    pub fn table(&mut self, table: Table) {
        self.parts.push(Part::Table(table));
    }
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Heading(Text),
    Chart(Chart),
    Table(Table),
}

/// A picture of figures that a table has as well.
#[derive(Serialize)]
pub struct Chart {
    pub caption: Text,
    /// SVG, for wide and for narrow screens.
    pub wide: String,
    pub narrow: String,
}

#[derive(Serialize)]
pub struct Table {
    /// What a program finds it by.
    pub id: String,
    pub caption: Text,
    pub head: Vec<&'static str>,
    pub rows: Vec<Vec<Cell>>,
    /// Whether only its caption is seen until it is asked for.
    pub folded: bool,
    /// Whether it has a name and a value in each row.
    pub pairs: bool,
}

impl Table {
    pub fn new(id: impl Into<String>, caption: impl AsRef<str>, head: &[&'static str]) -> Table {
        let (id, caption) = (id.into(), Text::of(caption));
        Table { id, caption, head: head.to_vec(), rows: Vec::new(), folded: false, pairs: false }
    }

    /// With these rows; of many the table is folded.
    #[must_use]
    pub fn with(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Table {
        self.rows.extend(rows);
        self.folded = self.rows.len() > FOLDED;
        self
    }

    /// With rows of a name and a value, which are always seen.
    #[must_use]
    pub fn pairs(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Table {
        self.rows.extend(rows);
        self.pairs = true;
        self
    }

    /// Folded, as a chart shows it.
    #[must_use]
    pub fn folded(mut self) -> Table {
        self.folded = true;
        self
    }
}

#[derive(Serialize)]
pub struct Cell {
    pub text: Text,
    pub is_number: bool,
    /// The length of a bar behind the number, from 0 to 100.
    pub bar: Option<f64>,
}

impl Cell {
    pub fn text(text: impl AsRef<str>) -> Cell {
        Cell { text: Text::of(text), is_number: false, bar: None }
    }

    pub fn number(number: impl ToString) -> Cell {
        Cell { text: Text::of(number.to_string()), is_number: true, bar: None }
    }

    /// A share in percent, with a bar.
    pub fn share(part: u64, whole: u64) -> Cell {
        let percent = if whole > 0 { 100.0 * part as f64 / whole as f64 } else { 0.0 };
        Cell { bar: Some(percent), ..Cell::number(format!("{percent:.1} %")) }
    }

    /// A number that may be missing or none.
    pub fn real(number: Option<f64>, digits: usize) -> Cell {
        match number.filter(|number| number.is_finite()) {
            Some(number) => Cell::number(format!("{number:.digits$}")),
            None => Cell::number("-"),
        }
    }
}

/// Text as a page may show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Writes out what nobody sees (control characters, changes of direction), and cuts off what is too long.
    pub fn of(text: impl AsRef<str>) -> Text {
        let text = text.as_ref();
        match text.char_indices().nth(MAX_CHARS) {
            None => Text(printable_lines(text).into_owned()),
            Some((end, _)) => {
                let (head, all) = (printable_lines(&text[..end]), text.chars().count());
                Text(format!("{head}… ({all} characters)"))
            }
        }
    }
}

impl Page {
    /// The page as HTML.
    ///
    /// # Errors
    /// [`JobError::Internal`].
    pub fn html(&self) -> Result<String, JobError> {
        let internal = |error: minijinja::Error| JobError::Internal(format!("{error:#}"));
        let mut environment = Environment::new();
        // By the ending of its name, what is put into it is escaped.
        environment.add_template("page.html", include_str!("page.html")).map_err(internal)?;
        let page = environment.get_template("page.html").map_err(internal)?;
        let style = include_str!("page.css");
        let shown = minijinja::Value::from(minijinja::value::Serde(self));
        page.render(context! { page => shown, style, beginning => BEGINNING }).map_err(internal)
    }
}

/// A whole number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A time that a person reads.
pub fn duration(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.clamp(0.0, 1e12) } else { 0.0 };
    let time = std::time::Duration::from_secs_f64(seconds);
    match time.as_secs() {
        0..10 => format!("{seconds:.1} s"),
        whole => humantime::format_duration(std::time::Duration::from_secs(whole)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_written_out() {
        assert_eq!(Text::of("a\u{202e}b\0\u{feff}").0, "a\\u{202e}b\\u{0}\\u{feff}");
        let long = Text::of("é".repeat(1000)).0;
        assert_eq!((long.chars().count(), long.ends_with("… (1000 characters)")), (300 + 19, true));
        assert_eq!(
            (grouped(0), grouped(1000), grouped(1_234_567)),
            ("0".into(), "1\u{202f}000".into(), "1\u{202f}234\u{202f}567".into())
        );
    }

    #[test]
    fn data_is_never_markup() {
        let hostile = "</td><script>alert('\"&')</script>";
        let mut section = Section::new("labels", "Labels");
        section.note(hostile);
        section.parts.push(Part::Heading(Text::of(hostile)));
        let table = Table::new(format!("labels-{hostile}"), hostile, &["label", "rows"]);
        section.table(table.with([vec![Cell::text(hostile), Cell::number(7)]]));
        let subtitle = Text::of(hostile);
        let page = Page { title: Text::of(hostile), subtitle, tiles: Vec::new(), sections: vec![section] };
        let html = page.html().unwrap_or_default();
        assert!(html.starts_with(BEGINNING) && html.contains("&lt;script&gt;"), "{html}");
        assert!(!html.contains("<script") && !html.contains("</td><s"), "{html}");
    }
}
