//! Answers that can be counted: labels with their probabilities, and numbers.

use crate::report::page::{Cell, Part, Section, Table, Text};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use std::collections::BTreeMap;

/// Labels of a column beyond so many are counted together.
const MAX_LABELS: usize = 10_000;

/// Bins of probabilities.
const BINS: usize = 10;

/// The answers of a column, or of a field of one.
#[derive(Clone, Debug)]
pub struct ColumnTally {
    pub name: String,
    /// Values that are there, and those that are not.
    values: u64,
    nulls: u64,
    labels: BTreeMap<String, Label>,
    /// Those that are beyond [`MAX_LABELS`].
    others: u64,
    /// Of the labels' probabilities.
    bins: [u64; BINS],
    /// Probabilities that are no number from 0 to 1.
    strange: u64,
    numbers: Option<Numbers>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Label {
    rows: u64,
    probabilities: u64,
    sum: f64,
    min: f64,
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    finite: u64,
    sum: f64,
    min: f64,
    max: f64,
}

/// The columns by name, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Columns(Vec<ColumnTally>);

impl Columns {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn column(&mut self, name: &str) -> &mut ColumnTally {
        let at = self.0.iter().position(|column| column.name == name).unwrap_or_else(|| {
            let (labels, numbers) = (BTreeMap::new(), None);
            let name = name.to_string();
            let (values, nulls, others, bins, strange) = (0, 0, 0, [0; BINS], 0);
            self.0.push(ColumnTally { name, values, nulls, labels, others, bins, strange, numbers });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// A column that may have these labels; those that no row has are shown, too.
    pub fn expect(&mut self, name: &str, labels: &[String]) {
        let column = self.column(name);
        for label in labels {
            column.labels.entry(label.clone()).or_insert(Label { min: 1.0, ..Label::default() });
        }
    }

    /// Counts a column of labels, with their probabilities where there are any.
    pub fn add_labels(&mut self, name: &str, labels: &ArrayRef, probabilities: Option<&ArrayRef>) {
        let Ok(texts) = cast(labels, &DataType::Utf8) else { return };
        let probabilities = probabilities.and_then(|array| cast(array, &DataType::Float32).ok());
        let probabilities = probabilities.as_ref().map(|array| array.as_primitive::<Float32Type>());
        let column = self.column(name);
        for (row, text) in texts.as_string::<i32>().iter().enumerate() {
            let probability = probabilities.filter(|array| array.is_valid(row)).map(|array| array.value(row));
            column.add_label(text, probability.map(f64::from));
        }
    }

    /// Counts what can be counted of a column of typed answers: labels, booleans and numbers in structs and lists, and no
    /// text. Values are null where `nulls` says so.
    pub fn add_answers(
        &mut self,
        name: &str,
        array: &ArrayRef,
        probabilities: Option<&ArrayRef>,
        nulls: Option<&NullBuffer>,
    ) {
        let nulls = NullBuffer::union(nulls, array.nulls());
        match array.data_type() {
            DataType::Struct(fields) => {
                let (parts, of_parts) = (array.as_struct(), probabilities.and_then(|p| p.as_struct_opt()));
                for (field, part) in fields.iter().zip(parts.columns()) {
                    let probabilities = of_parts.and_then(|p| p.column_by_name(field.name()));
                    self.add_answers(
                        &format!("{name}.{}", field.name()),
                        part,
                        probabilities,
                        nulls.as_ref(),
                    );
                }
            }
            DataType::List(_) => {
                let items = |list: &ArrayRef| {
                    let list = list.as_list_opt::<i32>()?;
                    let (first, last) = (list.value_offsets().first()?, list.value_offsets().last()?);
                    Some(list.values().slice(*first as usize, (last - first) as usize))
                };
                let Some(values) = items(array) else { return };
                let probabilities = probabilities.and_then(items).filter(|p| p.len() == values.len());
                self.add_answers(&format!("{name}[]"), &values, probabilities.as_ref(), None);
            }
            DataType::Boolean | DataType::Dictionary(_, _) => {
                let nulls = nulls.unwrap_or_else(|| NullBuffer::new_valid(array.len()));
                let Ok(masked) = arrow::compute::nullif(array, &BooleanArray::new(!nulls.inner(), None))
                else {
                    return;
                };
                self.add_labels(name, &masked, probabilities);
            }
            kind if kind.is_numeric() => {
                let Ok(numbers) = cast(array, &DataType::Float64) else { return };
                let column = self.column(name);
                for (row, number) in numbers.as_primitive::<Float64Type>().iter().enumerate() {
                    let there = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                    column.add_number(number.filter(|_| there));
                }
            }
            _ => {}
        }
    }

    /// The part of the page.
    pub fn section(&self) -> Section {
        let mut section = Section::new("answers", "Answers");
        for column in &self.0 {
            column.show(&mut section);
        }
        section
    }
}

impl ColumnTally {
    fn add_label(&mut self, text: Option<&str>, probability: Option<f64>) {
        let Some(text) = text else {
            self.nulls += 1;
            return;
        };
        self.values += 1;
        let sound = probability.filter(|p| (0.0..=1.0).contains(p));
        self.strange += u64::from(probability.is_some() && sound.is_none());
        if let Some(p) = sound {
            self.bins[((p * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
        if self.labels.len() >= MAX_LABELS && !self.labels.contains_key(text) {
            self.others += 1;
            return;
        }
        let label = self.labels.entry(text.to_string()).or_insert(Label { min: 1.0, ..Label::default() });
        label.rows += 1;
        if let Some(p) = sound {
            label.probabilities += 1;
            label.sum += p;
            label.min = label.min.min(p);
        }
    }

    fn add_number(&mut self, number: Option<f64>) {
        let Some(number) = number else {
            self.nulls += 1;
            return;
        };
        self.values += 1;
        let none = Numbers { finite: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY };
        let numbers = self.numbers.get_or_insert(none);
        if number.is_finite() {
            numbers.finite += 1;
            numbers.sum += number;
            (numbers.min, numbers.max) = (numbers.min.min(number), numbers.max.max(number));
        }
    }

    fn show(&self, section: &mut Section) {
        section.parts.push(Part::Heading(Text::of(&self.name)));
        let mut about = vec![
            vec![Cell::text("values"), Cell::number(self.values)],
            vec![Cell::text("rows without one"), Cell::number(self.nulls)],
        ];
        if let Some(numbers) = self.numbers {
            let mean = (numbers.finite > 0).then(|| numbers.sum / numbers.finite as f64);
            let number =
                |number: f64| if number.is_finite() { Cell::number(number) } else { Cell::number("-") };
            about.extend([
                vec![Cell::text("least"), number(numbers.min)],
                vec![Cell::text("mean"), Cell::real(mean, 4)],
                vec![Cell::text("greatest"), number(numbers.max)],
            ]);
        } else {
            let distinct = self.labels.values().filter(|label| label.rows > 0).count();
            about.push(vec![Cell::text("distinct labels"), Cell::number(distinct)]);
        }
        if self.strange > 0 {
            about.push(vec![
                Cell::text("probabilities that are no number from 0 to 1"),
                Cell::number(self.strange),
            ]);
        }
        if self.others > 0 {
            about.push(vec![
                Cell::text(format!("values of labels beyond the first {MAX_LABELS}")),
                Cell::number(self.others),
            ]);
        }
        let id = |what: &str| format!("{what}-{}", self.name);
        section.table(Table::new(id("column"), "", &["", "count"]).pairs(about));
        if self.numbers.is_some() {
            return;
        }
        let mut labels: Vec<(&String, &Label)> = self.labels.iter().collect();
        labels.sort_by(|a, b| b.1.rows.cmp(&a.1.rows).then(a.0.cmp(b.0)));
        let with_probabilities = labels.iter().any(|(_, label)| label.probabilities > 0);
        let rows = labels.into_iter().map(|(text, label)| {
            let mut row =
                vec![Cell::text(text), Cell::number(label.rows), Cell::share(label.rows, self.values)];
            if with_probabilities {
                let any = label.probabilities > 0;
                row.push(Cell::real(any.then(|| label.sum / label.probabilities as f64), 4));
                row.push(Cell::real(any.then_some(label.min), 4));
            }
            row
        });
        let head = ["label", "rows", "share", "mean probability", "least probability"];
        let head = if with_probabilities { &head[..] } else { &head[..3] };
        section.table(Table::new(id("labels"), "Labels, the most frequent first", head).with(rows));
        if with_probabilities {
            let all = self.bins.iter().sum();
            let rows = self.bins.iter().enumerate().map(|(bin, &count)| {
                let (from, to) = (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64);
                vec![
                    Cell::text(format!("{from:.1} to {to:.1}")),
                    Cell::number(count),
                    Cell::share(count, all),
                ]
            });
            let caption = "How sure the model is: rows by the probability of their label";
            section.table(
                Table::new(id("probabilities"), caption, &["probability", "rows", "share"]).with(rows),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{DictionaryArray, Float32Array, Int64Array, StringArray, StructArray};
    use arrow::datatypes::{Field, Fields, Int32Type};
    use std::sync::Arc;

    #[test]
    fn labels_have_counts_and_probabilities_that_are_numbers() {
        let labels: ArrayRef =
            Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("a"), Some("a")]));
        let probabilities: ArrayRef = Arc::new(Float32Array::from(vec![
            Some(0.5),
            Some(f32::NAN),
            None,
            Some(1.0),
            Some(f32::INFINITY),
        ]));
        let mut columns = Columns::default();
        columns.add_labels("x", &labels, Some(&probabilities));
        let column = &columns.0[0];
        assert_eq!((column.values, column.nulls, column.strange), (4, 1, 2));
        let a = column.labels["a"];
        assert_eq!((a.rows, a.probabilities, a.sum, a.min), (3, 2, 1.5, 0.5));
        assert_eq!((column.bins[5], column.bins[9], column.bins.iter().sum()), (1, 1, 2));
    }

    /// A struct that is null has no values, whatever lies in its fields.
    #[test]
    fn answers_are_counted_field_by_field() {
        let kinds: DictionaryArray<Int32Type> = ["u", "v", "u"].into_iter().collect();
        let parts: Vec<ArrayRef> = vec![
            Arc::new(kinds),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(StringArray::from(vec!["secret"; 3])),
        ];
        let fields: Fields = ["kind", "count", "text"]
            .into_iter()
            .zip(&parts)
            .map(|(name, array)| Field::new(name, array.data_type().clone(), true))
            .collect();
        let nulls = NullBuffer::from(vec![true, false, true]);
        let answers: ArrayRef = Arc::new(StructArray::new(fields, parts, Some(nulls)));
        let mut columns = Columns::default();
        columns.add_answers("answer", &answers, None, None);
        let names: Vec<&str> = columns.0.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["answer.kind", "answer.count"]);
        assert_eq!((columns.0[0].labels["u"].rows, columns.0[0].labels.len(), columns.0[0].nulls), (2, 1, 1));
        let numbers = columns.0[1].numbers.unwrap();
        assert_eq!((numbers.sum, numbers.min, numbers.max, columns.0[1].nulls), (4.0, 1.0, 3.0, 1));
    }
}
