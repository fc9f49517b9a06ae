//! Format 1 of the journal: its tables, and its spellings of what decides the answers.
//!
//! Values are texts there: some in Rust's debug format, some as flags were given and not as they resolved. A job of format 1
//! stays one: the present options are spelt as commit 288aa38 spelt them, and compared text by text. [`spell`] is the only
//! table of these spellings.

use crate::journal::decisions::{Decisions, FileDigests, PromptDecisions, SamplingDecisions, TypeNames};
use crate::journal::identity::{Identity, JobIdentity, OldField, difference};
use crate::options::device::{Gemm, Precision};
use crate::options::engine::Dtype;
use crate::options::job::ReturnColumn;
use engine::request::SamplingParams;

/// The spelling of what there was not.
const NONE: &str = "(none)";

impl Decisions<'_> {
    /// The identity in every format.
    pub fn job_identity(&self) -> JobIdentity {
        JobIdentity { identity: self.identity(), format1: spell(self) }
    }
}

/// How format 1 spells what decides the answers, in its order.
pub(crate) fn spell(decisions: &Decisions<'_>) -> Vec<OldField> {
    let Decisions {
        numerics_version,
        device,
        files: FileDigests { config, tokenizer, tokenizer_config, weights },
        // Resolved types follow from the flags, model and device.
        types: TypeNames { activations: _, kv: _, weights: _, quantization, dtype_flag, kv_cache_dtype_flag },
        gemm,
        // The spelling of `gemm` says so.
        outside_numeric_contract: _,
        float32_matmul_precision,
        max_model_len,
        // No format of that time was inferred.
        input_schema: _,
        prompt,
        sampling,
        returns,
        columns,
        documents,
        structured,
        reasoning_end,
        batch,
    } = decisions;
    let always = |name, value: &dyn ToString| OldField { name, value: Some(value.to_string()), absent: None };
    let file = |name, digest: &Option<String>| always(name, &digest.as_deref().unwrap_or(NONE));
    let since =
        |name, value: &str, absent| OldField { name, value: Some(value.into()), absent: Some(absent) };
    let mut fields = vec![
        always("numerics version", numerics_version),
        file("config", config),
        file("tokenizer", tokenizer),
        file("tokenizer config", tokenizer_config),
        always("weights", weights),
        // There was one family of instructions for each kind of device.
        always("device", &if *device == "cuda mma" { "cuda" } else { *device }),
        always("dtype", &dtype(*dtype_flag)),
        always("kv cache dtype", &dtype(*kv_cache_dtype_flag)),
        since("quantization", quantization.unwrap_or(NONE), NONE),
        since("gemm", gemm_name(*gemm), "builtin"),
        since("float32 matmul precision", precision(*float32_matmul_precision), "highest"),
        always("max model len", max_model_len),
    ];
    // There were none.
    let columns = columns.as_ref().map_or(NONE.into(), |columns| format!("{columns:?}"));
    fields.push(since("columns", &columns, NONE));
    let documents = documents.map_or(NONE.into(), |documents| format!("{documents:?}"));
    fields.push(since("documents", &documents, NONE));
    let structured =
        structured.map_or(NONE.into(), |structured| format!("{} {}", structured.kind(), structured.text()));
    fields.push(since("structured outputs", &structured, NONE));
    fields.push(since("reasoning end", reasoning_end.unwrap_or(NONE), NONE));
    let batch = batch.as_ref().map_or(NONE.into(), |batch| format!("{batch:?}"));
    fields.push(since("batch", &batch, NONE));
    spell_prompt(prompt, &mut fields);
    spell_sampling(sampling, &mut fields);
    let names: Vec<&str> = returns.iter().map(|column| return_name(*column)).collect();
    fields.push(always("return", &format!("[{}]", names.join(", "))));
    fields
}

fn spell_prompt(decisions: &PromptDecisions<'_>, fields: &mut Vec<OldField>) {
    let PromptDecisions {
        version,
        prompt,
        prompt_column,
        messages_column,
        prompt_tokens_column,
        is_default,
        system_prompt,
        chat_template,
        chat_template_kwargs,
        date,
    } = decisions;
    // Prompts of token ids are as they were.
    let version = version.unwrap_or(1).to_string();
    fields.push(OldField { name: "prompts version", value: Some(version), absent: Some("1") });
    let mut always = |name, value: Option<&str>| {
        fields.push(OldField { name, value: Some(value.unwrap_or(NONE).into()), absent: None })
    };
    for (name, value) in [
        ("prompt", prompt),
        ("prompt column", prompt_column),
        ("messages column", messages_column),
        ("prompt tokens column", prompt_tokens_column),
    ] {
        always(name, value.filter(|_| !is_default));
    }
    always("system prompt", *system_prompt);
    always("chat template", chat_template.as_deref());
    always("chat template kwargs", Some(&format!("{chat_template_kwargs:?}")));
    fields.push(OldField { name: "date", value: date.clone(), absent: Some(NONE) });
}

fn spell_sampling(decisions: &SamplingDecisions<'_>, fields: &mut Vec<OldField>) {
    let SamplingDecisions {
        n,
        seed,
        params,
        stop,
        include_stop_str_in_output,
        skip_special_tokens,
        bad_words: words,
        ignore_eos,
    } = decisions;
    let SamplingParams {
        temperature,
        top_p,
        top_k,
        min_p,
        presence_penalty,
        frequency_penalty,
        repetition_penalty,
        logit_bias,
        allowed_token_ids,
        bad_words: _,
        stop_token_ids,
        min_tokens,
        max_tokens,
        logprobs,
        prompt_logprobs,
        key: _,
    } = params;
    let always = |name, value: &dyn ToString| OldField { name, value: Some(value.to_string()), absent: None };
    fields.extend([
        always("top_k", top_k),
        always("temperature", temperature),
        always("top_p", top_p),
        always("min_p", min_p),
        always("presence_penalty", presence_penalty),
        always("frequency_penalty", frequency_penalty),
        always("repetition_penalty", repetition_penalty),
        always("max_tokens", max_tokens),
        always("n", n),
        always("seed", seed),
    ]);
    // These were left out where they did nothing.
    let mut unless = |name, absent: &'static str, value: String| {
        let value = Some(value).filter(|value| value != absent);
        fields.push(OldField { name, value, absent: Some(absent) });
    };
    unless("stop", "[]", format!("{stop:?}"));
    unless("stop_token_ids", "[]", format!("{stop_token_ids:?}"));
    unless("ignore_eos", "false", ignore_eos.to_string());
    unless("min_tokens", "0", min_tokens.to_string());
    unless("logprobs", "0", logprobs.to_string());
    unless("prompt_logprobs", NONE, prompt_logprobs.map_or(NONE.into(), |n| n.to_string()));
    unless("skip_special_tokens", "true", skip_special_tokens.to_string());
    unless("include_stop_str_in_output", "false", include_stop_str_in_output.to_string());
    unless("logit_bias", "[]", format!("{logit_bias:?}"));
    unless("allowed_token_ids", "[]", format!("{:?}", allowed_token_ids.as_deref().unwrap_or_default()));
    unless("bad_words", "[]", format!("{words:?}"));
}

fn dtype(flag: Dtype) -> &'static str {
    match flag {
        Dtype::Auto => "Auto",
        Dtype::Float32 => "Float32",
        Dtype::Bfloat16 => "Bfloat16",
        Dtype::Float16 => "Float16",
        // No page was in FP8.
        Dtype::Fp8 => "Fp8",
    }
}

fn gemm_name(gemm: Gemm) -> &'static str {
    match gemm {
        Gemm::Builtin => "builtin",
        Gemm::Cublaslt => "cublaslt, outside the numeric contract",
    }
}

fn precision(precision: Precision) -> &'static str {
    match precision {
        Precision::Highest => "highest",
        Precision::Medium => "medium",
    }
}

fn return_name(column: ReturnColumn) -> &'static str {
    match column {
        ReturnColumn::GeneratedTokens => "GeneratedTokens",
        ReturnColumn::TokenLogprobs => "TokenLogprobs",
        ReturnColumn::Logprobs => "Logprobs",
        ReturnColumn::PromptLogprobs => "PromptLogprobs",
        ReturnColumn::ChoiceProbabilities | ReturnColumn::ChoiceMass => "Choices",
        ReturnColumn::Chunks => "Chunks",
        ReturnColumn::FieldProbabilities => "FieldProbabilities",
    }
}

/// One line for each field that is not as it was when a job of format 1 was begun; empty if it is the same job.
pub(crate) fn differences(begun: &Identity, now: &[OldField]) -> String {
    let mut lines = String::new();
    for OldField { name, value, absent } in now {
        let then = begun.get(name).map(|field| meaning(name, &field.shown())).or(absent.map(String::from));
        let now = value.as_deref().map(|value| meaning(name, value)).or(absent.map(String::from));
        if then.is_none() || then != now {
            difference(&mut lines, name, then.as_deref(), now.as_deref());
        }
    }
    for field in begun.fields().iter().filter(|field| now.iter().all(|now| now.name != field.field)) {
        difference(&mut lines, &field.field, Some(&field.shown()), None);
    }
    lines.truncate(lines.trim_end().len());
    lines
}

/// What a spelling means, where there were two for one thing.
fn meaning(name: &str, value: &str) -> String {
    match (name, value) {
        // Both keep all tokens.
        ("top_k", "-1") => "0".into(),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(fields: &[(&str, &str)]) -> Identity {
        let mut identity = Identity::default();
        fields.iter().for_each(|(field, value)| identity.push(field, value));
        identity
    }

    fn now(name: &'static str, value: Option<&str>, absent: Option<&'static str>) -> OldField {
        OldField { name, value: value.map(String::from), absent }
    }

    #[test]
    fn a_missing_field_counts_as_what_it_stood_for() {
        let highest = Some("highest");
        for (then, value, differs) in [
            (&[][..], "highest", false),
            (&[], "medium", true),
            (&[("precision", "medium")], "medium", false),
            (&[("precision", "medium")], "highest", true),
        ] {
            let lines = differences(&begun(then), &[now("precision", Some(value), highest)]);
            assert_eq!(!lines.is_empty(), differs, "{lines}");
            assert!(!differs || lines.starts_with("  precision: begun with "), "{lines}");
        }
        let lines = differences(&begun(&[("stop", "[\"x\"]")]), &[now("stop", None, Some("[]"))]);
        assert_eq!(lines, "  stop: begun with [\"x\"], now []");
    }

    #[test]
    fn a_field_without_such_a_meaning_must_be_there_and_no_other_may() {
        let lines = differences(&begun(&[("tempo", "1")]), &[now("weights", Some("aa"), None)]);
        assert_eq!(lines, "  weights: begun with (none), now aa\n  tempo: begun with 1, now (none)");
    }

    #[test]
    fn two_spellings_of_all_tokens_are_one() {
        assert_eq!(differences(&begun(&[("top_k", "-1")]), &[now("top_k", Some("0"), None)]), "");
        assert_ne!(differences(&begun(&[("top_k", "-1")]), &[now("top_k", Some("1"), None)]), "");
    }
}
