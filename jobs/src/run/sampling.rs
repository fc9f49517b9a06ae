//! How rows are answered: the flags, over the model's `generation_config.json`, over the defaults.

use crate::error::JobError;
use crate::files::read_capped;
use crate::options::sampling::{SamplingOptions, UseGenerationConfig};
use crate::prompt::tokenizer::Tokenizer;
use crate::run::detokenize::TextRules;
use engine::request::SamplingParams;
use serde::Deserialize;
use std::fmt::Display;
use std::path::Path;

/// The most completions of one row.
const MOST_COMPLETIONS: u32 = 256;

/// The most bytes of a model's JSON files.
const CONFIG_BYTES: u64 = 4 << 20;

/// The part of `generation_config.json` and `config.json` that matters here.
#[derive(Debug, Default, Deserialize)]
struct GenerationConfig {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    max_new_tokens: Option<u32>,
    #[serde(default)]
    eos_token_id: EosIds,
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum EosIds {
    One(u32),
    Many(Vec<u32>),
    #[default]
    None,
}

impl EosIds {
    fn ids(&self) -> &[u32] {
        match self {
            EosIds::One(id) => std::slice::from_ref(id),
            EosIds::Many(ids) => ids,
            EosIds::None => &[],
        }
    }
}

/// How every row of a job is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Completions of each row.
    pub n: u32,
    /// What the engine is told, but for the key.
    pub params: SamplingParams,
    /// How text is made of tokens.
    pub text: TextRules,
    seed: u64,
    /// Each value with its name and where it comes from, for people and for the job's identity.
    resolved: Vec<(&'static str, String, &'static str)>,
}

/// Picks values and remembers where they came from.
struct Resolver {
    resolved: Vec<(&'static str, String, &'static str)>,
}

impl Resolver {
    fn pick<T: Display>(&mut self, name: &'static str, asked: Option<T>, model: Option<T>, default: T) -> T {
        let (value, from) = match (asked, model) {
            (Some(value), _) => (value, ""),
            (None, Some(value)) => (value, "generation_config.json"),
            (None, None) => (default, "default"),
        };
        self.resolved.push((name, value.to_string(), from));
        value
    }
}

impl Sampling {
    /// Resolves the options for a model: its folder, its tokenizer, the size of its vocabulary and of its
    /// context.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the flag that is missing or out of range; [`JobError::Model`] a file of the
    /// model that cannot be read.
    pub fn resolve(
        options: &SamplingOptions,
        folder: Option<&Path>,
        tokenizer: &Tokenizer,
        vocab: usize,
        max_model_len: usize,
    ) -> Result<Sampling, JobError> {
        let (model, eos) = model_defaults(options, folder, tokenizer)?;
        let mut r = Resolver { resolved: Vec::new() };
        let greedy = model.do_sample == Some(false);
        let temperature = model.temperature.filter(|_| !greedy).or(greedy.then_some(0.0));
        let top_k = r.pick("top_k", options.top_k, model.top_k, 0);
        let params = SamplingParams {
            temperature: r.pick("temperature", options.temperature, temperature, 1.0),
            top_p: r.pick("top_p", options.top_p, model.top_p, 1.0),
            top_k: resolve_top_k(top_k)?,
            min_p: r.pick("min_p", options.min_p, model.min_p, 0.0),
            presence_penalty: r.pick("presence_penalty", options.presence_penalty, None, 0.0),
            frequency_penalty: r.pick("frequency_penalty", options.frequency_penalty, None, 0.0),
            repetition_penalty: r.pick(
                "repetition_penalty",
                options.repetition_penalty,
                model.repetition_penalty,
                1.0,
            ),
            logit_bias: options.logit_bias.iter().flatten().map(|(&id, &bias)| (id, bias)).collect(),
            allowed_token_ids: Some(options.allowed_token_ids.clone()).filter(|ids| !ids.is_empty()),
            bad_words: bad_words(&options.bad_words, tokenizer)?,
            stop_token_ids: stop_ids(options, &eos, vocab),
            min_tokens: options.min_tokens,
            max_tokens: resolve_max_tokens(options.max_tokens, model.max_new_tokens, max_model_len, &mut r)?,
            logprobs: options.logprobs.unwrap_or(0),
            prompt_logprobs: options.prompt_logprobs,
            key: 0,
        };
        params.check(vocab).map_err(|why| JobError::Usage(flagged(&why)))?;
        let n = r.pick("n", options.n, None, 1);
        if !(1..=MOST_COMPLETIONS).contains(&n) {
            return Err(JobError::Usage(format!("--n is {n}; it must be from 1 to {MOST_COMPLETIONS}")));
        }
        if let Some(stop) = options.stop.iter().find(|stop| stop.is_empty()) {
            return Err(JobError::Usage(format!(
                "--stop {stop:?} is empty; leave it out for no stop string"
            )));
        }
        let text = TextRules {
            stop: options.stop.clone(),
            include_stop_str_in_output: options.include_stop_str_in_output,
            skip_special_tokens: options.skip_special_tokens.unwrap_or(true),
        };
        let mut sampling = Sampling { n, params, text, seed: options.seed, resolved: r.resolved };
        sampling.list_others(options);
        Ok(sampling)
    }

    /// The values that are not resolved but set or left out.
    fn list_others(&mut self, options: &SamplingOptions) {
        let p = &self.params;
        let mut set = |name, is_set: bool, value: String| {
            if is_set {
                self.resolved.push((name, value, ""));
            }
        };
        set("seed", true, options.seed.to_string());
        set("stop", !options.stop.is_empty(), format!("{:?}", options.stop));
        set("stop_token_ids", !p.stop_token_ids.is_empty(), format!("{:?}", p.stop_token_ids));
        set("ignore_eos", options.ignore_eos, "true".into());
        set("min_tokens", p.min_tokens > 0, p.min_tokens.to_string());
        set("logprobs", p.logprobs > 0, p.logprobs.to_string());
        set("prompt_logprobs", p.prompt_logprobs.is_some(), p.prompt_logprobs.unwrap_or(0).to_string());
        set("skip_special_tokens", !self.text.skip_special_tokens, "false".into());
        set("include_stop_str_in_output", options.include_stop_str_in_output, "true".into());
        set("logit_bias", !p.logit_bias.is_empty(), format!("{:?}", p.logit_bias));
        set("allowed_token_ids", p.allowed_token_ids.is_some(), format!("{:?}", options.allowed_token_ids));
        set("bad_words", !options.bad_words.is_empty(), format!("{:?}", options.bad_words));
    }

    /// The resolved values on one line, those of the model said to be.
    pub fn summary(&self) -> String {
        let shown = self.resolved.iter().map(|(name, value, from)| match *from {
            "generation_config.json" => format!("{name}={value} (generation_config.json)"),
            _ => format!("{name}={value}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// Every value by its name, for the job's identity.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.resolved.iter().map(|(name, value, _)| (*name, value.as_str()))
    }

    /// What the engine is told of one completion of a row.
    pub fn params(&self, row: u64, completion: u32) -> SamplingParams {
        SamplingParams { key: key(self.seed, row, completion), ..self.params.clone() }
    }
}

/// The random key of a row's completion: a function of the job's seed and the row's number only.
pub fn key(seed: u64, row: u64, completion: u32) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("gristmill row key 1");
    hash.update(&seed.to_le_bytes()).update(&row.to_le_bytes()).update(&completion.to_le_bytes());
    let mut key = [0; 8];
    hash.finalize_xof().fill(&mut key);
    u64::from_le_bytes(key)
}

/// The model's defaults, and its end tokens.
fn model_defaults(
    options: &SamplingOptions,
    folder: Option<&Path>,
    tokenizer: &Tokenizer,
) -> Result<(GenerationConfig, Vec<u32>), JobError> {
    let read = |name: &str| -> Result<GenerationConfig, JobError> {
        let Some(path) = folder.map(|folder| folder.join(name)).filter(|path| path.is_file()) else {
            return Ok(GenerationConfig::default());
        };
        serde_json::from_slice(&read_capped(&path, CONFIG_BYTES)?)
            .map_err(|error| JobError::Model { path, why: error.to_string() })
    };
    let mut model = read("generation_config.json")?;
    let mut eos = model.eos_token_id.ids().to_vec();
    if eos.is_empty() {
        // config.json may hold sampling values of its own, which transformers no longer reads either.
        let path = folder.map(|folder| folder.join("config.json")).filter(|path| path.is_file());
        let config = path.and_then(|path| read_capped(&path, CONFIG_BYTES).ok());
        let config: Option<serde_json::Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let ids =
            config.and_then(|mut config| serde_json::from_value(config.get_mut("eos_token_id")?.take()).ok());
        eos = ids.map_or(Vec::new(), |ids: EosIds| ids.ids().to_vec());
    }
    eos.extend(tokenizer.special_token_names().get("eos_token").and_then(|eos| tokenizer.id(eos)));
    if options.generation_config == UseGenerationConfig::None {
        model = GenerationConfig::default();
    }
    Ok((model, eos))
}

fn resolve_top_k(top_k: i64) -> Result<u32, JobError> {
    match top_k {
        -1 => Ok(0),
        k => u32::try_from(k).map_err(|_| {
            JobError::Usage(format!("--top-k is {k}; it must be at least 0, or -1 to keep all tokens"))
        }),
    }
}

fn resolve_max_tokens(
    asked: Option<u32>,
    model: Option<u32>,
    max_model_len: usize,
    r: &mut Resolver,
) -> Result<u32, JobError> {
    let most = u32::try_from(max_model_len.saturating_sub(1)).unwrap_or(u32::MAX);
    if let Some(asked) = asked
        && asked > most
    {
        return Err(JobError::Usage(format!(
            "--max-tokens is {asked}; the context has {max_model_len} tokens (--max-model-len), so that at most {most} \
             can follow a prompt"
        )));
    }
    if asked.or(model).is_none() {
        return Err(JobError::Usage(
            "--max-tokens is needed: the model's generation_config.json has no max_new_tokens, and a default would \
             cut answers off unseen"
                .into(),
        ));
    }
    Ok(r.pick("max_tokens", asked, model.map(|model| model.min(most)), 0))
}

/// The tokens that end a row, sorted. End tokens beyond the vocabulary cannot be generated and are dropped.
fn stop_ids(options: &SamplingOptions, eos: &[u32], vocab: usize) -> Vec<u32> {
    let eos = eos.iter().filter(|&&id| !options.ignore_eos && (id as usize) < vocab);
    let mut ids: Vec<u32> = options.stop_token_ids.iter().chain(eos).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The token sequences of words, as vLLM makes them: each word as it is, and after a space where that is a
/// sequence of the same length with another first token.
fn bad_words(words: &[String], tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>, JobError> {
    let mut sequences = Vec::new();
    for word in words {
        let word = word.trim_start();
        let encode = |text: &str| {
            tokenizer
                .encode_plain(text)
                .map_err(|why| JobError::Usage(format!("--bad-words {word:?}: {why}")))
        };
        let plain = encode(word)?;
        if plain.is_empty() {
            return Err(JobError::Usage(format!("--bad-words {word:?} has no tokens")));
        }
        let spaced = encode(&format!(" {word}"))?;
        let differs = spaced.len() == plain.len() && spaced[0] != plain[0];
        sequences.push(plain);
        if differs {
            sequences.push(spaced);
        }
    }
    Ok(sequences)
}

/// The engine's message with the name of the flag.
fn flagged(why: &str) -> String {
    match why.split_once(' ') {
        Some((name, rest)) => format!("--{} {rest}", name.replace('_', "-")),
        None => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::prompt::tokenizer::tests::byte_level;

    fn resolve(options: &SamplingOptions, generation: &str) -> Result<Sampling, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("generation_config.json"), generation).unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"eos_token_id": [7, 9999]}"#).unwrap();
        Sampling::resolve(options, Some(folder.path()), &byte_level(), 300, 128).map_err(|e| e.to_string())
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
        let s =
            resolve(&SamplingOptions { ignore_eos: true, stop_token_ids: vec![9, 3, 9], ..asked() }, "{}")
                .unwrap();
        assert_eq!(s.params.stop_token_ids, [3, 9]);
        let s = resolve(&SamplingOptions { generation_config: UseGenerationConfig::None, ..asked() }, model)
            .unwrap();
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
}
