#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::tokenizer::tests::{byte_level, metaspace};
use proptest::prelude::*;

fn rules(stop: &[&str], include: bool) -> TextRules {
    TextRules {
        stop: stop.iter().map(|s| s.to_string()).collect(),
        min_tokens: 0,
        include_stop_str_in_output: include,
        skip_special_tokens: true,
    }
}

/// Text, whether it stopped, and how many tokens were taken.
fn run(tokenizer: &Tokenizer, ids: &[u32], rules: &TextRules) -> (String, bool, usize) {
    let mut row = Detokenizer::new(Arc::new(rules.clone()));
    for &id in ids {
        if row.push(id, tokenizer).unwrap() {
            break;
        }
    }
    let (ids, text, stopped) = row.finish(tokenizer).unwrap();
    (text, stopped, ids.len())
}

#[test]
fn a_stop_string_ends_the_row_across_tokens() {
    let tokenizer = byte_level();
    let ids = tokenizer.encode_plain("hello wörld 😀 ünd hello STOP hello").unwrap();
    let (text, stopped, used) = run(&tokenizer, &ids, &rules(&["ld 😀 ü", "hello STOP"], false));
    assert_eq!((text.as_str(), stopped), ("hello wör", true));
    assert_eq!(tokenizer.decode(&ids[..used], true).unwrap(), "hello wörld 😀 ü", "ends with the stop");
    let (text, ..) = run(&tokenizer, &ids, &rules(&["lo STO", "lo S"], true));
    assert_eq!(text, "hello wörld 😀 ünd hello S", "the first to be complete, kept");
    let (text, stopped, used) = run(&tokenizer, &ids, &rules(&["never"], false));
    assert_eq!((text.as_str(), stopped, used), ("hello wörld 😀 ünd hello STOP hello", false, ids.len()));
}

#[test]
fn no_stop_string_counts_within_the_first_tokens() {
    let tokenizer = byte_level();
    let ids = tokenizer.encode_plain("hello STOP and STOP hello").unwrap();
    let first = tokenizer.encode_plain("hello STOP").unwrap().len();
    let held = |min_tokens: usize| {
        let rules = TextRules { min_tokens, ..rules(&["STOP"], true) };
        run(&tokenizer, &ids, &rules).0
    };
    assert_eq!(held(first - 1), "hello STOP", "the token that completes it is the first that counts");
    assert_eq!(held(first), "hello STOP and STOP", "one that is complete within them never counts");
    assert_eq!(held(ids.len()), "hello STOP and STOP hello");
    let split = TextRules { min_tokens: first - 2, ..rules(&["STOP"], false) };
    assert_eq!(run(&tokenizer, &ids, &split).0, "hello ", "one that begins within them and ends beyond does");
    let ended = TextRules { min_tokens: first, ..rules(&["STOP"], false) };
    assert_eq!(run(&tokenizer, &ids[..first], &ended), ("hello STOP".into(), false, first));
}

#[test]
fn half_a_character_is_held_back_and_shown_at_the_end() {
    let tokenizer = byte_level();
    let ids = tokenizer.encode_plain("a😀").unwrap();
    let (text, stopped, _) = run(&tokenizer, &ids[..3], &rules(&["\u{fffd}"], false));
    assert_eq!((text.as_str(), stopped), ("a", true), "what is left at the end counts");
    let (text, stopped, _) = run(&tokenizer, &ids, &rules(&["\u{fffd}"], false));
    assert_eq!((text.as_str(), stopped), ("a😀", false), "what is held back does not");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The final text is that of all tokens together, and what stop strings were looked for in is its
    /// beginning.
    #[test]
    fn the_text_is_that_of_the_whole(words in prop::collection::vec("[a-zé😀 <|>\n]{0,5}|<think>|漢", 0..30), seed: u64) {
        let stop = rules(&["\u{1}"], false);
        for tokenizer in [byte_level(), metaspace()] {
            let mut ids = tokenizer.encode_plain(&words.concat()).unwrap();
            if let Some(marker) = tokenizer.id(if seed % 2 == 0 { "<|im_end|>" } else { "<s>" }) {
                ids.insert(seed as usize % (ids.len() + 1), marker);
            }
            let mut row = Detokenizer::new(Arc::new(stop.clone()));
            for &id in &ids {
                prop_assert!(!row.push(id, &tokenizer).unwrap());
            }
            let seen = row.text.clone();
            let (tokens, text, stopped) = row.finish(&tokenizer).unwrap();
            prop_assert_eq!(&text, &tokenizer.decode(&ids, true).unwrap());
            prop_assert_eq!(&tokens, &ids);
            prop_assert!(!stopped);
            prop_assert!(text.contains('\u{fffd}') || seen == text, "{:?} {:?}", seen, text);
        }
    }
}
