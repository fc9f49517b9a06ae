//! The expected ids are those of tokenizers 0.23 for the whole text.

#![allow(clippy::unwrap_used)]
use crate::prompt::rendering::{Marking, Rendering};
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::tokenizer::files::TokenizerFiles;
use crate::prompt::tokenizer::tests::{added, bytes};
use serde_json::{Value, json};

fn tokenizer(tokens: &[(&str, &str)], normalizer: Value) -> Tokenizer {
    let tokenizer = bytes(added(tokens), normalizer).to_string().into_bytes();
    Tokenizer::from_files(&TokenizerFiles { tokenizer, ..TokenizerFiles::default() }).unwrap()
}

/// Checks the ids of texts of a template: numbers from 256 on are tokens, all others bytes.
fn check(tokenizer: &Tokenizer, cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let ids = tokenizer.encode(&Rendering::trusted((*text).into())).unwrap();
        let expected: Vec<u32> = expected
            .iter()
            .flat_map(|part| match part.strip_prefix('#') {
                Some(id) => vec![id.parse().unwrap()],
                None => part.bytes().map(u32::from).collect(),
            })
            .collect();
        assert_eq!(ids, expected, "{text:?}");
        // A row that says the same writes no token.
        let row = |marking: &Marking| Ok(marking.text(text).into_owned());
        let ids = tokenizer.encode(&Rendering::of_row(tokenizer.markers(), row).unwrap()).unwrap();
        assert!(ids.iter().all(|&id| id < 256), "{text:?} {ids:?}");
    }
}

#[test]
fn markers_take_spaces_and_words_as_their_flags_say() {
    let tokens = [
        ("<|w|>", "single_word=true"),
        ("<|l|>", "lstrip=true"),
        ("<|r|>", "rstrip=true"),
        ("<|b|>", "lstrip=true rstrip=true"),
        ("MASK", "single_word=true"),
    ];
    let cases: [(&str, &[&str]); 15] = [
        ("a<|w|>b", &["a<|w|>b"]),
        ("a <|w|> b", &["a ", "#256", " b"]),
        ("<|w|>", &["#256"]),
        ("a<|l|>b", &["a", "#257", "b"]),
        ("a  <|l|>  b", &["a", "#257", "  b"]),
        ("a  <|r|>\n b", &["a  ", "#258", "b"]),
        ("a  <|b|>  b", &["a", "#259", "b"]),
        ("<|r|> <|l|>", &["#258", "#257"]),
        ("xMASK", &["xMASK"]),
        ("x MASK", &["x ", "#260"]),
        ("MASK<|w|>", &["#260", "<|w|>"]),
        ("<|r|>  <|w|>b", &["#258", "<|w|>b"]),
        ("<|w|><|w|>", &["#256", "#256"]),
        ("é<|w|>", &["é<|w|>"]),
        ("_<|w|>", &["_<|w|>"]),
    ];
    check(&tokenizer(&tokens, Value::Null), &cases);
}

#[test]
fn normalized_markers_are_found_where_the_tokenizer_finds_them() {
    let tokens = [
        ("<|N|>", "normalized=true"),
        ("<|m|>", ""),
        ("<|s|>", "normalized=true lstrip=true"),
        ("<|V|>", "normalized=true single_word=true"),
    ];
    let lower = tokenizer(&tokens, json!({ "type": "Lowercase" }));
    check(
        &lower,
        &[
            ("A<|N|>B", &["a", "#256", "b"]),
            ("A <|N|>B<|m|>C", &["a ", "#256", "b", "#257", "c"]),
            ("A  <|s|> b", &["a", "#258", " b"]),
            ("a<|V|>", &["a<|v|>"]),
            ("<|V|> b", &["#259", " b"]),
            ("<|m|><|V|>", &["#257", "#259"]),
        ],
    );
    let prepend = json!({ "type": "Sequence", "normalizers": [
        { "type": "Prepend", "prepend": "_" },
        { "type": "Replace", "pattern": { "String": " " }, "content": "_" }
    ] });
    let tokens = [("<|N|>", "normalized=true"), ("<|m|>", ""), ("</s>", "normalized=true")];
    check(
        &tokenizer(&tokens, prepend),
        &[
            ("<|N|>Once upon", &["#256", "Once_upon"]),
            ("a<|N|>b", &["_a<|N|>b"]),
            ("a <|N|>b", &["_a", "#256", "b"]),
            ("<|N|>Tom ran.</s><|N|>Once", &["#256", "Tom_ran.</s><|N|>Once"]),
            ("x<|m|><|N|>y<|m|> z", &["_x", "#257", "#256", "y", "#257", "__z"]),
            ("<|N|> a</s>", &["#256", "_a</s>"]),
        ],
    );
}
