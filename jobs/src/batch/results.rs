//! Results of a batch: the line of the output for a line of the input and its answer.

use crate::batch::body::Body as RequestBody;
use crate::batch::envelope::{Endpoint, Envelope};
use crate::batch::logprobs::{Logprobs, TokenTexts};
use crate::error::JobError;
use crate::journal::answer::{Answer, Completion};
use crate::journal::identity::Identity;
use crate::row_error::RowErrorKind;
use serde::Serialize;

/// What results are made with.
pub struct Results {
    /// What they call the model.
    pub model: String,
    /// The job's date, in seconds since 1970.
    pub created: i64,
    pub texts: TokenTexts,
    /// The digest of the job's identity.
    identity: String,
    /// What ids are derived from.
    key: [u8; 32],
}

#[derive(Serialize)]
struct ResultLine<'a> {
    id: String,
    custom_id: Option<&'a str>,
    response: Option<Response<'a>>,
    error: Option<LineError<'a>>,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: String,
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Answer(Box<AnswerBody<'a>>),
    Error { error: RequestError<'a> },
}

#[derive(Serialize)]
struct AnswerBody<'a> {
    id: String,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: Usage,
    system_fingerprint: String,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    #[serde(flatten)]
    text: Text<'a>,
    logprobs: Option<Logprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Text<'a> {
    Message { role: &'static str, content: &'a str, refusal: () },
    Text(&'a str),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

/// What is wrong with a request.
#[derive(Serialize)]
struct RequestError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

/// What is wrong with a line that is no request.
#[derive(Serialize)]
struct LineError<'a> {
    code: &'a str,
    message: &'a str,
}

impl Results {
    /// Those of a job of this identity. The model is called by the first of its names.
    pub fn new(identity: &Identity, model: &str, created: i64, texts: TokenTexts) -> Results {
        let identity = identity.digest();
        let mut hasher = blake3::Hasher::new_derive_key("gristmill batch ids 1");
        let key = *hasher.update(identity.as_bytes()).finalize().as_bytes();
        Results { model: model.into(), created, texts, identity, key }
    }

    /// The result of a row: a line without its end.
    ///
    /// # Errors
    /// [`JobError::Internal`] if it has no JSON.
    pub fn line(&self, row: u64, line: &[u8], answer: Option<&Answer>) -> Result<Vec<u8>, JobError> {
        let envelope = Envelope::read(line);
        let custom_id = match &envelope {
            Ok(envelope) => Some(envelope.custom_id.as_str()),
            Err(bad) => bad.custom_id.as_deref(),
        };
        let ids = self.ids(row, line);
        let error = answer.and_then(|answer| answer.error.as_deref()).map(split);
        let (response, error) = match (&envelope, answer, error) {
            (_, None, _) => {
                let message = "the job ended before the request was answered";
                (None, Some(LineError { code: "batch_cancelled", message }))
            }
            (Err(bad), _, _) => (None, Some(LineError { code: bad.code, message: &bad.message })),
            (Ok(_), _, Some((Some(RowErrorKind::BadLine), message))) => {
                (None, Some(LineError { code: "duplicate_custom_id", message }))
            }
            // What was cut off has its text all the same, as at OpenAI.
            (Ok(envelope), Some(answer), Some((Some(RowErrorKind::Incomplete), _))) => {
                (Some(self.success(&ids, envelope, answer)), None)
            }
            (Ok(envelope), _, Some((kind, message))) => {
                (Some(self.failure(ids.request, envelope, kind, message)), None)
            }
            (Ok(envelope), Some(answer), None) => (Some(self.success(&ids, envelope, answer)), None),
        };
        let id = format!("batch_req_{}", ids.result);
        serde_json::to_vec(&ResultLine { id, custom_id, response, error })
            .map_err(|error| JobError::Internal(format!("the result of row {row}: {error}")))
    }

    fn failure<'a>(
        &self,
        request_id: String,
        envelope: &Envelope,
        kind: Option<RowErrorKind>,
        message: &'a str,
    ) -> Response<'a> {
        use RowErrorKind::{
            BadMessages, BadRequest, BadTokens, DeadEnd, EmptyPrompt, PromptTooLong, Template, TooComplex,
            UnknownModel,
        };
        let (status_code, code) = match kind {
            Some(PromptTooLong) => (400, Some("context_length_exceeded")),
            Some(BadMessages | BadRequest | BadTokens | DeadEnd | EmptyPrompt | Template | TooComplex) => {
                (400, None)
            }
            Some(UnknownModel) => (404, Some("model_not_found")),
            _ => (500, None),
        };
        let own = message.strip_prefix('`').and_then(|rest| rest.split_once('`'));
        let param = match (own, kind) {
            (Some((param, _)), _) => Some(param),
            (None, Some(DeadEnd | TooComplex)) => bounds_tokens(envelope),
            (None, _) => (status_code == 400).then(|| envelope.endpoint.asks_in()),
        };
        let error_type = if status_code == 500 { "server_error" } else { "invalid_request_error" };
        let body = Body::Error { error: RequestError { message, kind: error_type, param, code } };
        Response { status_code, request_id, body }
    }

    fn success<'a>(&'a self, ids: &Ids, envelope: &Envelope, answer: &'a Answer) -> Response<'a> {
        let endpoint = envelope.endpoint;
        // The answer alone does not tell, if it has no tokens.
        let body = RequestBody::read(endpoint, &envelope.body);
        let logprobs = body.is_ok_and(|body| body.sampling.logprobs.is_some());
        let (object, prefix) = match endpoint {
            Endpoint::Chat => ("chat.completion", "chatcmpl"),
            Endpoint::Completions => ("text_completion", "cmpl"),
        };
        let prompt_tokens = answer.num_input_tokens.unwrap_or(0).into();
        let completion_tokens = answer.num_generated_tokens();
        let total_tokens = prompt_tokens + completion_tokens;
        let choices = answer.completions.iter().enumerate();
        let body = AnswerBody {
            id: format!("{prefix}-{}", ids.answer),
            object,
            created: self.created,
            model: &self.model,
            choices: choices
                .map(|(index, completion)| self.choice(index, endpoint, completion, logprobs))
                .collect(),
            usage: Usage { prompt_tokens, completion_tokens, total_tokens },
            system_fingerprint: format!("fp_{}", &self.identity[..16]),
        };
        let request_id = ids.request.clone();
        Response { status_code: 200, request_id, body: Body::Answer(Box::new(body)) }
    }

    fn choice<'a>(
        &self,
        index: usize,
        endpoint: Endpoint,
        completion: &'a Completion,
        logprobs: bool,
    ) -> Choice<'a> {
        let text = match endpoint {
            Endpoint::Chat => Text::Message { role: "assistant", content: &completion.text, refusal: () },
            Endpoint::Completions => Text::Text(&completion.text),
        };
        let logprobs = logprobs.then(|| Logprobs::of(endpoint, completion, &self.texts));
        Choice { index, text, logprobs, finish_reason: completion.finish_reason.as_str() }
    }

    /// What the ids of a row are: functions of the identity, its number and its line.
    fn ids(&self, row: u64, line: &[u8]) -> Ids {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&row.to_le_bytes()).update(line);
        let id = |use_of_it: &str| {
            hasher.clone().update(use_of_it.as_bytes()).finalize().to_hex()[..32].to_string()
        };
        Ids { result: id("result"), request: id("request"), answer: id("answer") }
    }
}

/// Names that nothing else has.
struct Ids {
    result: String,
    request: String,
    answer: String,
}

/// The field of a request that leaves its answer no token, if it is not a flag.
fn bounds_tokens(envelope: &Envelope) -> Option<&'static str> {
    let body = RequestBody::read(envelope.endpoint, &envelope.body).ok()?;
    let (structured, sampling) = (body.structured.map(|(field, _)| field), body.sampling);
    let allowed = sampling.allowed_token_ids.map(|_| "allowed_token_ids");
    structured.or(allowed).or(sampling.bad_words.map(|_| "bad_words"))
}

/// The kind and the detail of an error that a journal holds.
fn split(error: &str) -> (Option<RowErrorKind>, &str) {
    let kind = RowErrorKind::of(error);
    let detail = kind.and_then(|kind| error.strip_prefix(kind.text())?.strip_prefix(": "));
    (kind, detail.unwrap_or(error))
}
