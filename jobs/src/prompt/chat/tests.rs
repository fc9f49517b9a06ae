//! Chat templates give what transformers gives.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::markers::Markers;
use crate::prompt::rendering::Rendering;
use crate::prompt::tokenizer::files::TokenizerFiles;
use crate::prompt::tokenizer::tests::byte_level;
use minijinja::value::ValueKind;

fn golden<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
    serde_json::from_slice(&std::fs::read(format!("{folder}/{file}")).unwrap()).unwrap()
}

/// A part of each case, with its keys in the order of the file.
fn part_of(file: &str, cases: &str, part: &str) -> Vec<Value> {
    let cases = golden::<Value>(file).get_attr(cases).unwrap();
    cases.try_iter().unwrap().map(|case| case.get_attr(part).unwrap()).collect()
}

fn golden_tokenizer() -> Tokenizer {
    Tokenizer::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/qwen3").as_ref()).unwrap()
}

/// A value with every string but a role's marked.
fn marked(value: &Value, marking: &Marking) -> Value {
    match value.kind() {
        ValueKind::String => marking.value(value.as_str().unwrap()),
        ValueKind::Seq => value.try_iter().unwrap().map(|item| marked(&item, marking)).collect(),
        ValueKind::Map => Value::from_pairs(value.try_iter().unwrap().map(|key| {
            let value = value.get_item(&key).unwrap();
            let is_role = key.as_str() == Some("role");
            (key, if is_role { value } else { marked(&value, marking) })
        })),
        _ => value.clone(),
    }
}

fn rendered(
    chat: &Chat,
    markers: &Markers,
    messages: &Value,
    case: &serde_json::Value,
) -> Result<Rendering, String> {
    let generation = case["add_generation_prompt"].as_bool().unwrap();
    Rendering::of_row(markers, |marking| {
        let messages = messages.try_iter().unwrap().map(|m| marked(&m, marking)).collect();
        chat.render(messages, generation, marking)
    })
}

/// 2026-03-07T09:05:00, the time of the golden files.
const THEN: i64 = 1_772_874_300;

#[test]
fn chat_templates_render_as_in_transformers() {
    let none = Markers::default();
    let marks = byte_level().markers().clone();
    for name in ["chatml", "dated-generation", "llama2", "llama3", "mistral", "qwen-tools"] {
        let path = format!("templates/{name}.json");
        let file: serde_json::Value = golden(&path);
        let (messages, variables) =
            (part_of(&path, "cases", "messages"), part_of(&path, "cases", "variables"));
        assert_eq!(file["now"], "2026-03-07T09:05:00");
        let template = Template::new(name, file["template"].as_str().unwrap(), THEN).unwrap();
        let mut names: BTreeMap<String, Value> =
            ["tools", "documents"].map(|n| (n.into(), Value::from(()))).into();
        for token in ["bos_token", "eos_token"] {
            names.extend(file[token].as_str().map(|text| (token.to_string(), Value::from(text))));
        }
        let mut chat = Chat { template, names, takes_parts: true };
        for ((case, messages), variables) in
            file["cases"].as_array().unwrap().iter().zip(messages).zip(variables)
        {
            let plain = chat.names.clone();
            for name in variables.try_iter().unwrap() {
                chat.names.insert(name.to_string(), variables.get_item(&name).unwrap());
            }
            for markers in [&none, &marks] {
                match (rendered(&chat, markers, &messages, case), case["expected"].as_str()) {
                    (Ok(rendering), Some(expected)) => {
                        assert_eq!(rendering.plain(), expected, "{name} {case}")
                    }
                    (Err(why), None) => {
                        assert!(why.contains(case["error"].as_str().unwrap()), "{name}: {why} {case}");
                    }
                    (got, expected) => panic!("{name}: {got:?} {expected:?} {case}"),
                }
            }
            chat.names = plain;
        }
    }
}

#[test]
fn conversations_have_the_token_ids_of_transformers() {
    let tokenizer = golden_tokenizer();
    let file: serde_json::Value = golden("chat.json");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/qwen3").as_ref();
    let own = tokenizer.chat_template(folder).unwrap().unwrap();
    let spaced = file["spaced_chat_template"].as_str().unwrap().to_string();
    for (template, cases) in [(own, "conversations"), (spaced, "spaced_conversations")] {
        let names = tokenizer.special_token_names().iter();
        let names = names.map(|(name, text)| (name.clone(), Value::from(text.as_str())));
        let chat = Chat {
            template: Template::new("chat", &template, 0).unwrap(),
            names: names.collect(),
            takes_parts: true,
        };
        for (case, messages) in
            file[cases].as_array().unwrap().iter().zip(part_of("chat.json", cases, "messages"))
        {
            let rendering = rendered(&chat, tokenizer.markers(), &messages, case).unwrap();
            assert_eq!(rendering.plain(), case["text"].as_str().unwrap(), "{}", case["name"]);
            let ids = tokenizer.encode(&rendering).unwrap();
            assert_eq!(serde_json::json!(ids), case["ids"], "{}", case["name"]);
        }
    }
    for case in file["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let rendering = Rendering::of_row(tokenizer.markers(), |m| Ok(m.text(text).into_owned())).unwrap();
        assert_eq!(serde_json::json!(tokenizer.encode_raw(&rendering).unwrap()), case["ids"], "{text}");
    }
    for case in file["decoded"].as_array().unwrap() {
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), case["text"].as_str().unwrap());
        let all = case["text_with_special_tokens"].as_str().unwrap();
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), all);
    }
}

#[test]
fn parts_of_a_content_are_put_together_unless_the_template_reads_them() {
    let tokenizer = byte_level();
    let options = PromptOptions::default();
    let part = |text: &str| Value::from_pairs([("type", Value::from("text")), ("text", Value::from(text))]);
    let shown = |template: &str| {
        let chat = Chat::new(&options, template, &tokenizer, 0).unwrap();
        let messages = vec![message("user", Value::from(vec![part("Late "), part(" parcel")]))];
        chat.render(messages, true, &Marking::plain(&Markers::default())).unwrap()
    };
    assert_eq!(shown("{% for m in messages %}{{ m['content'] }}{% endfor %}"), "Late  parcel");
    assert_eq!(shown("{% for m in messages %}{{ '<' + m.content }}{% endfor %}"), "<Late  parcel");
    // Qwen3 takes what is no string for nothing.
    let string = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}";
    assert_eq!(shown(string), "Late  parcel");
    let parts = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
                 {% for p in m.content %}{{ p.text | trim }}|{% endfor %}{% endif %}{% endfor %}";
    assert_eq!(shown(parts), "Late|parcel|");
}

#[test]
fn tokenizers_of_every_style_give_the_ids_of_transformers() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizers");
    let mut styles = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file: serde_json::Value = golden(&format!("tokenizers/{name}"));
        let bytes = |key: &str| file[key].to_string().into_bytes();
        let files = TokenizerFiles {
            tokenizer: bytes("tokenizer"),
            config: Some(bytes("tokenizer_config")),
            ..TokenizerFiles::default()
        };
        let mut tokenizer = Tokenizer::from_files(&files).unwrap();
        let template = file["tokenizer_config"]["chat_template"].as_str().unwrap();
        let options = PromptOptions::default();
        tokenizer.mark_tokens_of(&template_texts(&options, Some(template), &tokenizer, 0).unwrap()).unwrap();
        let chat = Chat::new(&options, template, &tokenizer, 0).unwrap();
        let conversations = part_of(&format!("tokenizers/{name}"), "conversations", "messages");
        for (case, messages) in file["conversations"].as_array().unwrap().iter().zip(conversations) {
            let rendering = Rendering::of_row(tokenizer.markers(), |marking| {
                chat.render(
                    messages.try_iter().unwrap().map(|m| marked(&m, marking)).collect(),
                    true,
                    marking,
                )
            });
            let ids = tokenizer.encode(&rendering.unwrap()).unwrap();
            assert_eq!(serde_json::json!(ids), case["ids"], "{name}: {}", case["messages"]);
        }
        for case in file["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let rendering =
                Rendering::of_row(tokenizer.markers(), |m| Ok(m.text(text).into_owned())).unwrap();
            assert_eq!(
                serde_json::json!(tokenizer.encode_raw(&rendering).unwrap()),
                case["ids"],
                "{name}: {text:?}"
            );
        }
        styles += 1;
    }
    assert!(styles >= 10, "{styles}");
}
