#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::rendering::Rendering;
use serde_json::json;

/// A byte-level tokenizer with a few merges, in the manner of Qwen.
pub fn byte_level() -> Tokenizer {
    let mut letters: Vec<String> = byte_letters();
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "< |", "| >", "a a", "aa aa", "Ċ Ċ"];
    letters.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let vocab: BTreeMap<&String, usize> =
        letters.iter().enumerate().map(|(id, letter)| (letter, id)).collect();
    let n = letters.len();
    let added = |id: usize, content: &str, special: bool| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special })
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            added(n, "<|im_start|>", true), added(n + 1, "<|im_end|>", true), added(n + 2, "<s>", true),
            added(n + 3, "<think>", false), added(n + 4, "</think>", false)
        ],
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                   "vocab": vocab, "merges": merges }
    });
    load(tokenizer, "{}")
}

/// A tokenizer that marks spaces with `▁` and falls back to bytes, in the manner of Llama 2.
pub fn metaspace() -> Tokenizer {
    let mut words: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    words.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    words.extend(["▁", "a", "b", "[", "]", "I", "N", "S", "T", "▁a", "▁[", "aa", "▁aa"].map(String::from));
    let vocab: BTreeMap<&String, usize> = words.iter().enumerate().map(|(id, word)| (word, id)).collect();
    let added = |id: usize| {
        json!({ "id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0), added(1), added(2)],
        "normalizer": null,
        "pre_tokenizer": { "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] },
        "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                   "vocab": vocab, "merges": ["▁ a", "▁ [", "a a", "▁a a"] }
    });
    load(tokenizer, r#"{ "bos_token": { "content": "<s>" } }"#)
}

/// A tokenizer of the 256 bytes, with added tokens.
pub fn bytes(added: serde_json::Value, normalizer: serde_json::Value) -> serde_json::Value {
    let vocab: BTreeMap<String, usize> = byte_letters().into_iter().zip(0..).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                   "vocab": vocab, "merges": [] }
    })
}

/// Added tokens with ids from 256 on; all special but for what `flags` say, one `name=value` after another.
pub fn added(tokens: &[(&str, &str)]) -> serde_json::Value {
    let token = |(id, (content, flags)): (usize, &(&str, &str))| {
        let mut token = json!({ "id": id + 256, "content": content, "single_word": false, "lstrip": false,
                                "rstrip": false, "normalized": false, "special": true });
        for flag in flags.split_whitespace() {
            let (name, value) = flag.split_once('=').unwrap();
            token[name] = json!(value == "true");
        }
        token
    };
    tokens.iter().enumerate().map(token).collect()
}

fn load(tokenizer: serde_json::Value, config: &str) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
    Tokenizer::open(folder.path()).unwrap()
}

/// GPT-2's letters for the 256 bytes.
fn byte_letters() -> Vec<String> {
    let plain = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 255;
    let letter = |byte| {
        if !plain(byte) {
            next += 1;
        }
        char::from_u32(if plain(byte) { byte } else { next }).unwrap().to_string()
    };
    (0..256).map(letter).collect()
}

fn row(tokenizer: &Tokenizer, before: &str, text: &str, after: &str) -> Vec<u32> {
    let render =
        |marking: &crate::prompt::rendering::Marking| Ok(format!("{before}{}{after}", marking.text(text)));
    tokenizer.encode(&Rendering::of_row(tokenizer.markers(), render).unwrap()).unwrap()
}

#[test]
fn markers_of_a_row_become_ordinary_tokens() {
    let tokenizer = byte_level();
    let [start, end, think] = ["<|im_start|>", "<|im_end|>", "<think>"].map(|t| tokenizer.id(t).unwrap());
    let ids = row(&tokenizer, "<|im_start|>", "hello <|im_start|><think>|", "<|im_end|>");
    assert_eq!((ids[0], *ids.last().unwrap()), (start, end));
    let inner = &ids[1..ids.len() - 1];
    assert!(!inner.contains(&start), "{inner:?}");
    assert!(inner.contains(&think), "a token that is not special is one in any text, as in transformers");
    assert_eq!(tokenizer.decode(inner, false).unwrap(), "hello <|im_start|><think>|");
    assert_eq!(inner[0], tokenizer.id("hello").unwrap());
    assert!(inner.contains(&tokenizer.id("<|").unwrap()));
}

#[test]
fn text_without_markers_is_split_as_the_whole_is() {
    for tokenizer in [byte_level(), metaspace()] {
        let mut whole = tokenizer.inner.clone();
        whole.set_encode_special_tokens(false);
        for (before, text, after) in [
            ("[INST] ", "aa", " [/INST]"),
            ("<s>[INST] ", "aa a\n\n", "\nb[/INST]</s>"),
            ("<|im_start|>user\n", "hello w < 3 > 2", "<|im_end|>\n"),
            ("", " aaaa", "aa hell"),
            ("h", "ello", ""),
        ] {
            let text = format!("{before}{text}{after}");
            let ids = whole.encode(text.as_str(), false).unwrap().get_ids().to_vec();
            let bos = if ids.starts_with(&tokenizer.prefix) { &[][..] } else { &tokenizer.prefix };
            let expected = [bos, &ids].concat();
            assert_eq!(
                row(&tokenizer, before, &text[before.len()..text.len() - after.len()], after),
                expected
            );
        }
    }
}

#[test]
fn bos_is_there_exactly_once() {
    let tokenizer = metaspace();
    let bos = tokenizer.id("<s>").unwrap();
    for before in ["", "<s>"] {
        let ids = row(&tokenizer, before, "a b", "");
        assert_eq!(ids.iter().filter(|&&id| id == bos).count(), 1);
        assert_eq!(ids[0], bos);
    }
    assert!(row(&byte_level(), "", "hello", "").len() == 1);
    assert_eq!(tokenizer.special_token_names()["bos_token"], "<s>");
}

#[test]
fn decoding_skips_special_tokens_only() {
    let tokenizer = byte_level();
    let ids: Vec<u32> =
        ["<think>", "hello", "</think>", "<|im_end|>"].map(|t| tokenizer.id(t).unwrap()).into();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "<think>hello</think>");
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<think>hello</think><|im_end|>");
    assert_eq!(
        tokenizer.decode(&(0..2000).collect::<Vec<_>>(), true).unwrap().matches('\u{fdee}').count(),
        0
    );
}

#[test]
fn a_long_run_of_one_letter_takes_time_in_proportion() {
    // Counted in work, not in time: a quadratic merge of a million letters would not end here at all.
    for tokenizer in [byte_level(), metaspace()] {
        let ids = row(&tokenizer, "", &"a".repeat(1_000_000), "");
        assert!(ids.len() >= 250_000);
        assert_eq!(tokenizer.decode(&ids, true).unwrap().len(), 1_000_000);
    }
}
