//! How long prompts and answers may be: what rows may have of their own, where they run again with more.

use crate::journal::identity::Identity;
use serde::{Deserialize, Serialize};

/// The names in the identity.
pub(crate) const MAX_MODEL_LEN: &str = "max_model_len";
pub(crate) const MAX_TOKENS: &str = "max_tokens";

/// How long prompts and answers may be, in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LengthLimits {
    /// Of prompt and answer together.
    pub max_model_len: u64,
    /// Of the answer.
    pub max_tokens: u64,
}

/// Limits in the column `settings` of a record: those that are not the identity's.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
}

impl LengthLimits {
    /// Those of an identity, if it has both.
    pub fn of(identity: &Identity) -> Option<LengthLimits> {
        let number = |field| identity.get(field)?.value.parse().ok();
        Some(LengthLimits { max_model_len: number(MAX_MODEL_LEN)?, max_tokens: number(MAX_TOKENS)? })
    }

    /// An identity with the limits of the begun job where its own are greater.
    pub(crate) fn lowered_to_begun(now: &Identity, begun: &Identity) -> Identity {
        let number = |identity: &Identity, field| identity.get(field)?.value.parse::<u64>().ok();
        let mut lowered = now.clone();
        for field in [MAX_MODEL_LEN, MAX_TOKENS] {
            if let Some((now, then)) = number(now, field).zip(number(begun, field))
                && now > then
            {
                lowered.set(field, then);
            }
        }
        lowered
    }

    /// The tokens that an answer to a prompt of so many tokens may have.
    pub fn room(&self, prompt: u64) -> u64 {
        self.max_tokens.min(self.max_model_len.saturating_sub(prompt))
    }

    /// What a record says of these limits in a job that was begun with others.
    pub(crate) fn settings(&self, begun: &LengthLimits) -> Option<String> {
        let differing = |now: u64, then: u64| Some(now).filter(|_| now != then);
        let settings = Settings {
            max_model_len: differing(self.max_model_len, begun.max_model_len),
            max_tokens: differing(self.max_tokens, begun.max_tokens),
        };
        (settings != Settings::default()).then(|| serde_json::to_string(&settings).unwrap_or_default())
    }
}

/// Whether the settings of a record are known.
pub(crate) fn are_known(settings: &str) -> bool {
    serde_json::from_str::<Settings>(settings).is_ok_and(|settings| settings != Settings::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_what_is_not_the_identitys() {
        let mut identity = Identity::default();
        assert_eq!(LengthLimits::of(&identity), None);
        identity.push(MAX_MODEL_LEN, 128);
        identity.push(MAX_TOKENS, 16);
        let begun = LengthLimits { max_model_len: 128, max_tokens: 16 };
        assert_eq!(LengthLimits::of(&identity), Some(begun));
        assert_eq!((begun.room(100), begun.room(120), begun.room(200)), (16, 8, 0));
        assert_eq!(begun.settings(&begun), None);
        let now = LengthLimits { max_tokens: 64, ..begun };
        assert_eq!(now.settings(&begun).as_deref(), Some(r#"{"max_tokens":64}"#));
        for (settings, known) in [(r#"{"max_tokens":64}"#, true), ("{}", false), (r#"{"seed":1}"#, false)] {
            assert_eq!(are_known(settings), known, "{settings}");
        }
    }
}
