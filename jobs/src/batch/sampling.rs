//! What a request says of sampling.

use crate::batch::envelope::Endpoint;
use crate::batch::fields::{Fields, of_type};
use crate::options::sampling::SamplingOptions;
use crate::run::sampling::KeepLogprobs;
use engine::step::MAX_LOGPROBS;
use serde::Deserialize;
use std::collections::BTreeMap;

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

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "it must be a string or a list of strings")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

impl RequestSampling {
    /// Takes the fields of sampling out of a body.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn read(endpoint: Endpoint, fields: &mut Fields) -> Result<RequestSampling, String> {
        // However many: no more than the context holds are taken.
        let max_tokens = fields.take::<u64>("max_tokens")?;
        let max_tokens = match fields.take("max_completion_tokens")? {
            Some(other) if max_tokens.is_some_and(|tokens| tokens != other) => {
                return Err("`max_completion_tokens` and `max_tokens` differ; give one of them".into());
            }
            other => other.or(max_tokens),
        };
        let max_tokens = max_tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
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
            Some(seed) => {
                // Negative ones are taken as well.
                let seed = of_type::<u64>("seed", &seed);
                Some(seed.map_err(|why| why.replace(" from 0 on", ""))?)
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::value::RawValue;

    fn read(endpoint: Endpoint, body: &str) -> Result<RequestSampling, String> {
        let mut fields = Fields::read(&RawValue::from_string(body.into()).unwrap()).unwrap();
        let sampling = RequestSampling::read(endpoint, &mut fields)?;
        fields.refuse_others(endpoint).map(|()| sampling)
    }

    #[test]
    fn every_field_is_followed() {
        let body = r#"{"n": 2, "temperature": 0.5, "top_p": 0.25, "top_k": -1, "min_p": 0.125, "presence_penalty": 1,
            "frequency_penalty": -1, "repetition_penalty": 1.5, "seed": -1, "stop": "a", "stop_token_ids": [3],
            "ignore_eos": true, "max_completion_tokens": 9, "max_tokens": 9, "min_tokens": 4, "skip_special_tokens": false,
            "include_stop_str_in_output": true, "logit_bias": {"7": -100}, "allowed_token_ids": [1, 2], "bad_words": ["b"],
            "logprobs": true, "top_logprobs": 4, "user": "me", "stream": false, "tools": [ ], "response_format": null}"#;
        let (options, keep) = read(Endpoint::Chat, body).unwrap().over(&SamplingOptions::default());
        let want = SamplingOptions {
            n: Some(2),
            temperature: Some(0.5),
            top_p: Some(0.25),
            top_k: Some(-1),
            min_p: Some(0.125),
            presence_penalty: Some(1.0),
            frequency_penalty: Some(-1.0),
            repetition_penalty: Some(1.5),
            seed: u64::MAX,
            stop: vec!["a".into()],
            stop_token_ids: vec![3],
            ignore_eos: true,
            max_tokens: Some(9),
            min_tokens: 4,
            logprobs: Some(4),
            prompt_logprobs: None,
            skip_special_tokens: Some(false),
            include_stop_str_in_output: true,
            logit_bias: Some([(7, -100.0)].into()),
            allowed_token_ids: vec![1, 2],
            bad_words: vec!["b".into()],
            generation_config: SamplingOptions::default().generation_config,
        };
        assert_eq!((options, keep), (want.clone(), KeepLogprobs { tokens: true, alternatives: true }));
        // What is not said is the job's, but for a minimum above the request's own maximum.
        let (options, keep) = read(Endpoint::Chat, r#"{"temperature": null}"#).unwrap().over(&want);
        assert_eq!(
            (options, keep),
            (SamplingOptions { logprobs: None, ..want.clone() }, KeepLogprobs::default())
        );
        let (options, _) =
            read(Endpoint::Completions, r#"{"max_tokens": 2, "logprobs": 0}"#).unwrap().over(&want);
        assert_eq!((options.min_tokens, options.max_tokens, options.logprobs), (2, Some(2), Some(0)));
        let endless = read(Endpoint::Completions, r#"{"max_tokens": 1000000000000}"#).unwrap();
        assert_eq!(endless.max_tokens, Some(u32::MAX));
    }

    #[test]
    fn a_value_of_another_kind_is_named() {
        for (body, why) in [
            (r#"{"temperature": "1"}"#, "`temperature`: invalid type: string \"1\", expected a number"),
            (
                r#"{"max_tokens": -1}"#,
                "`max_tokens`: invalid value: integer `-1`, expected a whole number from 0 on",
            ),
            (r#"{"stop_token_ids": 3}"#, "`stop_token_ids`: invalid type: integer `3`, expected a list"),
            (r#"{"seed": 0.5}"#, "`seed`: invalid type: floating point `0.5`, expected a whole number"),
            (r#"{"stop": 1}"#, "`stop`: it must be a string or a list of strings"),
            (r#"{"top_logprobs": 21, "logprobs": true}"#, "`top_logprobs` is 21; at most 20 are reported"),
            (r#"{"tools": [1]}"#, "`tools`: tools are not supported; leave it out"),
            (
                r#"{"verbosity": "low"}"#,
                "`verbosity`: it is not supported at /v1/chat/completions; leave it out",
            ),
        ] {
            assert_eq!(read(Endpoint::Chat, body).unwrap_err(), why);
        }
    }
}
