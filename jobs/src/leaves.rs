//! What is below the lists, structs and maps of a type.

use arrow::datatypes::{DataType, Field, Fields};
use std::sync::Arc;

/// A field whose leaves, in their order, are what `map` makes of them.
pub fn map_leaves(field: &Field, map: &mut dyn FnMut(&Field) -> Field) -> Field {
    let mut below = |field: &Field| Arc::new(map_leaves(field, map));
    let kind = match field.data_type() {
        DataType::List(item) => DataType::List(below(item)),
        DataType::LargeList(item) => DataType::LargeList(below(item)),
        DataType::ListView(item) => DataType::ListView(below(item)),
        DataType::LargeListView(item) => DataType::LargeListView(below(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(below(item), *size),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| below(field)).collect::<Fields>())
        }
        DataType::Map(entries, sorted) => DataType::Map(below(entries), *sorted),
        _ => return map(field),
    };
    field.clone().with_data_type(kind)
}

/// Whether a leaf, or the values of a dictionary that is one, is of a type.
pub fn has_leaf(field: &Field, is: &dyn Fn(&DataType) -> bool) -> bool {
    let mut found = false;
    map_leaves(field, &mut |leaf| {
        found |= match leaf.data_type() {
            DataType::Dictionary(_, values) => is(values),
            kind => is(kind),
        };
        leaf.clone()
    });
    found
}
