//! The columns of a job of documents: what each document took, and its chunks.

use crate::journal::answer::{Answer, ChunkNote, DocumentAnswer};
use crate::options::job::ReturnColumn;
use arrow::array::{ArrayRef, Int32Array, Int64Array, ListArray, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use std::sync::Arc;

/// What the output has of documents.
#[derive(Clone, Copy, Debug)]
pub struct DocumentColumns {
    chunks: bool,
}

impl DocumentColumns {
    /// With what `--return` adds.
    pub fn of(returns: &[ReturnColumn]) -> DocumentColumns {
        DocumentColumns { chunks: returns.contains(&ReturnColumn::Chunks) }
    }

    /// The fields.
    pub fn fields(&self, prefix: &str) -> Vec<Field> {
        let field = |name: &str, kind| Field::new(format!("{prefix}{name}"), kind, true);
        let counts = ["num_chunks", "num_levels", "num_cut_notes"];
        let mut fields: Vec<Field> = counts.map(|name| field(name, DataType::Int32)).into();
        if self.chunks {
            fields.push(field("chunks", DataType::List(chunk())));
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
        if self.chunks {
            let lists: Vec<Option<&Vec<ChunkNote>>> =
                documents.iter().map(|document| document.and_then(|d| d.chunks.as_ref())).collect();
            let all = || lists.iter().flatten().flat_map(|chunks| chunks.iter());
            let items = StructArray::new(
                chunk_fields(),
                vec![
                    Arc::new(all().map(|chunk| chunk.start as i64).map(Some).collect::<Int64Array>()),
                    Arc::new(all().map(|chunk| chunk.end as i64).map(Some).collect::<Int64Array>()),
                    Arc::new(all().map(|chunk| chunk.text.as_deref()).collect::<StringArray>()),
                ],
                None,
            );
            let offsets = OffsetBuffer::from_lengths(lists.iter().map(|list| list.map_or(0, Vec::len)));
            let nulls = NullBuffer::from_iter(lists.iter().map(Option::is_some));
            arrays.push(Arc::new(ListArray::new(chunk(), offsets, Arc::new(items), Some(nulls))));
        }
        arrays
    }
}

fn chunk() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(chunk_fields()), true))
}

fn chunk_fields() -> Fields {
    let field = |name: &str, kind| Field::new(name, kind, true);
    vec![field("start", DataType::Int64), field("end", DataType::Int64), field("text", DataType::Utf8)].into()
}
