//! Which columns of choices a job answers.

use crate::error::JobError;
use clap::ValueEnum;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A job with columns scores choices and generates no text.
#[derive(clap::Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Columns of choices")]
pub struct ColumnsOptions {
    /// Answer each row with one of these choices, in a column NAME [default: label], and do not generate text; `\,` is a
    /// comma, `\=` an equals sign and `\\` a backslash; may be repeated.
    #[arg(long, value_name = "[NAME=]CHOICE,...", allow_hyphen_values = true)]
    pub choices: Vec<String>,
    /// The same as JSON: {"NAME": {"ask": "...", "choices": ["a", "b"]}, ...}; in a job file tables [columns.NAME].
    #[arg(long, value_name = "JSON", value_parser = parse_columns)]
    pub columns: Option<Columns>,
}

/// Columns by name, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns(Vec<(String, ColumnTable)>);

/// The keys of a column's table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ColumnTable {
    ask: Option<String>,
    choices: Vec<String>,
    #[serde(default, deserialize_with = "calibrate")]
    calibrate: Option<Calibrate>,
}

/// A column's table, or an error that says how one is written.
struct Written(ColumnTable);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a table, as in {"choices": ["a", "b"]}"#)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Written, A::Error> {
                ColumnTable::deserialize(MapAccessDeserializer::new(map)).map(Written)
            }
        }
        deserializer.deserialize_any(Table)
    }
}

fn calibrate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Calibrate>, D::Error> {
    struct Named;
    impl Visitor<'_> for Named {
        type Value = Option<Calibrate>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(r#"calibrate = "content-free""#)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<Calibrate>, E> {
            Ok(None)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<Calibrate>, E> {
            let known = <Calibrate as ValueEnum>::from_str(text, false).ok();
            known.map(Some).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Named)
}

/// A column to answer with one of its choices.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnOptions {
    pub name: String,
    /// What follows the row's prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
    /// The labels, in order: of equally likely ones the first is the answer.
    pub choices: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<Calibrate>,
}

/// How the probabilities of choices are calibrated.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibrate {
    /// Divide by the probabilities for a row without content.
    ContentFree,
}

impl ColumnsOptions {
    /// The columns in their order, those of `--columns` first.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the column or the choice that is wrong.
    pub fn resolve(self) -> Result<Vec<ColumnOptions>, JobError> {
        let tables = self.columns.unwrap_or_default().0.into_iter().map(|(name, table)| {
            let ColumnTable { ask, choices, calibrate } = table;
            ColumnOptions { name, ask, choices, calibrate }
        });
        let mut columns: Vec<ColumnOptions> = tables.collect();
        for given in &self.choices {
            let (name, choices) = split_choices(given);
            columns.push(ColumnOptions { name, ask: None, choices, calibrate: None });
        }
        for (i, column) in columns.iter().enumerate() {
            column.check()?;
            if columns[..i].iter().any(|before| before.name == column.name) {
                return Err(JobError::Usage(format!("the column `{}` is named twice", column.name)));
            }
        }
        Ok(columns)
    }
}

impl ColumnOptions {
    /// Checks what needs no tokenizer.
    fn check(&self) -> Result<(), JobError> {
        let ColumnOptions { name, ask, choices, .. } = self;
        let wrong = |why: String| Err(JobError::Usage(format!("column `{name}`: {why}")));
        if name.is_empty() {
            return Err(JobError::Usage("a column of choices has no name".into()));
        }
        if ask.as_ref().is_some_and(|ask| ask.trim().is_empty()) {
            return wrong("`ask` is empty; leave it out to ask the prompt as it is".into());
        }
        if choices.len() < 2 {
            return wrong("give at least two choices".into());
        }
        for (i, choice) in choices.iter().enumerate() {
            if choice.is_empty() {
                return wrong(format!("choice {} is empty", i + 1));
            }
            if choices[..i].contains(choice) {
                return wrong(format!("the choice {choice:?} is there twice"));
            }
        }
        Ok(())
    }
}

/// The name and the choices of `NAME=a,b`. `\,`, `\=` and `\\` are the characters behind the backslash; before any other it stands
/// for itself. The first `=` ends the name, unless a comma comes before it. Spaces are of a choice: with `--raw` they matter.
fn split_choices(given: &str) -> (String, Vec<String>) {
    let (mut name, mut may_be_name) = (None, true);
    let mut choices = vec![String::new()];
    let mut characters = given.chars().peekable();
    while let Some(c) = characters.next() {
        let last = choices.len() - 1;
        match c {
            '\\' => {
                let escaped = characters.next_if(|next| [',', '=', '\\'].contains(next)).unwrap_or(c);
                may_be_name &= escaped != ',';
                choices[last].push(escaped);
            }
            '=' if may_be_name => {
                name = Some(choices[last].trim().to_string());
                choices[last].clear();
                may_be_name = false;
            }
            ',' => {
                choices.push(String::new());
                may_be_name = false;
            }
            c => choices[last].push(c),
        }
    }
    (name.unwrap_or_else(|| "label".to_string()), choices)
}

fn parse_columns(text: &str) -> Result<Columns, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// In the order of the text, and without losing a name that is there twice, as a map would.
impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let Written(table) = map
                        .next_value()
                        .map_err(|why| A::Error::custom(format!("column `{name}`: {why}")))?;
                    columns.push((name, table));
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn resolve(choices: &[&str], columns: Option<&str>) -> Result<Vec<ColumnOptions>, String> {
        let columns = columns.map(parse_columns).transpose()?;
        let choices = choices.iter().map(|c| c.to_string()).collect();
        ColumnsOptions { choices, columns }.resolve().map_err(|error| error.to_string())
    }

    #[test]
    fn choices_are_named_or_a_label() {
        assert_eq!(split_choices("a,b"), ("label".into(), vec!["a".into(), "b".into()]));
        assert_eq!(split_choices("mood=good, bad"), ("mood".into(), vec!["good".into(), " bad".into()]));
        assert_eq!(split_choices(r"x=a\,b,c\d"), ("x".into(), vec!["a,b".into(), r"c\d".into()]));
        // An equals sign behind the first comma is part of a choice.
        assert_eq!(split_choices("a,b=c"), ("label".into(), vec!["a".into(), "b=c".into()]));
        assert_eq!(split_choices(r"\,=,b"), ("label".into(), vec![",=".into(), "b".into()]));
        assert_eq!(split_choices(r"a\=b,c"), ("label".into(), vec!["a=b".into(), "c".into()]));
        assert_eq!(
            split_choices(r"a\=b=c=d,e\\,f"),
            ("a=b".into(), vec!["c=d".into(), r"e\".into(), "f".into()])
        );
        assert_eq!(split_choices(r"x=a\\\,b,\n"), ("x".into(), vec![r"a\,b".into(), r"\n".into()]));
    }

    #[test]
    fn columns_keep_their_order() {
        let json =
            r#"{"z": {"choices": ["1", "2"]}, "a": {"choices": ["1", "2"], "calibrate": "content-free"}}"#;
        let columns = resolve(&["m=x,y"], Some(json)).unwrap();
        assert_eq!(columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
        assert_eq!(columns[1].calibrate, Some(Calibrate::ContentFree));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (choices, columns, why) in [
            (&["a=x,y", "a=z,w"][..], None, "`a` is named twice"),
            (&["x,y"], Some(r#"{"label": {"choices": ["a", "b"]}}"#), "`label` is named twice"),
            (&[], Some(r#"{"a": {"choices": ["x", "y"]}, "a": {"choices": ["x", "y"]}}"#), "named twice"),
            (&["a=x,,y"], None, "column `a`: choice 2 is empty"),
            (&["a=x,y,x"], None, "column `a`: the choice \"x\" is there twice"),
            (&["=x,y"], None, "has no name"),
            (&["a=x"], None, "column `a`: give at least two choices"),
            (&[], Some(r#"{"a": {"ask": " ", "choices": ["x", "y"]}}"#), "`ask` is empty"),
            (&[], Some(r#"{"a": {"choice": ["x", "y"]}}"#), "column `a`: unknown field `choice`"),
            (&[], Some(r#"["a"]"#), "an object of columns by name"),
            (
                &[],
                Some(r#"{"s": ["a", "b"]}"#),
                r#"column `s`: invalid type: sequence, expected a table, as in {"choices": ["a", "b"]}"#,
            ),
            (
                &[],
                Some(r#"{"s": {"choices": ["a", "b"], "calibrate": true}}"#),
                r#"invalid type: boolean `true`, expected calibrate = "content-free""#,
            ),
        ] {
            let error = resolve(choices, columns).unwrap_err();
            assert!(error.contains(why), "{choices:?} {columns:?}: {error}");
        }
    }
}
