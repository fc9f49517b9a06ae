//! Answers under random schemas: each that is whole is valid by a validator that is not ours, and its column has the types
//! that were promised and the values of its text. GRISTMILL_SCHEMAS says how many schemas.

#![allow(clippy::unwrap_used)]

#[path = "support/forbidden.rs"]
mod forbidden;
#[path = "support/random_schema.rs"]
mod random_schema;
mod support;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Float64Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use jobs::schema::AnswerSchema;
use random_schema::{Made, is_endless};
use serde_json::{Value, json};
use std::path::Path;
use support::job::{Bench, Ran, read, text};

const MESSAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/messages.parquet");
const MAX_TOKENS: u64 = 400;

/// Whether the validator takes an answer.
fn validate(schema: &Value, answer: &Value) -> Result<(), String> {
    let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
    validator.validate(answer).map_err(|error| format!("{error} at {}", error.instance_path()))
}

/// A day of the Gregorian calendar, counted from 1970 (Hinnant, `days_from_civil`).
fn day(text: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Microseconds from midnight in UTC, which may be those of another day.
fn time(text: &str) -> i64 {
    let number = |text: &str| text.parse::<i64>().unwrap();
    let minutes = |text: &str| 60 * number(&text[0..2]) + number(&text[3..5]);
    let rest = &text[8..];
    let zone = rest.find(['Z', '+', '-']).unwrap();
    let fraction = rest[..zone].strip_prefix('.').map_or(0, |digits| number(&format!("{digits:0<6}")));
    let offset = match rest[zone..].split_at(1) {
        ("+", offset) => minutes(offset),
        ("-", offset) => -minutes(offset),
        _ => 0,
    };
    (60 * (minutes(text) - offset) + number(&text[6..8])) * 1_000_000 + fraction
}

/// Whether an array has a value at a row; a property that is not there is null.
fn holds(array: &ArrayRef, row: usize, value: &Value) -> bool {
    if value.is_null() {
        return array.is_null(row);
    }
    let written = || value.as_str().unwrap();
    array.is_valid(row)
        && match array.data_type() {
            DataType::Int64 => {
                let zero = value.as_f64().filter(|float| *float == 0.0).map(|_| 0);
                value.as_i64().or(zero) == Some(array.as_primitive::<Int64Type>().value(row))
            }
            DataType::Float64 => value.as_f64() == Some(array.as_primitive::<Float64Type>().value(row)),
            DataType::Boolean => *value == array.as_boolean().value(row),
            DataType::Date32 => day(written()) == i64::from(array.as_primitive::<Date32Type>().value(row)),
            DataType::Time64(_) => {
                let day_long = 86_400_000_000;
                time(written()).rem_euclid(day_long)
                    == array.as_primitive::<Time64MicrosecondType>().value(row)
            }
            DataType::Timestamp(..) => {
                let (date, clock) = written().split_at(11);
                let moment = array.as_primitive::<TimestampMicrosecondType>().value(row);
                day(date) * 86_400_000_000 + time(clock) == moment
            }
            DataType::Dictionary(..) => {
                let labels = array.as_dictionary::<Int32Type>();
                *value == labels.values().as_string::<i32>().value(labels.key(row).unwrap())
            }
            DataType::List(_) => {
                let (items, values) = (array.as_list::<i32>().value(row), value.as_array().unwrap());
                items.len() == values.len()
                    && values.iter().enumerate().all(|(i, value)| holds(&items, i, value))
            }
            DataType::Struct(fields) => {
                let (columns, object) = (array.as_struct().columns(), value.as_object().unwrap());
                let mut others = object.clone();
                let named = fields.iter().zip(columns).all(|(field, column)| {
                    if field.name() == "additional_properties" {
                        return true;
                    }
                    holds(column, row, &others.shift_remove(field.name()).unwrap_or_default())
                });
                let rest = array.as_struct().column_by_name("additional_properties");
                let rest = rest.filter(|rest| rest.is_valid(row));
                let rest = rest
                    .map(|rest| serde_json::from_str::<Value>(rest.as_string::<i32>().value(row)).unwrap());
                named && rest.unwrap_or(json!({})) == Value::Object(others)
            }
            // Text, or a value that has no type of its own.
            DataType::Utf8 => {
                let cell = array.as_string::<i32>().value(row);
                *value == cell || serde_json::from_str::<Value>(cell).is_ok_and(|cell| cell == *value)
            }
            other => panic!("{other}"),
        }
}

/// Runs a job of nano, hot and with any number of errors.
fn nano(bench: &Bench, output: &str, flags: &[&str]) -> Ran {
    let job = ["run", "--device", "cpu", "--model", "nano", "-o", output];
    let sampled = ["--temperature", "1", "--max-error-rate", "1"];
    bench.run(&[&job[..], flags, &sampled].concat())
}

fn schemas(default: u64) -> u64 {
    std::env::var("GRISTMILL_SCHEMAS").map_or(default, |count| count.parse().unwrap())
}

#[test]
fn answers_under_random_schemas_are_valid_and_of_their_types() {
    let bench = Bench::new();
    let count = schemas(500);
    let all: Vec<Made> = (0..count).map(random_schema::schema).collect();
    let messages = text(&read(Path::new(MESSAGES)), "message");
    let lines = all.iter().enumerate().map(|(i, made)| {
        let format = json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": made.schema } });
        let ask = format!(
            "Extract the order number, the product and the amount from this customer message as JSON.\n\n{}",
            messages[i % messages.len()].as_ref().unwrap()
        );
        let body = json!({ "messages": [{ "role": "user", "content": ask }], "response_format": format });
        let line = json!({ "custom_id": i.to_string(), "method": "POST", "url": "/v1/chat/completions", "body": body });
        format!("{line}\n")
    });
    std::fs::write(bench.path("requests.jsonl"), lines.collect::<String>()).unwrap();
    let (input, output, most) =
        (bench.name("requests.jsonl"), bench.name("results.jsonl"), MAX_TOKENS.to_string());
    let ran = nano(&bench, &output, &["--batch", &input, "--max-tokens", &most]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let results = std::fs::read_to_string(output).unwrap();
    let (mut whole, mut incomplete) = (0, 0);
    for (made, line) in all.iter().zip(results.lines()) {
        let (schema, result): (&Value, Value) = (&made.schema, serde_json::from_str(line).unwrap());
        let body = &result["response"]["body"];
        assert_eq!(result["response"]["status_code"], 200, "{schema}: {body}");
        let choice = &body["choices"][0];
        let content = choice["message"]["content"].as_str().unwrap();
        if choice["finish_reason"] == "length" {
            assert_eq!(body["usage"]["completion_tokens"], MAX_TOKENS, "{schema}: {content}");
            incomplete += 1;
            assert!(is_endless(schema), "{schema}: {content}");
            continue;
        }
        whole += 1;
        let answer: Value =
            serde_json::from_str(content).unwrap_or_else(|why| panic!("{schema}: {content}: {why}"));
        validate(schema, &answer).unwrap_or_else(|why| panic!("{schema}: {content}: {why}"));
        let read = AnswerSchema::read(schema).unwrap();
        let (array, wrong) = read.array(&[Some(content)]);
        assert!(wrong.is_empty(), "{schema}: {content}");
        assert_eq!(read.data_type(), made.data_type, "{schema}");
        assert_eq!(array.data_type(), &made.data_type, "{schema}");
        assert!(holds(&array, 0, &answer), "{schema}: {content}: {array:?}");
    }
    assert_eq!(whole + incomplete, count);
    println!(
        "{count} random schemas: {whole} answers valid and typed, {incomplete} cut off at {MAX_TOKENS} tokens"
    );
    assert!(whole * 4 > count * 3, "{whole} of {count}");
}

#[test]
fn columns_under_random_schemas_are_the_texts_of_their_rows() {
    let bench = Bench::new();
    for seed in 0..schemas(500).div_ceil(100) {
        let made = random_schema::schema(1_000_000 + seed);
        let (schema, output) = (bench.name("schema.json"), bench.name(&format!("{seed}.parquet")));
        std::fs::write(&schema, made.schema.to_string()).unwrap();
        let ran = nano(
            &bench,
            &output,
            &[
                "-i",
                MESSAGES,
                "--prompt",
                "{{ message }}",
                "--keep",
                "message",
                "--limit",
                "16",
                "--max-tokens",
                "200",
                "--json-schema",
                &schema,
            ],
        );
        assert_eq!(ran.code, 0, "{}: {}", made.schema, ran.stderr);
        let batch = read(Path::new(&output));
        let answers = batch.column_by_name("answer").unwrap();
        assert_eq!(answers.data_type(), &made.data_type, "{}", made.schema);
        for (row, (content, error)) in
            text(&batch, "generated_text").iter().zip(text(&batch, "error")).enumerate()
        {
            let content = content.as_ref().unwrap();
            match error {
                Some(error) => assert!(error.starts_with("incomplete: ") && answers.is_null(row), "{error}"),
                None => {
                    let answer = serde_json::from_str(content).unwrap();
                    validate(&made.schema, &answer)
                        .unwrap_or_else(|why| panic!("{}: {content}: {why}", made.schema));
                    assert!(holds(answers, row, &answer), "{}: {content}", made.schema);
                }
            }
        }
    }
}
