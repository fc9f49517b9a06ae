//! Which columns the names of a prompt's template stand for.

use crate::error::JobError;
use crate::input::Input;
use crate::input::row::refused_column;
use crate::prompt::rendering::MARK;
use crate::prompt::template::Template;
use crate::prompt::template::names::{Kind, ROW, Use};
use arrow::datatypes::DataType;
use std::collections::BTreeSet;

/// The columns that a template reads.
pub struct ReadColumns {
    /// Positions in the input, sorted.
    pub positions: Vec<usize>,
    /// Whether it reads any of them as a key of `row`.
    pub whole_row: bool,
}

/// The name by which a template reads the question of a column of choices.
pub const ASK: &str = "ask";

/// Finds the columns that a template reads. What is given besides is none of them, also where a column has its name, which
/// is then read as a key of `row`. `asks` says whether [`ASK`] is given, which no column may be called.
///
/// # Errors
/// [`JobError::Usage`] for a name that is no column and set nowhere, and for one that may be taken for another
/// thing than the column.
pub fn read_columns<'a>(
    template: &'a Template,
    input: &'a Input,
    given: &'a [&'a str],
    asks: bool,
) -> Result<ReadColumns, JobError> {
    let mut reading = Reading { template, input, given, asks, positions: BTreeSet::new(), whole_row: false };
    template.names().uses.iter().try_for_each(|used| reading.take(used))?;
    Ok(ReadColumns { positions: reading.positions.into_iter().collect(), whole_row: reading.whole_row })
}

struct Reading<'a> {
    template: &'a Template,
    input: &'a Input,
    given: &'a [&'a str],
    asks: bool,
    positions: BTreeSet<usize>,
    whole_row: bool,
}

impl Reading<'_> {
    fn take(&mut self, used: &Use) -> Result<(), JobError> {
        let Use { name, kind, line, reads } = used;
        let column = self.position(name);
        // A column of that name is all that `row` means then.
        let row_column = self.position(ROW);
        let refuse = |why: String| self.refused(why);
        let instead = if row_column.is_some() {
            "rename the column".into()
        } else {
            format!("read the column as {}", by_key(name))
        };
        match kind {
            Kind::Value if self.given.contains(&name.as_str()) => {}
            Kind::Value if self.asks && name == ASK => {
                if column.is_some() {
                    return refuse(format!(
                        "`{name}` (line {line}) is the question of a column of choices and also a column of the input; \
                         {instead}"
                    ));
                }
            }
            Kind::RowKey if row_column.is_some() && column.is_some() && !self.has_keys(row_column) => {
                return self.refused(format!(
                    "the input has a column `{ROW}`, so that {} (line {line}) reads a key of that column and not the \
                     column `{name}`; rename the column `{ROW}`",
                    by_key(name)
                ));
            }
            Kind::Row | Kind::RowKey if row_column.is_some() => self.positions.extend(row_column),
            Kind::Row => {
                self.positions.extend(0..self.input.schema.fields().len());
                self.whole_row = true;
            }
            Kind::RowKey => {
                let column = column.ok_or_else(|| self.unknown(used))?;
                self.may_be_read(column, used)?;
                self.positions.insert(column);
                self.whole_row = true;
            }
            Kind::Variable if column.is_some() && !reads.contains(name) => {
                return refuse(format!(
                    "`{name}` (line {line}) is a variable of the template and also a column of the input; rename \
                     the variable, or {instead}"
                ));
            }
            Kind::Literal if column.is_some() => {
                return refuse(format!(
                    "`{name}` (line {line}) is a literal and also a column of the input; {instead}"
                ));
            }
            Kind::Variable | Kind::Literal => {}
            Kind::Value if name == MARK && column.is_some() => {
                return refuse(format!("the column `{name}` cannot be read by a template; rename it"));
            }
            Kind::Value if let Some(column) = column => {
                self.may_be_read(column, used)?;
                self.positions.insert(column);
            }
            Kind::Call if column.is_some() => {
                return refuse(format!(
                    "`{name}` is called (line {line}), but it is a column of the input, and a column cannot be called; \
                     rename the column to use the function"
                ));
            }
            Kind::Value if self.template.is_function(name) => {
                return refuse(format!(
                    "`{name}` (line {line}) is a function and no column; call it as {name}(...), or name a column: the \
                     input has {}",
                    self.input.column_list()
                ));
            }
            Kind::Call if self.template.is_function(name) => {}
            // Out of its scope here, which rendering says if it comes to that.
            Kind::Value | Kind::Call if self.template.names().set.contains(name) => {}
            Kind::Value => return Err(self.unknown(used)),
            Kind::Call => {
                return refuse(format!(
                    "there is no function `{name}` (line {line}), and the template has no macro of that name"
                ));
            }
        }
        Ok(())
    }

    /// Refuses a column whose type no template can have.
    fn may_be_read(&self, column: usize, used: &Use) -> Result<(), JobError> {
        let Use { name, line, .. } = used;
        let why = refused_column(self.input.schema.field(column));
        why.map_or(Ok(()), |why| self.refused(format!("column `{name}` (line {line}): {why}")))
    }

    fn refused(&self, why: String) -> Result<(), JobError> {
        Err(JobError::Usage(format!("{}: {why}", self.template.what())))
    }

    /// Whether a column holds mappings.
    fn has_keys(&self, column: Option<usize>) -> bool {
        let kind = column.map(|column| self.input.schema.field(column).data_type());
        matches!(kind, Some(DataType::Struct(_) | DataType::Map(..)))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.input.schema.index_of(name).ok()
    }

    fn unknown(&self, used: &Use) -> JobError {
        let Use { name, line, .. } = used;
        let near = odd_columns(self.input).find(|odd| odd.contains(name.as_str()));
        let odd = near.or_else(|| odd_columns(self.input).next());
        let odd = odd.map_or(String::new(), |odd| {
            format!(". A column whose name is not one word is read as {}", by_key(odd))
        });
        JobError::Usage(format!(
            "{}: the input has no column `{name}` (line {line}), and the template does not set it; it has {}{odd}",
            self.template.what(),
            self.input.column_list()
        ))
    }
}

/// How a template prints a column.
pub fn printed(name: &str) -> String {
    if is_plain(name) { format!("{{{{ {name} }}}}") } else { format!("{{{{ {} }}}}", by_key(name)) }
}

/// How a template reads a column of any name.
fn by_key(name: &str) -> String {
    let quoted = name.replace('\\', "\\\\").replace('\'', "\\'");
    format!("{ROW}['{quoted}']")
}

/// Columns whose names a template cannot write as they are.
fn odd_columns(input: &Input) -> impl Iterator<Item = &str> {
    input.schema.fields().iter().map(|field| field.name().as_str()).filter(|name| !is_plain(name))
}

/// Whether a template can write a name as it is.
fn is_plain(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c == '_' || c.is_alphabetic());
    let keyword = matches!(name, "not" | "true" | "false" | "none" | "True" | "False" | "None");
    first && chars.all(|c| c == '_' || c.is_alphanumeric()) && !keyword
}

/// The error of a template that does not parse; if it holds the name of a column that cannot be written there, with
/// how it can.
pub fn with_hint(error: JobError, source: &str, input: &Input) -> JobError {
    match (error, odd_columns(input).find(|name| !name.is_empty() && source.contains(name))) {
        (JobError::Template { what, why }, Some(name)) => {
            let why = format!("{why}. The column `{name}` is read as {}", by_key(name));
            JobError::Template { what, why }
        }
        (error, _) => error,
    }
}

/// A column that stands in one pair of braces, which is plain text.
pub fn in_single_braces<'a>(source: &str, input: &'a Input) -> Option<&'a str> {
    let names = input.schema.fields().iter().map(|field| field.name().as_str());
    names.into_iter().filter(|name| !name.is_empty()).find(|name| {
        let braced = format!("{{{name}}}");
        source.match_indices(&braced).any(|(at, _)| {
            !source[..at].ends_with(['{', '$']) && !source[at + braced.len()..].starts_with('}')
        })
    })
}

/// The refusal of a template that gives every row the same prompt.
pub fn constant(source: &str, input: &Input) -> JobError {
    let first = input.schema.fields().first().map_or("question", |field| field.name().as_str());
    let hint = match in_single_braces(source, input) {
        Some(name) => format!("{{{name}}} is plain text: write {}", printed(name)),
        None => format!("name one as in {} (the input has {})", printed(first), input.column_list()),
    };
    JobError::Usage(format!(
        "--prompt uses no column, so that every row would have the same prompt; {hint}, or give \
         --allow-constant-prompt if that is meant"
    ))
}
