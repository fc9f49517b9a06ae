#![allow(clippy::unwrap_used)]
use super::*;
use crate::options::sampling::UseGenerationConfig;
use crate::prompt::tokenizer::tests::byte_level;

fn resolve(options: &SamplingOptions, generation: &str) -> Result<Sampling, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("generation_config.json"), generation).unwrap();
    let config = br#"{"eos_token_id": 7}"#;
    let used = options.generation_config;
    let generation = GenerationConfig::read(folder.path(), config, used).map_err(|e| e.to_string())?;
    Sampling::resolve(options, &generation, &byte_level(), 300, 128).map_err(|e| e.to_string())
}

fn asked() -> SamplingOptions {
    SamplingOptions { max_tokens: Some(10), ..SamplingOptions::default() }
}

#[test]
fn flags_go_over_the_model_and_the_model_over_defaults() {
    let model = r#"{"temperature": 0.6, "top_k": 20, "max_new_tokens": 4000, "eos_token_id": 5}"#;
    let s = resolve(&SamplingOptions { top_k: Some(-1), ..SamplingOptions::default() }, model).unwrap();
    assert_eq!((s.params.temperature, s.params.top_k, s.params.max_tokens), (0.6, 0, 127));
    assert_eq!(s.params.stop_token_ids, [5]);
    assert!(s.summary().contains("temperature=0.6 (generation_config.json)"), "{}", s.summary());
    let s = resolve(&asked(), r#"{"do_sample": false, "temperature": 0.6}"#).unwrap();
    assert_eq!((s.params.temperature, s.params.max_tokens), (0.0, 10));
    assert_eq!(s.params.stop_token_ids, [7], "config.json's");
    let s = resolve(&SamplingOptions { ignore_eos: true, stop_token_ids: vec![9, 3, 9], ..asked() }, "{}")
        .unwrap();
    assert_eq!(s.params.stop_token_ids, [3, 9]);
    let s =
        resolve(&SamplingOptions { generation_config: UseGenerationConfig::None, ..asked() }, model).unwrap();
    assert_eq!((s.params.temperature, s.params.stop_token_ids), (1.0, vec![5]));
}

#[test]
fn values_out_of_range_are_refused_by_flag() {
    let none = SamplingOptions::default;
    for (options, message) in [
        (none(), "--max-tokens is needed"),
        (SamplingOptions { max_tokens: Some(0), ..none() }, "--max-tokens is 0"),
        (SamplingOptions { max_tokens: Some(1_000_000), ..none() }, "at most 127 can follow"),
        (SamplingOptions { temperature: Some(f32::NAN), ..asked() }, "--temperature is NaN"),
        (SamplingOptions { top_k: Some(-5), ..asked() }, "--top-k is -5"),
        (SamplingOptions { top_p: Some(0.0), ..asked() }, "--top-p is 0"),
        (SamplingOptions { n: Some(4_000_000_000), ..asked() }, "--n is 4000000000"),
        (SamplingOptions { n: Some(0), ..asked() }, "--n is 0"),
        (SamplingOptions { allowed_token_ids: vec![1, 300], ..asked() }, "names token 300"),
        (SamplingOptions { stop_token_ids: vec![300], ..asked() }, "--stop-token-ids names token 300"),
        (
            SamplingOptions { logit_bias: Some([(300, 1.0)].into()), ..asked() },
            "--logit-bias names token 300",
        ),
        (SamplingOptions { min_tokens: 11, ..asked() }, "--min-tokens 11 exceeds"),
        (SamplingOptions { logprobs: Some(1000), ..asked() }, "--logprobs is 1000"),
        (SamplingOptions { stop: vec!["".into()], ..asked() }, "--stop"),
    ] {
        let error = resolve(&options, "{}").unwrap_err();
        assert!(error.contains(message), "{error} / {message}");
    }
}

#[test]
fn keys_of_the_model_are_followed() {
    let s = resolve(
        &asked(),
        r#"{"top_k": 50.0, "eos_token_id": [5, 6.0], "min_new_tokens": 3, "stop_strings": ["END"],
            "suppress_tokens": [1, 2], "bad_words_ids": [[3, 4], [5]], "typical_p": 1.0, "num_beams": 1,
            "no_repeat_ngram_size": 0, "length_penalty": 2.0, "_from_model_config": true, "max_length": 20}"#,
    )
    .unwrap();
    assert_eq!((s.params.top_k, s.params.min_tokens, s.text.min_tokens), (50, 3, 3));
    assert_eq!(s.params.stop_token_ids, [5, 6]);
    assert_eq!(s.text.stop, ["END"]);
    assert_eq!(s.params.bad_words, [vec![1], vec![2], vec![3, 4]], "an end token alone is no bad word");
    assert!(s.fields().any(|(name, value)| name == "bad_words_ids" && value == "[[1], [2], [3, 4]]"));
    let own = SamplingOptions { stop: vec!["x".into()], min_tokens: 1, ..asked() };
    let s = resolve(&own, r#"{"stop_strings": "END", "min_new_tokens": 20}"#).unwrap();
    assert_eq!((s.text.stop.as_slice(), s.params.min_tokens), (&["x".to_string()][..], 1));
    let s = resolve(&asked(), r#"{"min_new_tokens": 20}"#).unwrap();
    assert_eq!(s.params.min_tokens, 10, "no more than --max-tokens");
    let greedy = r#"{"do_sample": false, "typical_p": 0.9, "epsilon_cutoff": 0.1}"#;
    assert_eq!(resolve(&asked(), greedy).unwrap().params.temperature, 0.0, "they only change what is drawn");
}

#[test]
fn keys_of_the_model_that_are_wrong_or_not_supported_are_named() {
    for (file, why) in [
        (r#"{"top_k": 50.5}"#, "top_k is 50.5; it must be a whole number"),
        (r#"{"eos_token_id": -1}"#, "eos_token_id is -1; it must be a token id"),
        (r#"{"eos_token_id": "5"}"#, r#"eos_token_id is "5"; it must be a token id"#),
        (r#"{"eos_token_id": [5, null]}"#, "eos_token_id is [5,null]; it must be a token id"),
        (r#"{"temperature": "x"}"#, r#"temperature is "x"; it must be a number"#),
        (r#"{"max_new_tokens": -1}"#, "max_new_tokens is -1; it must be a whole number of at least 0"),
        (r#"{"do_sample": 1}"#, "do_sample is 1; it must be true or false"),
        (r#"{"bad_words_ids": [[]]}"#, "bad_words_ids is [[]]; it must be a list of lists of token ids"),
        (
            r#"{"begin_suppress_tokens": [3]}"#,
            "begin_suppress_tokens is [3], which gristmill does not support",
        ),
        (r#"{"no_repeat_ngram_size": 3}"#, "no_repeat_ngram_size is 3, which"),
        (
            r#"{"eos_token_id": [5, 300]}"#,
            "eos_token_id names 300, and the model's vocabulary has 300 tokens",
        ),
        (r#"{"forced_eos_token_id": 5}"#, "forced_eos_token_id is 5, which"),
        (r#"{"forced_bos_token_id": 5}"#, "forced_bos_token_id is 5, which"),
        (r#"{"min_length": 8}"#, "min_length is 8, which"),
        (r#"{"sequence_bias": [[[5], -1.0]]}"#, "sequence_bias is [[[5],-1.0]], which"),
        (r#"{"typical_p": 0.9}"#, "typical_p is 0.9, which"),
        (r#"{"num_beams": 4}"#, "num_beams is 4, which"),
        (r#"{"repetition_penalty": 0}"#, "repetition_penalty is 0; it must be"),
        (r#"{"top_p": 2}"#, "top_p is 2; it must be"),
        ("[]", "is [], not a JSON object"),
        (r#"{"max_new_tokens": 4,}"#, "is not JSON"),
    ] {
        let error = resolve(&asked(), file).unwrap_err();
        assert!(error.contains("generation_config.json: ") && error.contains(why), "{error}");
    }
    let none = SamplingOptions { generation_config: UseGenerationConfig::None, ..asked() };
    assert!(resolve(&none, r#"{"num_beams": 4, "top_k": "x"}"#).is_ok());
    assert!(resolve(&none, r#"{"eos_token_id": "5"}"#).unwrap_err().contains("eos_token_id"));
}

#[test]
fn bad_words_are_banned_with_and_without_a_space() {
    let options = SamplingOptions { bad_words: vec!["w".into(), " hello".into()], ..asked() };
    let tokenizer = byte_level();
    let id = |token| tokenizer.id(token).unwrap();
    let expected = vec![vec![id("w")], vec![id("Ġw")], vec![id("hello")]];
    assert_eq!(resolve(&options, "{}").unwrap().params.bad_words, expected);
}

#[test]
fn keys_differ_by_seed_row_and_completion() {
    let keys = [key(0, 0, 0), key(1, 0, 0), key(0, 1, 0), key(0, 0, 1), key(0, 256, 0)];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    assert_eq!(key(3, 4, 5), key(3, 4, 5));
}

#[test]
fn a_stop_string_that_is_a_special_token_ends_rows_at_its_id() {
    let tokenizer = byte_level();
    let id = |token| tokenizer.id(token).unwrap();
    let options = SamplingOptions {
        stop: vec!["<|im_end|>".into(), "<think>".into(), "x".into()],
        stop_token_ids: vec![9],
        ignore_eos: true,
        ..asked()
    };
    let s = resolve(&options, "{}").unwrap();
    assert_eq!(s.params.stop_token_ids, [9, id("<|im_end|>")], "<think> has text");
    assert_eq!(s.text.stop, options.stop);
    let shown = SamplingOptions { skip_special_tokens: Some(false), ..options };
    assert_eq!(resolve(&shown, "{}").unwrap().params.stop_token_ids, [9], "it is found in the text");
}

#[test]
fn stop_strings_that_are_hardly_meant_are_told() {
    let tokenizer = byte_level();
    let told = |stop: &str| doubtful_stop(stop, &tokenizer, true).unwrap_or_default();
    for stop in ["\\n", "\\n\\n", ".\\n", "\\r\\n", "a\\t"] {
        assert!(told(stop).contains("--stop $'\\n' in bash"), "{stop}: {}", told(stop));
    }
    for stop in ["\n", "\\nabla", "n", "<|im_end|>", "<think>"] {
        assert_eq!(told(stop), "", "{stop}");
    }
    assert!(told("<|im_end|>\n").contains("give --stop <|im_end|> alone"), "{}", told("<|im_end|>\n"));
    assert_eq!(doubtful_stop("<|im_end|>\n", &tokenizer, false), None);
}
