#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::tokenizer::tests::{added, bytes};
use serde_json::json;

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let mut tokenizer = bytes(added(&[("<s>", "")]), json!(null));
    change(&mut tokenizer);
    check(tokenizer.to_string().as_bytes()).err().unwrap_or_default()
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": pattern, "content": content })
}

#[test]
fn what_is_larger_than_any_tokenizer_is_refused_before_it_is_loaded() {
    let many = |n: usize| (0..n).map(|id| (format!("t{id}"), json!(id))).collect::<serde_json::Map<_, _>>();
    for (refusal, why) in [
        (refusal(|t| t["model"]["vocab"] = many(TOKENS + 1).into()), "has 524289 tokens; at most 524288"),
        (refusal(|t| t["model"]["merges"] = json!(vec!["a b"; MERGES + 1])), "has 1048577 merges"),
        (refusal(|t| t["added_tokens"] = json!(vec![0; ADDED_TOKENS + 1])), "has 32769 added tokens"),
        (refusal(|t| t["version"] = json!("a".repeat(PART_BYTES))), "version has 2097154 bytes"),
        (refusal(|t| t["post_processor"] = json!({ "ids": vec![1; PART_BYTES] })), "post_processor has"),
    ] {
        assert!(refusal.contains(why), "{refusal}");
    }
    assert_eq!(refusal(|t| t["model"]["vocab"] = many(TOKENS).into()), "");
    assert!(check(b"  ").unwrap_err().starts_with("is not a tokenizer: EOF"));
}

#[test]
fn a_normalizer_that_multiplies_texts_is_refused() {
    let sequence = |parts: Vec<Value>| json!({ "type": "Sequence", "normalizers": parts });
    let doubles = |n| sequence(vec![replace(json!({ "String": "a" }), "aa"); n]);
    let prepend = |text: &str| json!({ "type": "Prepend", "prepend": text });
    let table = |bytes: &[u8]| {
        let table = base64::engine::general_purpose::STANDARD.encode(bytes);
        json!({ "type": "Precompiled", "precompiled_charsmap": table })
    };
    let sound = [
        sequence(vec![prepend("▁"), replace(json!({ "String": " " }), "▁")]),
        sequence(vec![json!({ "type": "NFC" }), replace(json!({ "Regex": " {2,}" }), "▁")]),
        table(&[4, 0, 0, 0, 1, 2, 3, 4, 5]),
        doubles(5),
    ];
    for normalizer in sound {
        assert_eq!(refusal(|t| t["normalizer"] = normalizer.clone()), "", "{normalizer}");
    }
    for (normalizer, why) in [
        (doubles(6), "can make a text more than 32 times as long"),
        (doubles(4000), "can make a text more than 32 times"),
        (replace(json!({ "Regex": "" }), &"x".repeat(1000)), "can make a text"),
        (sequence(vec![prepend(&"y".repeat(100_000)); 3]), "can make a text"),
        (sequence(vec![doubles(3), doubles(3)]), "can make a text"),
        (table(&[255, 255, 255, 255, 0, 0, 0, 0]), "the size in its head"),
        (table(&[1]), "the size in its head"),
    ] {
        let refusal = refusal(|t| t["normalizer"] = normalizer.clone());
        assert!(refusal.starts_with("normalizer") && refusal.contains(why), "{normalizer}: {refusal}");
    }
    let decoder = json!({ "type": "Sequence", "decoders": vec![replace(json!({ "String": "a" }), "aa"); 6] });
    assert!(refusal(|t| t["decoder"] = decoder).starts_with("decoder can make"));
}
