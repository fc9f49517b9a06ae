//! How rows are answered: the flags, over the model's `generation_config.json`, over the defaults.

use crate::error::JobError;
use crate::journal::note::Part;
use crate::model::generation_config::GenerationConfig;
use crate::options::sampling::SamplingOptions;
use crate::prompt::tokenizer::Tokenizer;
use crate::run::detokenize::TextRules;
use engine::request::SamplingParams;
use std::fmt::Display;
use std::sync::Arc;

/// A larger `--n` is refused. Numbers of completions fit into a byte.
const MAX_N: u32 = 256;

/// Where a value comes from that no flag gives.
const MODEL: &str = "generation_config.json";

/// How rows are answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Completions of each row.
    pub n: u32,
    /// The parameters of every completion, but for the random key.
    pub params: SamplingParams,
    /// How text is made of tokens.
    pub text: Arc<TextRules>,
    /// Which log-probabilities an answer keeps.
    pub keep: KeepLogprobs,
    seed: u64,
    /// Whether the random keys are a function of the seed alone, and not of the row's number too.
    own_seed: bool,
    /// Of all values: rows of equal digests and prompts have equal answers where sampling is greedy. Whoever changes a
    /// value makes a new digest.
    digest: [u8; 32],
    /// Each value with its name and where it comes from, for the screen and the job's identity.
    resolved: Vec<(&'static str, String, &'static str)>,
}

/// Which log-probabilities are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepLogprobs {
    /// Of the generated tokens.
    pub tokens: bool,
    /// Of their alternatives.
    pub alternatives: bool,
}

/// Picks values and remembers where they came from.
struct Resolver {
    resolved: Vec<(&'static str, String, &'static str)>,
}

impl Resolver {
    fn pick<T: Display>(&mut self, name: &'static str, asked: Option<T>, model: Option<T>, default: T) -> T {
        let (value, from) = match (asked, model) {
            (Some(value), _) => (value, ""),
            (None, Some(value)) => (value, MODEL),
            (None, None) => (default, "default"),
        };
        self.resolved.push((name, value.to_string(), from));
        value
    }
}

impl Sampling {
    /// Resolves the options for a model: what it says of sampling, its tokenizer, the size of its vocabulary and of
    /// its context.
    ///
    /// # Errors
    /// [`JobError::Usage`] names the flag that is missing or out of range.
    pub fn resolve(
        options: &SamplingOptions,
        model: &GenerationConfig,
        tokenizer: &Tokenizer,
        vocab: usize,
        max_model_len: usize,
    ) -> Result<Sampling, JobError> {
        if !options.ignore_eos {
            model.refuse_eos_beyond(vocab)?;
        }
        let mut r = Resolver { resolved: Vec::new() };
        let greedy = model.do_sample == Some(false);
        let temperature = model.temperature.filter(|_| !greedy).or(greedy.then_some(0.0));
        let top_k = r.pick("top_k", options.top_k, model.top_k, 0);
        let max_tokens = resolve_max_tokens(options.max_tokens, model.max_new_tokens, max_model_len, &mut r)?;
        // A minimum of the model's is no reason to refuse a lower --max-tokens.
        let min_tokens = match options.min_tokens {
            0 => model.min_new_tokens.unwrap_or(0).min(max_tokens),
            asked => asked,
        };
        let stop = if options.stop.is_empty() { model.stop.clone() } else { options.stop.clone() };
        let params = SamplingParams {
            temperature: r.pick("temperature", options.temperature, temperature, 1.0),
            top_p: r.pick("top_p", options.top_p, model.top_p, 1.0),
            top_k: resolve_top_k(top_k).map_err(|why| match options.top_k {
                Some(_) => JobError::Usage(format!("--top-k {why}")),
                None => JobError::Model { path: model.path.clone(), why: format!("top_k {why}") },
            })?,
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
            bad_words: [bad_words(&options.bad_words, tokenizer)?, model.banned.clone()].concat(),
            stop_token_ids: stop_ids(options, &stop, &end_tokens(model, tokenizer), tokenizer, vocab),
            min_tokens,
            max_tokens,
            logprobs: options.logprobs.unwrap_or(0),
            prompt_logprobs: options.prompt_logprobs,
            key: 0,
        };
        params.check(vocab).map_err(|why| {
            let of = |name: &str| r.resolved.iter().any(|(known, _, from)| *known == name && *from == MODEL);
            let name = why.split(' ').next().unwrap_or_default();
            if of(name) || (name == "bad_words" && options.bad_words.is_empty()) {
                return JobError::Model { path: model.path.clone(), why };
            }
            JobError::Usage(flagged(&why))
        })?;
        let n = r.pick("n", options.n, None, 1);
        if !(1..=MAX_N).contains(&n) {
            return Err(JobError::Usage(format!("--n is {n}; it must be from 1 to {MAX_N}")));
        }
        if let Some(stop) = options.stop.iter().find(|stop| stop.is_empty()) {
            return Err(JobError::Usage(format!(
                "--stop {stop:?} is empty; leave it out for no stop string"
            )));
        }
        let skip_special_tokens = options.skip_special_tokens.unwrap_or(true);
        let text = Arc::new(TextRules {
            stop,
            min_tokens: min_tokens as usize,
            include_stop_str_in_output: options.include_stop_str_in_output,
            skip_special_tokens,
        });
        let keep = KeepLogprobs::default();
        let (seed, own_seed, digest, resolved) = (options.seed, false, [0; 32], r.resolved);
        let mut sampling = Sampling { n, params, text, keep, seed, own_seed, digest, resolved };
        sampling.list_others(options, model);
        sampling.digest = sampling.digest_fields();
        Ok(sampling)
    }

    /// The same with these log-probabilities kept.
    #[must_use]
    pub fn keeping(mut self, keep: KeepLogprobs) -> Sampling {
        self.keep = keep;
        self.digest = self.digest_fields();
        self
    }

    /// The same for one request. With a seed of its own, equal requests have equal answers.
    #[must_use]
    pub fn of_request(mut self, keep: KeepLogprobs, own_seed: bool) -> Sampling {
        self.own_seed = own_seed;
        self.keeping(keep)
    }

    /// Warns of what is doubtful about the job's values.
    pub fn warn(&self, model: &GenerationConfig, tokenizer: &Tokenizer, vocab: usize) {
        for warning in &model.warnings {
            tracing::warn!("{warning}");
        }
        let ends = end_tokens(model, tokenizer);
        if !ends.is_empty() && ends.iter().all(|&id| id as usize >= vocab) {
            tracing::warn!(
                "the model's end tokens {ends:?} are beyond its vocabulary of {vocab}, so that every answer runs to \
                 --max-tokens; name one with --stop-token-ids"
            );
        }
        let doubtful = |stop: &String| doubtful_stop(stop, tokenizer, self.text.skip_special_tokens);
        for warning in self.text.stop.iter().filter_map(doubtful) {
            tracing::warn!("{warning}");
        }
    }

    /// The values that are not resolved but set or left out.
    fn list_others(&mut self, options: &SamplingOptions, model: &GenerationConfig) {
        let p = &self.params;
        let mut set = |name, is_set: bool, value: String| {
            if is_set {
                self.resolved.push((name, value, ""));
            }
        };
        set("seed", true, options.seed.to_string());
        set("stop", !self.text.stop.is_empty(), format!("{:?}", self.text.stop));
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
        set("bad_words_ids", !model.banned.is_empty(), format!("{:?}", model.banned));
    }

    /// The resolved values on one line; those of the model are marked.
    pub fn summary(&self) -> String {
        let shown = self.resolved.iter().map(|(name, value, from)| match *from {
            MODEL => format!("{name}={value} ({MODEL})"),
            _ => format!("{name}={value}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// Every value by its name, for the job's identity.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.resolved.iter().map(|(name, value, _)| (*name, value.as_str()))
    }

    /// Of parameters alone, for tests.
    #[cfg(test)]
    pub(crate) fn of_params(params: SamplingParams) -> Sampling {
        let resolved = vec![("params", format!("{params:?}"), "")];
        let (text, keep) = (Arc::default(), KeepLogprobs::default());
        let mut sampling =
            Sampling { n: 1, params, text, keep, seed: 0, own_seed: false, digest: [0; 32], resolved };
        sampling.digest = sampling.digest_fields();
        sampling
    }

    fn digest_fields(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        hash.update(&[self.keep.tokens.into(), self.keep.alternatives.into()]);
        for (name, value) in self.fields() {
            hash.update(&(value.len() as u64).to_le_bytes()).update(name.as_bytes()).update(value.as_bytes());
        }
        *hash.finalize().as_bytes()
    }

    /// A digest of all values.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Whether an answer is a function of the prompt, not of the row's number.
    pub fn is_greedy(&self) -> bool {
        self.params.temperature == 0.0
    }

    /// The parameters of one completion of a row.
    pub fn params(&self, row: u64, completion: u32) -> SamplingParams {
        let row = if self.own_seed { 0 } else { row };
        SamplingParams { key: key(self.seed, row, completion), ..self.params.clone() }
    }

    /// The parameters of one of the requests of a row's document.
    pub fn params_of_part(&self, row: u64, part: Part) -> SamplingParams {
        SamplingParams { key: part_key(self.seed, row, part), ..self.params.clone() }
    }
}

/// The random key of a document's request: a function of the job's seed, the row's number, and which of its requests it is.
fn part_key(seed: u64, row: u64, part: Part) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("gristmill document key 1");
    hash.update(&seed.to_le_bytes()).update(&row.to_le_bytes());
    hash.update(&part.level.to_le_bytes()).update(&part.index.to_le_bytes());
    let mut key = [0; 8];
    hash.finalize_xof().fill(&mut key);
    u64::from_le_bytes(key)
}

/// The random key of a row's completion: a function of the job's seed and the row's number only.
pub fn key(seed: u64, row: u64, completion: u32) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("gristmill row key 1");
    hash.update(&seed.to_le_bytes()).update(&row.to_le_bytes()).update(&completion.to_le_bytes());
    let mut key = [0; 8];
    hash.finalize_xof().fill(&mut key);
    u64::from_le_bytes(key)
}

/// The tokens that the model's files say end an answer.
fn end_tokens(model: &GenerationConfig, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut ends = model.eos_token_ids().to_vec();
    ends.extend(tokenizer.special_token_names().get("eos_token").and_then(|end| tokenizer.id(end)));
    ends
}

fn resolve_top_k(top_k: i64) -> Result<u32, String> {
    match top_k {
        -1 => Ok(0),
        k => u32::try_from(k).map_err(|_| format!("is {k}; it must be at least 0, or -1 to keep all tokens")),
    }
}

fn resolve_max_tokens(
    asked: Option<u32>,
    model: Option<u32>,
    max_model_len: usize,
    r: &mut Resolver,
) -> Result<u32, JobError> {
    let limit = u32::try_from(max_model_len.saturating_sub(1)).unwrap_or(u32::MAX);
    if let Some(asked) = asked
        && asked > limit
    {
        return Err(JobError::Usage(format!(
            "--max-tokens is {asked}; the context has {max_model_len} tokens (--max-model-len), so that at most {limit} \
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
    Ok(r.pick("max_tokens", asked, model.map(|model| model.min(limit)), 0))
}

/// The tokens that end a row, sorted: also those that stop strings write, where they have no text in which to find them.
/// End tokens beyond the vocabulary cannot be generated and are dropped.
fn stop_ids(
    options: &SamplingOptions,
    stop: &[String],
    eos: &[u32],
    tokenizer: &Tokenizer,
    vocab: usize,
) -> Vec<u32> {
    let eos = eos.iter().copied().filter(|_| !options.ignore_eos);
    let no_text = options.skip_special_tokens.unwrap_or(true);
    let written = stop.iter().filter_map(|stop| tokenizer.special_id(stop).filter(|_| no_text));
    let known = eos.chain(written).filter(|&id| (id as usize) < vocab);
    let mut ids: Vec<u32> = options.stop_token_ids.iter().copied().chain(known).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What the user should know of a stop string.
fn doubtful_stop(stop: &str, tokenizer: &Tokenizer, skip_special_tokens: bool) -> Option<String> {
    let letter = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic());
    let written = ["\\n", "\\r", "\\t"]
        .into_iter()
        .find(|escape| stop.match_indices(escape).any(|(at, _)| !letter(&stop[at + escape.len()..])));
    if let Some(escape) = written {
        return Some(format!(
            "--stop {stop}: {escape} is taken as a backslash and a letter, as the shell hands it over; for a line break \
             write --stop $'\\n' in bash, or stop = \"\\n\" in a job file"
        ));
    }
    let inside = tokenizer.special_inside(stop).filter(|_| skip_special_tokens)?;
    Some(format!(
        "--stop {stop}: {inside} is a special token, which has no text, and so the whole is not found; give --stop {inside} \
         alone, or --skip-special-tokens=false"
    ))
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
mod tests;
