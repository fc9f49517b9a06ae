//! The columns of a job that scores choices: for each column its label and the label's probability.

use crate::choices::Choices;
use crate::choices::scores::ColumnScores;
use crate::journal::answer::Answer;
use crate::options::job::ReturnColumn;
use arrow::array::{ArrayRef, DictionaryArray, Float32Array, Int32Array, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use std::sync::Arc;

/// What the output has of a job's columns of choices.
#[derive(Clone, Debug)]
pub struct ChoiceColumns {
    /// Names and labels, in the order of the output.
    columns: Vec<(String, Vec<String>)>,
    prefix: String,
    probabilities: bool,
    mass: bool,
}

impl ChoiceColumns {
    /// Of a job's columns, with what `--return` adds.
    pub fn new(choices: &Choices, returns: &[ReturnColumn], prefix: &str) -> ChoiceColumns {
        ChoiceColumns {
            columns: choices.columns.iter().map(|c| (c.name.clone(), c.labels.clone())).collect(),
            prefix: prefix.into(),
            probabilities: returns.contains(&ReturnColumn::ChoiceProbabilities),
            mass: returns.contains(&ReturnColumn::ChoiceMass),
        }
    }

    /// The fields.
    pub fn fields(&self) -> Vec<Field> {
        let field = |name: String, kind| Field::new(format!("{}{name}", self.prefix), kind, true);
        let label = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let mut fields = Vec::new();
        for (name, labels) in &self.columns {
            fields.push(field(name.clone(), label.clone()));
            fields.push(field(format!("{name}_probability"), DataType::Float32));
            if self.probabilities {
                fields.push(field(format!("{name}_probabilities"), DataType::Struct(of_labels(labels))));
            }
            if self.mass {
                fields.push(field(format!("{name}_mass"), DataType::Float32));
            }
        }
        fields.push(field("num_input_tokens".into(), DataType::Int32));
        fields.push(field("error".into(), DataType::Utf8));
        fields
    }

    /// The columns of the answers to rows.
    pub fn arrays(&self, answers: &[Option<Answer>]) -> Vec<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for (i, (_, labels)) in self.columns.iter().enumerate() {
            let scores: Vec<Option<&ColumnScores>> = answers
                .iter()
                .map(|answer| answer.as_ref()?.choices.get(i).filter(|s| s.logprobs.len() == labels.len()))
                .collect();
            let of = |make: &dyn Fn(&ColumnScores) -> f32| -> ArrayRef {
                Arc::new(scores.iter().map(|scores| scores.map(make)).collect::<Float32Array>())
            };
            let keys: Int32Array = scores.iter().map(|scores| scores.map(|s| s.label() as i32)).collect();
            let texts = Arc::new(StringArray::from_iter_values(labels));
            arrays.push(Arc::new(DictionaryArray::<Int32Type>::new(keys, texts)));
            arrays.push(of(&|scores| scores.probability(scores.label())));
            if self.probabilities {
                let columns = (0..labels.len()).map(|label| of(&|scores| scores.probability(label)));
                let nulls = NullBuffer::from_iter(scores.iter().map(Option::is_some));
                arrays.push(Arc::new(StructArray::new(of_labels(labels), columns.collect(), Some(nulls))));
            }
            if self.mass {
                arrays.push(of(&ColumnScores::share));
            }
        }
        let inputs: Int32Array =
            answers.iter().map(|a| a.as_ref().and_then(|a| a.num_input_tokens).map(|n| n as i32)).collect();
        let errors: StringArray =
            answers.iter().map(|a| a.as_ref().and_then(|a| a.error.as_deref())).collect();
        arrays.extend([Arc::new(inputs) as ArrayRef, Arc::new(errors)]);
        arrays
    }
}

/// A field for each label.
fn of_labels(labels: &[String]) -> Fields {
    labels.iter().map(|label| Field::new(label, DataType::Float32, true)).collect()
}
