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
            let expected = whole.encode(text.as_str(), false).unwrap().get_ids().to_vec();
            assert_eq!(
                row(&tokenizer, before, &text[before.len()..text.len() - after.len()], after),
                expected
            );
        }
    }
}

#[test]
fn a_prompt_without_a_chat_template_gets_what_the_post_processor_adds() {
    let raw = |tokenizer: &Tokenizer, text: &str| {
        let rendering = Rendering::trusted(text.into());
        (tokenizer.encode(&rendering).unwrap(), tokenizer.encode_raw(&rendering).unwrap())
    };
    let tokenizer = metaspace();
    let bos = tokenizer.id("<s>").unwrap();
    assert_eq!(tokenizer.special_token_names()["bos_token"], "<s>");
    let (chat, with) = raw(&tokenizer, "a b");
    assert_eq!(with, [&[bos], &chat[..]].concat());
    assert!(!chat.contains(&bos), "a chat template writes its own");
    let (twice, once) = raw(&tokenizer, "<s><s>a b");
    assert_eq!(
        (&twice[..2], &once),
        (&[bos, bos][..], &twice),
        "what is written stays, and no third is added"
    );
    let (chat, with) = raw(&byte_level(), "hello");
    assert_eq!(chat, with);
    assert_eq!(tokenizer.raw_warnings(), [""; 0]);
}

/// A tokenizer of the bytes whose post-processor makes this of a text.
fn post_processed(single: serde_json::Value, config: serde_json::Value) -> Result<Tokenizer, String> {
    let mut tokenizer = bytes(added(&[("<s>", ""), ("</s>", "")]), json!(null));
    let special = |id: u32, token: &str| json!({ "id": token, "ids": [id], "tokens": [token] });
    tokenizer["post_processor"] = json!({ "type": "TemplateProcessing", "single": single,
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
        "special_tokens": { "<s>": special(256, "<s>"), "</s>": special(257, "</s>"),
                            "far": { "id": "far", "ids": [4_000_000_000u32], "tokens": ["far"] },
                            "many": { "id": "many", "ids": vec![256; 100], "tokens": vec!["<s>"; 100] } } });
    let files = TokenizerFiles {
        tokenizer: tokenizer.to_string().into_bytes(),
        config: Some(config.to_string().into_bytes()),
        ..TokenizerFiles::default()
    };
    Tokenizer::from_files(&files)
}

#[test]
fn tokenizer_json_alone_says_what_stands_around_a_prompt() {
    let text = || json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let token = |id: &str| json!({ "SpecialToken": { "id": id, "type_id": 0 } });
    let raw = |tokenizer: &Tokenizer| tokenizer.encode_raw(&Rendering::trusted("a".into())).unwrap();
    let a = || raw(&post_processed(json!([text()]), json!({})).unwrap());
    let both = post_processed(json!([token("<s>"), text(), token("</s>")]), json!({})).unwrap();
    assert_eq!(raw(&both), [&[256], &a()[..], &[257]].concat());
    assert!(
        both.raw_warnings()[0].contains("puts the tokens [257] after every prompt"),
        "{:?}",
        both.raw_warnings()
    );
    let says =
        json!({ "bos_token": "<s>", "add_bos_token": true, "eos_token": "</s>", "add_eos_token": true });
    let without = post_processed(json!([text()]), says).unwrap();
    assert_eq!(raw(&without), a(), "as in transformers 5");
    assert!(without.raw_warnings()[0].contains("add_bos_token true"), "{:?}", without.raw_warnings());
    let says = json!({ "bos_token": "<s>", "add_bos_token": false });
    let with = post_processed(json!([token("<s>"), text()]), says).unwrap();
    assert_eq!(raw(&with), [&[256], &a()[..]].concat());
    assert!(with.raw_warnings()[0].contains("add_bos_token false"), "{:?}", with.raw_warnings());
    for (single, why) in [
        (json!([token("far"), text()]), "adds the token 4000000000, which the tokenizer does not have"),
        (json!([token("many"), text()]), "adds 100 tokens to every text"),
        (json!([text(), token("<s>"), text()]), "does more than put tokens before and after"),
    ] {
        let error = post_processed(single, json!({})).err().unwrap();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn dropout_is_off_and_told() {
    let mut tokenizer = bytes(added(&[]), json!(null));
    tokenizer["model"]["vocab"]["aa"] = json!(256);
    tokenizer["model"]["merges"] = json!(["a a"]);
    tokenizer["model"]["dropout"] = json!(0.5);
    let files = TokenizerFiles { tokenizer: tokenizer.to_string().into_bytes(), ..TokenizerFiles::default() };
    let tokenizer = Tokenizer::from_files(&files).unwrap();
    assert!(tokenizer.warnings()[0].contains("a dropout of 0.5"), "{:?}", tokenizer.warnings());
    assert_eq!(tokenizer.encode_plain(&"a".repeat(1000)).unwrap(), [256; 500]);
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
