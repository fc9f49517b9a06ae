//! The expected ids and flags are those of transformers 5.24 with the same files.

#![allow(clippy::unwrap_used)]
use crate::prompt::rendering::Rendering;
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::tokenizer::files::TokenizerFiles;
use crate::prompt::tokenizer::tests::{added, bytes};
use serde_json::{Value, json};

/// A tokenizer of bytes with `<|end|>` (256) and `<|im_start|>` (257), and other files.
fn with_files(config: Value, map: Option<Value>, added_tokens: Option<Value>) -> Tokenizer {
    let own = added(&[("<|end|>", ""), ("<|im_start|>", "")]);
    let text = |value: Value| value.to_string().into_bytes();
    Tokenizer::from_files(&TokenizerFiles {
        tokenizer: text(bytes(own, Value::Null)),
        config: Some(text(config)),
        special_tokens_map: map.map(text),
        added_tokens: added_tokens.map(text),
    })
    .unwrap()
}

fn written(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(&Rendering::trusted(text.into())).unwrap()
}

#[test]
fn added_tokens_of_the_config_are_added() {
    let token = |content: &str, special: bool| json!({ "content": content, "special": special });
    let config = json!({
        "eos_token": "<|im_end|>",
        "added_tokens_decoder": {
            "259": token("<think>", false), "256": token("<|end|>", true), "257": token("<|im_start|>", true),
            "258": token("<|im_end|>", false),
        }
    });
    let tokenizer = with_files(config, None, None);
    assert_eq!(written(&tokenizer, "a<|im_end|><think>"), [97, 258, 259]);
    assert_eq!(
        tokenizer.decode(&[104, 258, 105, 259], true).unwrap(),
        "hi<think>",
        "the eos token is special"
    );
    assert!(tokenizer.warnings().is_empty());
}

#[test]
fn an_id_that_the_file_does_not_mean_is_told() {
    let config = json!({ "added_tokens_decoder": { "300": { "content": "<|im_end|>", "special": true } } });
    let tokenizer = with_files(config, None, None);
    assert_eq!(written(&tokenizer, "<|im_end|>"), [258]);
    assert!(tokenizer.warnings()[0].contains("<|im_end|> the id 300"), "{:?}", tokenizer.warnings());
    assert!(tokenizer.warnings()[0].contains("becomes 258"), "{:?}", tokenizer.warnings());
}

#[test]
fn the_older_files_are_read_where_the_config_has_no_added_tokens() {
    let map = json!({
        "eos_token": { "content": "<|eot|>", "lstrip": false, "rstrip": true, "normalized": false },
        "additional_special_tokens": ["<|x|>"], "image_token": "<img>"
    });
    let config = json!({ "eos_token": "<|end|>", "bos_token": "<|im_start|>" });
    let tokenizer = with_files(config, Some(map.clone()), None);
    assert_eq!(written(&tokenizer, "a<|eot|>  b<|x|><img>"), [97, 258, 98, 260, 259]);
    let names = tokenizer.special_token_names();
    assert_eq!((names["bos_token"].as_str(), names["eos_token"].as_str()), ("<|im_start|>", "<|eot|>"));
    let more = json!({ "<|im_end|>": 258, "<think>": 259, "<|end|>": 256 });
    let tokenizer = with_files(json!({ "eos_token": "<|im_end|>" }), None, Some(more.clone()));
    assert_eq!(written(&tokenizer, "a<|im_end|><think>"), [97, 258, 259]);
    assert_eq!(tokenizer.decode(&[104, 258, 105, 259, 256], true).unwrap(), "hi<think>");
    let config = json!({
        "eos_token": "<|end|>",
        "added_tokens_decoder": {
            "256": { "content": "<|end|>", "rstrip": true, "normalized": false, "special": true },
            "258": { "content": "<tool>", "normalized": false, "special": false },
        }
    });
    let tokenizer = with_files(config, Some(map), Some(more));
    assert_eq!(written(&tokenizer, "a<|end|>  b<tool><|x|>"), [97, 256, 98, 258, 60, 124, 120, 124, 62]);
    assert_eq!(tokenizer.special_token_names()["eos_token"], "<|end|>");
}

#[test]
fn tokens_with_a_name_are_added_in_the_order_of_names() {
    let config = json!({
        "extra_special_tokens": { "audio_token": "<audio>" }, "additional_special_tokens": ["<|im_start|>", "<a>"],
        "video_token": "<video>", "pad_token": "<pad>", "cls_token": { "content": "<cls>" }, "eos_token": "<eos>",
        "add_bos_token": false, "bos_token": null
    });
    let tokenizer = with_files(config, None, None);
    assert_eq!(written(&tokenizer, "<eos><pad><cls><video><audio><a>"), [258, 259, 260, 261, 262, 263]);
    assert!(!tokenizer.special_token_names().contains_key("bos_token"));
    let tokenizer = with_files(json!({ "eos_token": "~" }), None, None);
    assert_eq!(written(&tokenizer, "a~b"), [97, 126, 98]);
    assert_eq!(tokenizer.decode(&[97, 126, 98], true).unwrap(), "ab");
}

#[test]
fn a_file_that_is_wrong_is_named() {
    let refused = |files: TokenizerFiles| Tokenizer::from_files(&files).err().unwrap();
    let plain = TokenizerFiles {
        tokenizer: bytes(json!([]), Value::Null).to_string().into_bytes(),
        ..TokenizerFiles::default()
    };
    let config = |text: &str| TokenizerFiles { config: Some(text.into()), ..plain.clone() };
    let error = refused(config(r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#));
    assert!(error.contains("tokenizer_config.json beside it: added_tokens_decoder has \"x\""), "{error}");
    let error = refused(config(r#"{"added_tokens_decoder": {"7": 3}}"#));
    assert!(error.contains("added_tokens_decoder 7: 3 is neither a string nor an object"), "{error}");
    let error = refused(TokenizerFiles { special_tokens_map: Some("[]".into()), ..plain.clone() });
    assert!(error.contains("special_tokens_map.json beside it"), "{error}");
    let error = refused(TokenizerFiles { added_tokens: Some(r#"{"<a>": "b"}"#.into()), ..plain.clone() });
    assert!(error.contains("added_tokens.json beside it: \"<a>\" has \"b\""), "{error}");
}
