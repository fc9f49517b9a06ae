#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::tokenizer::tests::byte_level;

fn resolve(options: &SamplingOptions, generation: &str) -> Result<Sampling, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("generation_config.json"), generation).unwrap();
    let config = br#"{"eos_token_id": [7, 9999]}"#;
    let generation = GenerationConfig::read(folder.path(), config).map_err(|e| e.to_string())?;
    Sampling::resolve(options, generation, &byte_level(), 300, 128).map_err(|e| e.to_string())
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
    assert_eq!(s.params.stop_token_ids, [7], "config.json's, without the one beyond the vocabulary");
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
