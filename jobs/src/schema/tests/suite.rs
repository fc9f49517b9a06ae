//! The official JSON Schema test suite, from the folder that GRISTMILL_JSON_SCHEMA_TESTS names: each schema is refused or
//! enforced, and for those that are, valid instances go through the masks, and invalid ones do not.

use super::{accepts, compile};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Instances that are valid and refused: in the suite, `format` is an annotation, but here it is enforced.
const FORMATS: [&str; 5] = [
    "invalid date string is only an annotation by default",
    "invalid time string is only an annotation by default",
    "invalid date-time string is only an annotation by default",
    "invalid uuid string is only an annotation by default",
    "invalid ipv4 string is only an annotation by default",
];

#[test]
fn the_official_suite_has_no_wrong_answer() {
    let Some(folder) = std::env::var_os("GRISTMILL_JSON_SCHEMA_TESTS").map(PathBuf::from) else { return };
    let mut wrong = Vec::new();
    for (draft, name) in [
        ("draft2020-12", "https://json-schema.org/draft/2020-12/schema"),
        ("draft7", "http://json-schema.org/draft-07/schema#"),
    ] {
        let (mut compiled, mut refused, mut instances) = (0, 0, 0);
        for (file, group) in groups(&folder.join("tests").join(draft)) {
            let mut schema = group["schema"].clone();
            if let Some(keys) = schema.as_object_mut() {
                keys.entry("$schema").or_insert(name.into());
            }
            let matcher = match compile(&schema) {
                Ok(matcher) => matcher,
                Err(why) if why.starts_with("compile: ") => panic!("{schema}: {why}"),
                Err(_) => {
                    refused += 1;
                    continue;
                }
            };
            compiled += 1;
            for test in group["tests"].as_array().unwrap() {
                instances += 1;
                let valid = test["valid"].as_bool().unwrap();
                let what = test["description"].as_str().unwrap();
                let text = canonical(&test["data"], &schema, &schema).to_string();
                let annotated = file == "format.json" && FORMATS.contains(&what);
                if accepts(&matcher, &text) != (valid && !annotated) {
                    wrong.push(format!("{draft}/{file}: {schema}: {what}: {text}"));
                }
            }
        }
        assert!(compiled > 150 && refused > 60, "{compiled}, {refused}");
        println!("{draft}: {compiled} schemas enforced, {refused} refused, {instances} instances");
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}

fn groups(folder: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let read = |file: &PathBuf| {
        let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().to_string();
        groups.into_iter().map(move |group| (name.clone(), group))
    };
    files.iter().flat_map(read).collect()
}

/// An instance as a model would write it: properties in the schema's order and then the others, whole numbers without a
/// fraction.
fn canonical(value: &Value, schema: &Value, document: &Value) -> Value {
    let schema = match schema["$ref"].as_str().and_then(|pointer| document.pointer(&pointer[1..])) {
        Some(target) => target,
        None => schema,
    };
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => {
                json!(float as i64)
            }
            _ => value.clone(),
        },
        Value::Array(items) => {
            let of = |i: usize| {
                schema["prefixItems"].get(i).or(schema["items"].get(i)).unwrap_or(&schema["items"])
            };
            items.iter().enumerate().map(|(i, item)| canonical(item, of(i), document)).collect()
        }
        Value::Object(keys) => {
            let mut order = Vec::new();
            names(schema, document, &mut order);
            let mut object = Map::new();
            for name in order.into_iter().chain(keys.keys().map(String::as_str)) {
                if let Some(value) = keys.get(name) {
                    let of = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                    object.entry(name).or_insert_with(|| canonical(value, of, document));
                }
            }
            object.into()
        }
        value => value.clone(),
    }
}

/// The names that a schema gives, its own first, and those that it requires behind all.
fn names<'a>(schema: &'a Value, document: &'a Value, order: &mut Vec<&'a str>) {
    fn visit<'a>(schema: &'a Value, document: &'a Value, depth: usize, named: &mut [Vec<&'a str>; 2]) {
        let listed = [&schema["properties"], &schema["const"]].into_iter().filter_map(Value::as_object);
        named[0].extend(listed.flat_map(Map::keys).map(String::as_str));
        named[1].extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        let dependent = ["dependentRequired", "dependentSchemas", "dependencies"];
        for (name, needed) in dependent.into_iter().filter_map(|of| schema[of].as_object()).flatten() {
            named[1].push(name);
            named[1].extend(needed.as_array().into_iter().flatten().filter_map(Value::as_str));
            visit(needed, document, depth + 1, named);
        }
        let target = schema["$ref"].as_str().and_then(|at| document.pointer(at.strip_prefix('#')?));
        let parts =
            ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|name| schema[name].as_array()).flatten();
        for part in target.into_iter().chain(parts).filter(|_| depth < 9) {
            visit(part, document, depth + 1, named);
        }
    }
    let mut named = [Vec::new(), Vec::new()];
    visit(schema, document, 0, &mut named);
    order.extend(named.concat());
}
