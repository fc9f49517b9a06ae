#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::markers::Markers;
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields};
use std::sync::Arc;

fn rows(column: &dyn Array) -> Vec<String> {
    let markers = Markers::default();
    (0..column.len())
        .map(|row| match row_messages(column, row, &Marking::plain(&markers)) {
            Ok(messages) => Value::from(messages).to_string(),
            Err(error) => format!("! {error}"),
        })
        .collect()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn structs(columns: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let field = |(name, array): (&str, ArrayRef)| {
        (Arc::new(Field::new(name, array.data_type().clone(), true)), array)
    };
    Arc::new(StructArray::from(columns.into_iter().map(field).collect::<Vec<_>>()))
}

/// A list for each number, of so many items.
fn lists(items: ArrayRef, lengths: &[usize]) -> ArrayRef {
    let field = Arc::new(Field::new("item", items.data_type().clone(), true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths.iter().copied());
    Arc::new(ListArray::new(field, offsets, items, None))
}

#[test]
fn a_null_field_is_absent_and_one_that_cannot_be_given_is_an_error_where_it_is_used() {
    let name = structs(vec![
        ("city", texts(&[None, Some("Ulm")])),
        ("order", Arc::new(Int64Array::from(vec![7, 8]))),
    ]);
    let calls = lists(structs(vec![("arguments", name)]), &[0, 2]);
    let items = structs(vec![
        ("role", texts(&[Some("user"), Some("assistant")])),
        ("content", texts(&[Some("hi"), None])),
        ("image", Arc::new(BinaryArray::from(vec![Some(&b"x"[..]), None]))),
        ("name", texts(&[None, None])),
        ("tool_calls", calls),
    ]);
    let column = lists(items, &[2]);
    let markers = Markers::default();
    let messages = row_messages(&column, 0, &Marking::plain(&markers)).unwrap();
    let keys = |i: usize| messages[i].try_iter().unwrap().map(|key| key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys(0), ["role", "content", "image", "tool_calls"]);
    assert_eq!(keys(1), ["role", "tool_calls"]);
    let shown = messages[1].get_attr("tool_calls").unwrap().to_string();
    assert_eq!(shown, "[{'arguments': {'order': 7}}, {'arguments': {'city': 'Ulm', 'order': 8}}]");
    let template =
        crate::prompt::template::Template::new("t", "{{ m.role }}{% if seen %}{{ m.image }}{% endif %}", 0);
    let render = |seen: bool| {
        let context = [("m", messages[0].clone()), ("seen", Value::from(seen))];
        template.as_ref().unwrap().render(Value::from_pairs(context), 0)
    };
    assert_eq!(render(false).unwrap(), "user");
    assert!(render(true).unwrap_err().contains("field image of this row: a template cannot use Binary"));
}

#[test]
fn parts_of_text_are_kept_and_others_are_errors() {
    let url = structs(vec![("url", texts(&[None, None, Some("http://x"), None]))]);
    let url = {
        let nulls = Some(vec![false, false, true, false].into());
        let url = url.as_struct();
        Arc::new(StructArray::new(url.fields().clone(), url.columns().to_vec(), nulls)) as ArrayRef
    };
    let parts = structs(vec![
        ("type", texts(&[Some("text"), Some("text"), Some("image_url"), Some("text")])),
        ("text", texts(&[Some("Late"), Some(" parcel"), None, None])),
        ("image_url", url),
    ]);
    let items = structs(vec![("role", texts(&[Some("user"); 3])), ("content", lists(parts, &[2, 1, 1]))]);
    let shown = rows(&lists(items, &[1, 1, 1]));
    let expected = "[{'role': 'user', 'content': [{'type': 'text', 'text': 'Late'}, {'type': 'text', 'text': ' parcel'}]}]";
    assert_eq!(shown[0], expected);
    assert!(
        shown[1].starts_with("! bad messages: message 0: part 0 of its content is of type \"image_url\""),
        "{}",
        shown[1]
    );
    assert_eq!(shown[2], "! bad messages: message 0: part 0 of its content has no text");
}

#[test]
fn share_gpt_and_json_text_are_conversations() {
    let items = structs(vec![
        ("from", texts(&[Some("system"), Some("human"), Some("gpt"), Some("narrator")])),
        ("value", texts(&[Some("be"), Some("hi"), Some("yo"), Some("x")])),
    ]);
    let column = lists(items, &[3, 1]);
    assert!(is_conversation(column.data_type()));
    let messages = row_messages(&column, 0, &Marking::plain(&Markers::default())).unwrap();
    let get = |key: &str| messages.iter().map(|m| m.get_attr(key).unwrap().to_string()).collect::<Vec<_>>();
    assert_eq!(
        (get("role"), get("content")),
        (
            ["system", "user", "assistant"].map(String::from).into(),
            ["be", "hi", "yo"].map(String::from).into()
        )
    );
    assert!(rows(&column)[1].contains("it is from \"narrator\"; known are human"), "{}", rows(&column)[1]);
    let json = texts(&[
        Some(r#"[{"role": "user", "content": "hi", "name": null}]"#),
        Some(r#"[{"from": "human", "value": "hi"}]"#),
        Some("hello"),
        Some(r#"{"role": "user"}"#),
        Some(r#"["hi"]"#),
        Some("[]"),
    ]);
    let shown = rows(&json);
    assert_eq!(shown[0], "[{'role': 'user', 'content': 'hi', 'name': None}]");
    assert!(shown[1].contains("'role': 'user', 'content': 'hi'"), "{}", shown[1]);
    assert!(shown[2].contains("the text is not a JSON list of messages"), "{}", shown[2]);
    assert!(shown[3].starts_with("! bad messages: it is a list of structs"), "{}", shown[3]);
    assert!(
        shown[4].contains("message 0: it is a string, not a message with role and content"),
        "{}",
        shown[4]
    );
    assert_eq!(shown[5], "! bad messages: the list is empty");
}

#[test]
fn types_that_are_no_conversations_are_known() {
    let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let message = DataType::Struct(Fields::from(vec![text("role"), text("content")]));
    assert!(is_conversation(&list(message.clone())) && may_hold_messages(&DataType::Utf8));
    for kind in [message.clone(), list(DataType::Utf8), list(list(message)), DataType::Int64] {
        assert!(!may_hold_messages(&kind), "{kind}");
    }
}
