//! The columns of a job of documents: what each document took, and its chunks.

use crate::journal::answer::{Answer, ChunkNote, DocumentAnswer};
use crate::options::job::ReturnColumn;
use crate::publish::answer_columns::AnswerColumns;
use arrow::array::{ArrayRef, Int32Array, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use std::sync::Arc;

/// What the output has of documents.
#[derive(Clone, Debug)]
pub struct DocumentColumns {
    chunks: bool,
    /// What the answers to chunks are under a schema.
    answers: Option<AnswerColumns>,
}

impl DocumentColumns {
    /// With what `--return` adds, and the answers to chunks under a schema, if they are asked for.
    pub fn new(returns: &[ReturnColumn], answers: Option<AnswerColumns>) -> DocumentColumns {
        DocumentColumns { chunks: returns.contains(&ReturnColumn::Chunks), answers }
    }

    /// The fields.
    pub fn fields(&self, prefix: &str) -> Vec<Field> {
        let field = |name: &str, kind| Field::new(format!("{prefix}{name}"), kind, true);
        let counts = ["num_chunks", "num_levels", "num_cut_notes"];
        let mut fields: Vec<Field> = counts.map(|name| field(name, DataType::Int32)).into();
        if self.chunks {
            fields.push(field("chunks", DataType::List(chunk())));
        }
        if let Some(answers) = &self.answers {
            fields.push(field("chunk_answers", DataType::List(item(answers.data_type()))));
        }
        fields
    }

    /// The columns of the answers to rows.
    pub fn arrays(&self, answers: &[Option<Answer>]) -> Vec<ArrayRef> {
        let documents: Vec<Option<&DocumentAnswer>> =
            answers.iter().map(|answer| answer.as_ref()?.document.as_ref()).collect();
        let count = |of: fn(&DocumentAnswer) -> u32| -> ArrayRef {
            Arc::new(documents.iter().map(|document| document.map(|d| of(d) as i32)).collect::<Int32Array>())
        };
        let mut arrays = vec![count(|d| d.num_chunks), count(|d| d.num_levels), count(|d| d.num_cut_notes)];
        let lists: Vec<Option<&Vec<ChunkNote>>> =
            documents.iter().map(|document| document.and_then(|d| d.chunks.as_ref())).collect();
        let all = || lists.iter().flatten().flat_map(|chunks| chunks.iter());
        let listed = |field, items| -> ArrayRef {
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
            let nulls = NullBuffer::from_iter(lists.iter().map(Option::is_some));
            Arc::new(ListArray::new(field, offsets, items, Some(nulls)))
        };
        if self.chunks {
            let items = StructArray::new(
                chunk_fields(),
                vec![
                    Arc::new(all().map(|chunk| chunk.start as i64).map(Some).collect::<Int64Array>()),
                    Arc::new(all().map(|chunk| chunk.end as i64).map(Some).collect::<Int64Array>()),
                    Arc::new(all().map(|chunk| chunk.text.as_deref()).collect::<StringArray>()),
                ],
                None,
            );
            arrays.push(listed(chunk(), Arc::new(items)));
        }
        if let Some(answers) = &self.answers {
            let texts: Vec<Option<&str>> =
                all().map(|chunk| chunk.text.as_deref().filter(|_| !chunk.cut)).collect();
            let rows: Vec<usize> = lists
                .iter()
                .enumerate()
                .flat_map(|(row, list)| std::iter::repeat_n(row, list.map_or(0, Vec::len)))
                .collect();
            arrays.push(listed(item(answers.data_type()), answers.answers(&texts, |at| rows[at])));
        }
        arrays
    }
}

fn chunk() -> Arc<Field> {
    item(DataType::Struct(chunk_fields()))
}

fn item(data_type: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", data_type, true))
}

fn chunk_fields() -> Fields {
    let field = |name: &str, kind| Field::new(name, kind, true);
    vec![field("start", DataType::Int64), field("end", DataType::Int64), field("text", DataType::Utf8)].into()
}
