//! Why a row has no answer. A bad row is data: its error goes to the output's `error` column.

use std::fmt;

/// What kind of error it is. Its text is stable: it begins the `error` column, and `gristmill status` counts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowErrorKind {
    /// The row group that holds the row is corrupt.
    Unreadable,
    /// A column has a value that a template cannot be given.
    BadRow,
    /// The prompt's column is null.
    NullPrompt,
    /// A conversation is not a list of messages with role and content.
    BadMessages,
    /// A list of tokens holds something else.
    BadTokens,
    /// The template failed on this row.
    Template,
    /// The tokenizer failed on this row.
    Tokenizer,
    /// The prompt has no tokens.
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    PromptTooLong,
    /// A line of a batch is no request.
    BadLine,
    /// The request cannot be answered as it is.
    BadRequest,
    /// A request of a batch names another model.
    UnknownModel,
    /// The model's logits were not finite.
    NotFinite,
    /// The structure of the answer allows no token more.
    DeadEnd,
    /// The structure takes more work or memory where the answer is than is allowed.
    TooComplex,
    /// The answer was cut off before its structure's end. Its text is kept.
    Incomplete,
    /// The device died three times while the row ran.
    CrashedDevice,
    /// A bug of gristmill.
    Internal,
}

impl RowErrorKind {
    /// All kinds.
    pub const ALL: [RowErrorKind; 18] = [
        RowErrorKind::Unreadable,
        RowErrorKind::BadRow,
        RowErrorKind::NullPrompt,
        RowErrorKind::BadMessages,
        RowErrorKind::BadTokens,
        RowErrorKind::Template,
        RowErrorKind::Tokenizer,
        RowErrorKind::EmptyPrompt,
        RowErrorKind::PromptTooLong,
        RowErrorKind::BadLine,
        RowErrorKind::BadRequest,
        RowErrorKind::UnknownModel,
        RowErrorKind::NotFinite,
        RowErrorKind::DeadEnd,
        RowErrorKind::TooComplex,
        RowErrorKind::Incomplete,
        RowErrorKind::CrashedDevice,
        RowErrorKind::Internal,
    ];

    /// How an `error` of this kind begins.
    pub const fn text(self) -> &'static str {
        match self {
            RowErrorKind::Unreadable => "row unreadable",
            RowErrorKind::BadRow => "bad row",
            RowErrorKind::NullPrompt => "null prompt",
            RowErrorKind::BadMessages => "bad messages",
            RowErrorKind::BadTokens => "bad tokens",
            RowErrorKind::Template => "template error",
            RowErrorKind::Tokenizer => "tokenizer error",
            RowErrorKind::EmptyPrompt => "empty prompt",
            RowErrorKind::PromptTooLong => "prompt too long",
            RowErrorKind::BadLine => "bad line",
            RowErrorKind::BadRequest => "bad request",
            RowErrorKind::UnknownModel => "unknown model",
            RowErrorKind::NotFinite => "not finite",
            RowErrorKind::DeadEnd => "dead end",
            RowErrorKind::TooComplex => "too complex",
            RowErrorKind::Incomplete => "incomplete",
            RowErrorKind::CrashedDevice => "crashed the device",
            RowErrorKind::Internal => "internal error",
        }
    }

    /// The kind of an error that a journal holds as text.
    pub fn of(error: &str) -> Option<RowErrorKind> {
        RowErrorKind::ALL.into_iter().find(|kind| {
            let rest = error.strip_prefix(kind.text());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        })
    }

    /// The text of the kind of an error that a journal holds, or that it is another.
    pub fn text_of(error: &str) -> &'static str {
        RowErrorKind::of(error).map_or("other", RowErrorKind::text)
    }

    /// Whether the detail may quote the row, so that only the row's own `error` may show it.
    pub fn may_quote_row(self) -> bool {
        use RowErrorKind::{
            CrashedDevice, EmptyPrompt, Incomplete, NotFinite, NullPrompt, PromptTooLong, TooComplex,
        };
        let plain = matches!(
            self,
            CrashedDevice | EmptyPrompt | Incomplete | NotFinite | NullPrompt | PromptTooLong | TooComplex
        );
        !plain
    }
}

impl fmt::Display for RowErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a row has no answer, shown as `kind: detail`.
#[derive(Clone, Debug, PartialEq)]
pub struct RowError {
    pub kind: RowErrorKind,
    /// What is wrong with this row.
    pub detail: String,
    /// Tokens of the prompt, if it was made.
    pub num_input_tokens: Option<u32>,
}

impl RowError {
    /// An error of a row whose prompt has no tokens yet.
    pub fn new(kind: RowErrorKind, detail: impl Into<String>) -> RowError {
        RowError { kind, detail: detail.into(), num_input_tokens: None }
    }

    /// The same error of a row whose prompt has so many tokens.
    pub fn with_tokens(self, tokens: u32) -> RowError {
        RowError { num_input_tokens: Some(tokens), ..self }
    }

    /// The error as logs and the screen may show it: without text of the row, unless logs may hold that.
    pub fn shown(&self) -> String {
        shown(&self.to_string())
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

/// An error, as `kind: detail`, as logs and the screen may show it: without text of the row, unless logs may hold that.
pub fn shown(error: &str) -> String {
    let kind = RowErrorKind::of(error);
    if tracing::enabled!(tracing::Level::DEBUG) || kind.is_some_and(|kind| !kind.may_quote_row()) {
        return error.into();
    }
    let kind = kind.map_or("an error", RowErrorKind::text);
    format!("{kind} (its text may quote the row, which the screen shows only with --log-level debug)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_text() {
        for kind in RowErrorKind::ALL {
            assert_eq!(RowErrorKind::of(kind.text()), Some(kind));
            assert_eq!(RowErrorKind::of(&RowError::new(kind, "why: x").to_string()), Some(kind));
        }
        assert_eq!(RowErrorKind::of("bad rows"), None);
        assert_eq!(RowErrorKind::of(""), None);
    }
}
