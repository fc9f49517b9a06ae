//! Random schemas: answers that the masks allow read back from their column as they were written.

use super::{AnswerSchema, accepts, compile};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A schema of typed values, and values of it.
fn case() -> impl Strategy<Value = (Value, Vec<Value>)> {
    let leaf = prop_oneof![
        Just((json!({ "type": "integer" }), json!([0, -7, 9_223_372_036_854_774_784i64]))),
        Just((json!({ "type": "integer", "minimum": 3, "maximum": 120 }), json!([3, 44, 120]))),
        Just((json!({ "type": "number" }), json!([0.5, -3, 1234567.25]))),
        Just((json!({ "type": "boolean" }), json!([true, false, true]))),
        Just((json!({ "type": "string" }), json!(["", "é\n\"", "mill"]))),
        Just((json!({ "type": "string", "pattern": "^[a-c]{1,3}$" }), json!(["a", "cab", "bb"]))),
        Just((json!({ "enum": ["wheat", "rye", "oat"] }), json!(["rye", "oat", "wheat"]))),
        Just((json!({ "type": ["string", "null"] }), json!([null, "x", null]))),
        Just((json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] }), json!([null, 5, -1]))),
    ];
    let leaf = leaf.prop_map(|(schema, values)| (schema, values.as_array().cloned().unwrap_or_default()));
    leaf.prop_recursive(3, 12, 4, |inner| {
        let list = (inner.clone(), 0usize..3).prop_map(|((schema, values), take)| {
            let lists = vec![json!(values[..take]), json!([]), json!(values)];
            (json!({ "type": "array", "items": schema, "maxItems": 3 }), lists)
        });
        let object = prop::collection::vec((inner, any::<bool>()), 1..4).prop_map(|fields| {
            let (mut properties, mut required) = (Map::new(), Vec::new());
            let mut values = vec![Map::new(); 3];
            for (i, ((schema, of), needed)) in fields.into_iter().enumerate() {
                let name = format!("field {i}");
                for (row, value) in values.iter_mut().enumerate() {
                    // An optional property that is null reads back as one that is not there.
                    if needed || (row != 1 && !of[row].is_null()) {
                        value.insert(name.clone(), of[row].clone());
                    }
                }
                properties.insert(name.clone(), schema);
                required.extend(needed.then_some(name));
            }
            let schema = json!({
                "type": "object", "properties": properties, "required": required, "additionalProperties": false
            });
            (schema, values.into_iter().map(Value::from).collect())
        });
        prop_oneof![list, object]
    })
}

/// A value of an array; of an object, nulls that are not required are left out.
fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => {
            let float = array.as_primitive::<Float64Type>().value(row);
            if float.fract() == 0.0 { (float as i64).into() } else { float.into() }
        }
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Dictionary(..) => {
            let labels = array.as_dictionary::<Int32Type>();
            labels.values().as_string::<i32>().value(labels.key(row).unwrap()).into()
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|i| value(&items, i)).collect()
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            columns.map(|(field, column)| (field.name().clone(), value(column, row))).collect()
        }
        other => panic!("{other}"),
    }
}

/// Without properties that are null.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(keys) => {
            let there = keys.iter().filter(|(_, value)| !value.is_null());
            there.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        value => value.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answers_read_back_from_their_column((schema, values) in case()) {
        let matcher = compile(&schema).unwrap();
        let texts: Vec<String> = values.iter().map(Value::to_string).collect();
        for text in &texts {
            prop_assert!(accepts(&matcher, text), "{schema} refuses {text}");
        }
        let read = AnswerSchema::read(&schema).unwrap();
        let some: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        let (array, wrong) = read.array(&some);
        prop_assert!(wrong.is_empty() && read.untyped().is_empty());
        prop_assert_eq!(array.data_type(), &read.data_type());
        for (row, want) in values.iter().enumerate() {
            prop_assert_eq!(without_nulls(&value(&array, row)), without_nulls(want));
        }
    }
}
