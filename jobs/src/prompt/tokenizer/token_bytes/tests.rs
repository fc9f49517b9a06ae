#![allow(clippy::unwrap_used)]
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::tokenizer::files::TokenizerFiles;
use crate::prompt::tokenizer::tests::{byte_level, metaspace};
use crate::prompt::tokenizer::token_bytes::NO_TEXT;
use engine::numbers::Numbers;
use serde_json::Value;

/// The tokenizers of the published styles, and two small ones.
fn tokenizers() -> Vec<(String, Tokenizer)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizers");
    let mut all = vec![("bytes".to_string(), byte_level()), ("metaspace".to_string(), metaspace())];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let bytes = |key: &str| file[key].to_string().into_bytes();
        let files = TokenizerFiles {
            tokenizer: bytes("tokenizer"),
            config: Some(bytes("tokenizer_config")),
            ..TokenizerFiles::default()
        };
        all.push((path.display().to_string(), Tokenizer::from_files(&files).unwrap()));
    }
    all
}

#[test]
fn the_bytes_of_tokens_are_those_of_their_text() {
    let mut numbers = Numbers(7);
    for (name, tokenizer) in tokenizers() {
        let size = (0..).find(|&id| tokenizer.written_form(id).is_none()).unwrap();
        let tokens = tokenizer.token_bytes(size as usize + 3, &[5]).unwrap();
        assert_eq!(tokens.bytes.len(), size as usize + 3);
        assert!(tokens.bytes[size as usize..].iter().all(Vec::is_empty), "{name}");
        assert_eq!(tokens.bytes[5][0], NO_TEXT, "{name}");
        let texts: Vec<u32> = (0..size)
            .filter(|&id| !matches!(tokens.bytes[id as usize].first(), None | Some(&NO_TEXT)))
            .collect();
        let mut compared = 0;
        for _ in 0..4000 {
            let ids: Vec<u32> =
                (0..1 + numbers.below(4)).map(|_| texts[numbers.below(texts.len())]).collect();
            let bytes = ids.iter().flat_map(|&id| tokens.bytes[id as usize].clone()).collect();
            let Ok(text) = String::from_utf8(bytes) else { continue };
            if tokens.cut_first.contains(&ids[0]) {
                assert!(tokenizer.decode(&ids, true).unwrap().len() < text.len(), "{name}: {ids:?}");
                continue;
            }
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text, "{name}: {ids:?}");
            compared += 1;
        }
        assert!(compared > 200, "{name}: {compared}");
        // A character whose bytes are tokens of their own.
        let byte = |byte: u8| texts.iter().copied().find(|&id| tokens.bytes[id as usize] == [byte]);
        if let (Some(a), Some(b)) = (byte(0xc3), byte(0xa9)) {
            assert_eq!(tokenizer.decode(&[a, b], true).unwrap(), "é", "{name}");
        }
    }
}
