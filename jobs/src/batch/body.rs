//! The body of a request: what is asked, and how it is to be answered.

use crate::batch::envelope::Endpoint;
use crate::options::sampling::SamplingOptions;
use crate::prompt::rendering::MARK;
use crate::run::sampling::KeepLogprobs;
use engine::step::MAX_LOGPROBS;
use minijinja::Value;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Fields that have no effect on an answer: they tell the requests of one service apart.
const LABELS: [&str; 6] =
    ["user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"];

/// Fields that are taken where they say what holds in any case.
const NEUTRAL: [(&str, &[&str]); 17] = [
    ("stream", &["false"]),
    ("store", &["false"]),
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("parallel_tool_calls", &["true", "false"]),
    ("modalities", &["[\"text\"]"]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("suffix", &["\"\""]),
    ("use_beam_search", &["false"]),
    ("length_penalty", &["1", "1.0"]),
    ("spaces_between_special_tokens", &["true"]),
    ("add_generation_prompt", &["true"]),
    ("continue_final_message", &["false"]),
    ("return_tokens_as_token_ids", &["false"]),
    ("priority", &["0"]),
    ("prompt_logprobs", &["0", "false"]),
];

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// JSON of a list of messages, and names for the chat template.
    Messages(String, BTreeMap<String, Value>),
    /// Text that goes to the model as it is.
    Text(String),
    Tokens(Vec<u32>),
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    pub model: Option<String>,
    pub ask: Ask,
    pub sampling: RequestSampling,
}

/// What a request says of sampling; the rest is the job's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestSampling {
    pub n: Option<u32>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub seed: Option<u64>,
    pub stop: Option<Vec<String>>,
    pub stop_token_ids: Option<Vec<u32>>,
    pub ignore_eos: Option<bool>,
    pub max_tokens: Option<u32>,
    pub min_tokens: Option<u32>,
    pub skip_special_tokens: Option<bool>,
    pub include_stop_str_in_output: Option<bool>,
    pub logit_bias: Option<BTreeMap<u32, f32>>,
    pub allowed_token_ids: Option<Vec<u32>>,
    pub bad_words: Option<Vec<String>>,
    /// Whether log-probabilities are asked for, and of how many alternatives.
    pub logprobs: Option<u32>,
}

/// The fields of a body that are not looked at yet.
struct Fields(BTreeMap<String, Box<RawValue>>);

impl Fields {
    /// A field; `null` is none.
    fn raw(&mut self, name: &str) -> Option<Box<RawValue>> {
        self.0.remove(name).filter(|value| value.get() != "null")
    }

    /// A field of a type.
    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, String> {
        self.raw(name).map(|value| of_type(name, &value)).transpose()
    }
}

/// A value of a type.
fn of_type<T: DeserializeOwned>(name: &str, value: &RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|error| {
        let why = error.to_string();
        format!("`{name}`: {}", why.split(" at line ").next().unwrap_or(&why))
    })
}

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a string or a list of strings")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// What the field `prompt` can be.
#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a string or a list of token ids")]
enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    Lists(Vec<Vec<u32>>),
}

impl Body {
    /// Reads a body. Every error begins with the name of the field.
    ///
    /// # Errors
    /// The first field that is missing, of another type, or not followed here.
    pub fn read(endpoint: Endpoint, body: &RawValue) -> Result<Body, String> {
        let fields = serde_json::from_str(body.get()).map_err(|error| format!("`body`: {error}"))?;
        let mut fields = Fields(fields);
        let model = fields.take("model")?;
        let ask = read_ask(endpoint, &mut fields)?;
        let sampling = RequestSampling::read(endpoint, &mut fields)?;
        refuse_format(&mut fields)?;
        fields.refuse_others(endpoint)?;
        Ok(Body { model, ask, sampling })
    }
}

impl Fields {
    /// Refuses what is left and would have an effect.
    fn refuse_others(self, endpoint: Endpoint) -> Result<(), String> {
        for (name, value) in self.0 {
            let text: String = value.get().chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let (known, special) = (name.as_str(), if endpoint == Endpoint::Chat { "false" } else { "true" });
            let neutral = NEUTRAL.iter().any(|(name, values)| *name == known && values.contains(&&*text));
            if text == "null"
                || LABELS.contains(&known)
                || neutral
                || (known == "add_special_tokens" && text == special)
            {
                continue;
            }
            let why = match known {
                "stream" => "results of a batch are whole; leave it out",
                "tools" | "tool_choice" | "functions" | "function_call" => {
                    "tools are not supported; leave it out"
                }
                _ => "it is not supported; leave it out",
            };
            return Err(format!("`{name}`: {why}"));
        }
        Ok(())
    }
}

fn read_ask(endpoint: Endpoint, fields: &mut Fields) -> Result<Ask, String> {
    let name = endpoint.asks_in();
    let value = fields.raw(name).ok_or_else(|| format!("`{name}` is missing"))?;
    match endpoint {
        Endpoint::Chat => {
            let names: Option<BTreeMap<String, Value>> = fields.take("chat_template_kwargs")?;
            let names = names.unwrap_or_default();
            if let Some(own) =
                ["messages", "add_generation_prompt", MARK].into_iter().find(|n| names.contains_key(*n))
            {
                return Err(format!("`chat_template_kwargs`: {own} is not for a request to set"));
            }
            Ok(Ask::Messages(value.get().into(), names))
        }
        Endpoint::Completions => match of_type(name, &value)? {
            Prompt::Text(text) => Ok(Ask::Text(text)),
            Prompt::Tokens(tokens) => Ok(Ask::Tokens(tokens)),
            Prompt::Texts(texts) => only(texts).map(Ask::Text),
            Prompt::Lists(lists) => only(lists).map(Ask::Tokens),
        },
    }
}

/// The prompt of a list of one.
fn only<T>(mut prompts: Vec<T>) -> Result<T, String> {
    match (prompts.pop(), prompts.len()) {
        (Some(prompt), 0) => Ok(prompt),
        (_, n) => Err(format!("`prompt` has {} prompts; write one request for each", n + 1)),
    }
}

impl RequestSampling {
    fn read(endpoint: Endpoint, fields: &mut Fields) -> Result<RequestSampling, String> {
        let max_tokens = fields.take("max_tokens")?;
        let max_tokens = match fields.take("max_completion_tokens")? {
            Some(other) if max_tokens.is_some_and(|tokens: u32| tokens != other) => {
                return Err("`max_completion_tokens` and `max_tokens` differ; give one of them".into());
            }
            other => other.or(max_tokens),
        };
        let stop = fields.take("stop")?.map(|stop| match stop {
            Texts::One(stop) => vec![stop],
            Texts::Several(stop) => stop,
        });
        let allowed_token_ids: Option<Vec<u32>> = fields.take("allowed_token_ids")?;
        if allowed_token_ids.as_ref().is_some_and(Vec::is_empty) {
            return Err("`allowed_token_ids` is empty; leave it out to allow all tokens".into());
        }
        let seed = match fields.raw("seed") {
            // A negative number has a pattern of bits, too.
            Some(seed) if seed.get().starts_with('-') => Some(of_type::<i64>("seed", &seed)? as u64),
            Some(seed) => Some(of_type::<u64>("seed", &seed)?),
            None => None,
        };
        Ok(RequestSampling {
            n: fields.take("n")?,
            temperature: fields.take("temperature")?,
            top_p: fields.take("top_p")?,
            top_k: fields.take("top_k")?,
            min_p: fields.take("min_p")?,
            presence_penalty: fields.take("presence_penalty")?,
            frequency_penalty: fields.take("frequency_penalty")?,
            repetition_penalty: fields.take("repetition_penalty")?,
            seed,
            stop,
            stop_token_ids: fields.take("stop_token_ids")?,
            ignore_eos: fields.take("ignore_eos")?,
            max_tokens,
            min_tokens: fields.take("min_tokens")?,
            skip_special_tokens: fields.take("skip_special_tokens")?,
            include_stop_str_in_output: fields.take("include_stop_str_in_output")?,
            logit_bias: read_logit_bias(fields)?,
            allowed_token_ids,
            bad_words: fields.take("bad_words")?,
            logprobs: read_logprobs(endpoint, fields)?,
        })
    }

    /// The job's options with what the request says in their place, and which log-probabilities it wants.
    pub fn over(self, job: &SamplingOptions) -> (SamplingOptions, KeepLogprobs) {
        let RequestSampling {
            n,
            temperature,
            top_p,
            top_k,
            min_p,
            presence_penalty,
            frequency_penalty,
            repetition_penalty,
            seed,
            stop,
            stop_token_ids,
            ignore_eos,
            max_tokens,
            min_tokens,
            skip_special_tokens,
            include_stop_str_in_output,
            logit_bias,
            allowed_token_ids,
            bad_words,
            logprobs,
        } = self;
        let mut options = SamplingOptions {
            n: n.or(job.n),
            temperature: temperature.or(job.temperature),
            top_p: top_p.or(job.top_p),
            top_k: top_k.or(job.top_k),
            min_p: min_p.or(job.min_p),
            presence_penalty: presence_penalty.or(job.presence_penalty),
            frequency_penalty: frequency_penalty.or(job.frequency_penalty),
            repetition_penalty: repetition_penalty.or(job.repetition_penalty),
            seed: seed.unwrap_or(job.seed),
            stop: stop.unwrap_or_else(|| job.stop.clone()),
            stop_token_ids: stop_token_ids.unwrap_or_else(|| job.stop_token_ids.clone()),
            ignore_eos: ignore_eos.unwrap_or(job.ignore_eos),
            max_tokens: max_tokens.or(job.max_tokens),
            min_tokens: job.min_tokens,
            logprobs,
            prompt_logprobs: None,
            skip_special_tokens: skip_special_tokens.or(job.skip_special_tokens),
            include_stop_str_in_output: include_stop_str_in_output.unwrap_or(job.include_stop_str_in_output),
            logit_bias: logit_bias.or_else(|| job.logit_bias.clone()),
            allowed_token_ids: allowed_token_ids.unwrap_or_else(|| job.allowed_token_ids.clone()),
            bad_words: bad_words.unwrap_or_else(|| job.bad_words.clone()),
            generation_config: job.generation_config,
        };
        // A minimum that the request does not set is no reason to refuse it.
        options.min_tokens = min_tokens
            .unwrap_or_else(|| options.max_tokens.map_or(job.min_tokens, |max| job.min_tokens.min(max)));
        let keep = KeepLogprobs { tokens: logprobs.is_some(), alternatives: logprobs.is_some_and(|n| n > 0) };
        (options, keep)
    }
}

/// `{"ID": BIAS}`, from -100 to 100.
fn read_logit_bias(fields: &mut Fields) -> Result<Option<BTreeMap<u32, f32>>, String> {
    let Some(given) = fields.take::<BTreeMap<String, f32>>("logit_bias")? else { return Ok(None) };
    let pair = |(id, bias): (String, f32)| match id.parse() {
        Ok(id) if (-100.0..=100.0).contains(&bias) => Ok((id, bias)),
        Ok(id) => Err(format!("`logit_bias` of token {id:?} is {bias}; it must be from -100 to 100")),
        Err(_) => Err(format!("`logit_bias`: {id:?} is not a token id")),
    };
    given.into_iter().map(pair).collect::<Result<_, _>>().map(Some)
}

/// `logprobs` is a number for completions, and for chat whether there are any, with `top_logprobs` for the number.
fn read_logprobs(endpoint: Endpoint, fields: &mut Fields) -> Result<Option<u32>, String> {
    let (name, wanted, top) = match endpoint {
        Endpoint::Completions => {
            let top: Option<u32> = fields.take("logprobs")?;
            ("logprobs", top.is_some(), top)
        }
        Endpoint::Chat => {
            let wanted = fields.take("logprobs")?.unwrap_or(false);
            ("top_logprobs", wanted, fields.take("top_logprobs")?)
        }
    };
    match top {
        Some(top) if top as usize > MAX_LOGPROBS => {
            Err(format!("`{name}` is {top}; at most {MAX_LOGPROBS} are reported"))
        }
        Some(top) if top > 0 && !wanted => Err(format!("`{name}` needs `logprobs` to be true")),
        _ => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

/// Refuses answers of a form.
fn refuse_format(fields: &mut Fields) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Format {
        #[serde(rename = "type")]
        kind: String,
    }
    match fields.take::<Format>("response_format")? {
        Some(Format { kind }) if kind != "text" => {
            Err(format!("`response_format`: the type {kind:?} is not supported; leave it out"))
        }
        _ => Ok(()),
    }
}
