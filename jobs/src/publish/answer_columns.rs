//! The column of answers under a JSON Schema, in the types that the schema says.

use crate::schema::AnswerSchema;
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use std::sync::Arc;

/// What the output has of answers under a schema.
#[derive(Clone, Debug)]
pub struct AnswerColumns {
    schema: Arc<AnswerSchema>,
}

impl AnswerColumns {
    /// Of a job's schema.
    pub fn new(schema: AnswerSchema) -> AnswerColumns {
        AnswerColumns { schema: Arc::new(schema) }
    }

    /// The field of an answer: null where the row has an error.
    pub fn field(&self, prefix: &str) -> Field {
        Field::new(format!("{prefix}answer"), self.data_type(), true)
    }

    /// The type of an answer.
    pub fn data_type(&self) -> DataType {
        self.schema.data_type()
    }

    /// The answers that texts are. `row` says which row a text is of.
    pub fn array(&self, texts: &[Option<&str>], row: impl Fn(usize) -> usize) -> ArrayRef {
        let (array, wrong) = self.schema.array(texts);
        for at in wrong {
            let row = row(at);
            tracing::warn!(row, "the generated text is no answer of the schema; its `answer` is null");
        }
        array
    }
}
