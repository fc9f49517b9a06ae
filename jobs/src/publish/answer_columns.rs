//! The column of answers under a JSON Schema, in the types that the schema says.

use crate::schema::AnswerSchema;
use crate::schema::chosen::Chosen;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// What the output has of answers under a schema.
#[derive(Clone, Debug)]
pub struct AnswerColumns {
    schema: Arc<AnswerSchema>,
    /// The values whose probabilities the output has.
    fields: Option<Arc<Chosen>>,
}

impl AnswerColumns {
    /// Of a job's schema.
    pub fn new(schema: AnswerSchema) -> AnswerColumns {
        AnswerColumns { schema: Arc::new(schema), fields: None }
    }

    /// With a column of the probabilities of these values.
    pub fn with_fields(self, fields: Chosen) -> AnswerColumns {
        AnswerColumns { fields: Some(Arc::new(fields)), ..self }
    }

    /// The values whose probabilities the output has.
    pub fn chosen(&self) -> Option<Arc<Chosen>> {
        self.fields.clone()
    }

    /// The columns: the answer, and the probabilities of its values; null where the row has an error.
    pub fn fields(&self, prefix: &str) -> Vec<Field> {
        let answer = Field::new(format!("{prefix}answer"), self.data_type(), true);
        let of = |fields: &Arc<Chosen>| {
            Field::new(format!("{prefix}answer_probabilities"), fields.data_type(), true)
        };
        [answer].into_iter().chain(self.fields.as_ref().map(of)).collect()
    }

    /// The type of an answer.
    pub fn data_type(&self) -> DataType {
        self.schema.data_type()
    }

    /// The answers that texts are. `row` says which row a text is of.
    pub fn answers(&self, texts: &[Option<&str>], row: impl Fn(usize) -> usize) -> ArrayRef {
        let (array, wrong) = self.schema.array(texts);
        for at in wrong {
            let row = row(at);
            tracing::warn!(row, "the generated text is no answer of the schema; its `answer` is null");
        }
        array
    }

    /// The columns of texts that are whole answers, each with the probabilities of its values. `row` says which row a text is
    /// of.
    pub fn arrays(
        &self,
        texts: &[Option<&str>],
        probabilities: &[&[f32]],
        row: impl Fn(usize) -> usize,
    ) -> Vec<ArrayRef> {
        let of = |fields: &Arc<Chosen>| {
            let answers = texts.iter().zip(probabilities);
            fields.array(&answers.map(|(text, given)| text.map(|text| (text, *given))).collect::<Vec<_>>())
        };
        let fields = self.fields.as_ref().map(of);
        [self.answers(texts, row)].into_iter().chain(fields).collect()
    }
}
