//! What the input's schema says of itself, as far as it holds for the output too.

use arrow::datatypes::Schema;
use serde_json::Value;
use std::collections::HashMap;

/// Descriptions of all columns in other tools' own terms: they would hide the columns that are generated.
const WHOLE_SCHEMA: [&str; 6] = [
    "ARROW:schema",
    "org.apache.spark.sql.parquet.row.metadata",
    "parquet.avro.schema",
    "avro.schema",
    "iceberg.schema",
    "parquet.proto.descriptor",
];

/// The metadata of the input for an output that keeps these columns.
pub fn kept_metadata(input: &Schema, kept: &[&str]) -> HashMap<String, String> {
    let entries = input
        .metadata()
        .iter()
        .filter(|(key, _)| !WHOLE_SCHEMA.contains(&key.as_str()) && !key.starts_with("gristmill."));
    let kept = |name: &str| kept.contains(&name);
    entries
        .filter_map(|(key, value)| {
            let value = match key.as_str() {
                "huggingface" => edited(value, |value| keep_features(value, &kept))?,
                "pandas" => edited(value, |value| keep_pandas(value, &kept))?,
                _ => value.clone(),
            };
            Some((key.clone(), value))
        })
        .collect()
}

/// JSON text with a change; none if it is no JSON.
fn edited(text: &str, edit: impl FnOnce(&mut Value)) -> Option<String> {
    let mut value = serde_json::from_str(text).ok()?;
    edit(&mut value);
    Some(value.to_string())
}

/// Hugging Face: the features by name.
fn keep_features(value: &mut Value, kept: &dyn Fn(&str) -> bool) {
    if let Some(features) = value.pointer_mut("/info/features").and_then(Value::as_object_mut) {
        features.retain(|name, _| kept(name));
    }
}

/// pandas: columns by their field's name, and which of them are the index. An index that counts rows stands there as an
/// object and holds as it is: pandas drops it where the number of rows is another.
fn keep_pandas(value: &mut Value, kept: &dyn Fn(&str) -> bool) {
    if let Some(columns) = value.get_mut("columns").and_then(Value::as_array_mut) {
        columns.retain(|column| {
            let name = column.get("field_name").or_else(|| column.get("name"));
            name.and_then(Value::as_str).is_none_or(kept)
        });
    }
    if let Some(index) = value.get_mut("index_columns").and_then(Value::as_array_mut) {
        index.retain(|column| column.as_str().is_none_or(kept));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_said_of_columns_that_are_left_out_goes_with_them() {
        let given = [
            ("huggingface", r#"{"info":{"features":{"id":{"dtype":"int64"},"label":{"names":["a"]}}}}"#),
            (
                "pandas",
                r#"{"index_columns":["__index_level_0__",{"kind":"range","start":0,"stop":3,"step":1}],"columns":[{"name":"id","field_name":"id"},{"name":"label","field_name":"label"},{"name":null,"field_name":"__index_level_0__"}]}"#,
            ),
            ("org.apache.spark.sql.parquet.row.metadata", "{}"),
            ("gristmill.identity", "another job's"),
            ("licence", "CC0"),
        ];
        let given = given.map(|(key, value)| (key.to_string(), value.to_string()));
        let schema = Schema::empty().with_metadata(given.clone().into_iter().collect::<HashMap<_, _>>());
        let kept = kept_metadata(&schema, &["id"]);
        assert_eq!(kept.len(), 3);
        assert_eq!(kept["licence"], "CC0");
        assert_eq!(kept["huggingface"], r#"{"info":{"features":{"id":{"dtype":"int64"}}}}"#);
        let pandas: Value = serde_json::from_str(&kept["pandas"]).unwrap();
        assert_eq!(pandas["index_columns"].as_array().unwrap().len(), 1);
        assert_eq!(pandas["columns"].as_array().unwrap().len(), 1);
        let all = kept_metadata(&schema, &["id", "label", "__index_level_0__"]);
        for key in ["huggingface", "pandas"] {
            let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let given = given.iter().find(|(name, _)| name == key).unwrap();
            assert_eq!(value(&all[key]), value(&given.1));
        }
    }
}
