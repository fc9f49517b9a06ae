//! The tokens of labels.

use crate::prompt::tokenizer::Tokenizer;

/// The tokens of a label alone.
///
/// # Errors
/// Why no answer of the model can be this label.
pub fn tokens_of(label: &str, tokenizer: &Tokenizer, vocab: usize) -> Result<Vec<u32>, String> {
    if let Some(token) = special_in(label, tokenizer) {
        return Err(format!("the choice {label:?} holds the special token {token}, which is no text"));
    }
    let tokens = tokenizer.encode_plain(label).map_err(|why| format!("the choice {label:?}: {why}"))?;
    let text = tokenizer.decode(&tokens, false).map_err(|why| format!("the choice {label:?}: {why}"))?;
    // Some tokenizers put a space before a text, which their decoder takes away again or not.
    if tokens.is_empty() || text.trim_start() != label.trim_start() {
        return Err(format!(
            "no sequence of tokens of this model is the choice {label:?}; the nearest gives {text:?}"
        ));
    }
    match tokens.iter().find(|&&token| token as usize >= vocab) {
        Some(token) => Err(format!(
            "the choice {label:?} needs the token {token}, and the model's logits end at {}",
            vocab - 1
        )),
        None => Ok(tokens),
    }
}

/// The tokens that follow a prompt where prompt and label are put into tokens together.
///
/// # Errors
/// If the prompt's tokens do not come first.
pub fn tokens_behind(label: &str, prompt: &[u32], together: &[u32]) -> Result<Vec<u32>, String> {
    match together.strip_prefix(prompt) {
        Some([]) | None => Err(format!(
            "the tokenizer joins the end of the prompt with the choice {label:?}, so that no token begins where the \
             choice does; end the prompt otherwise, for example without the blank before the answer"
        )),
        Some(tokens) => Ok(tokens.to_vec()),
    }
}

/// A special token that a text holds or is.
fn special_in<'a>(text: &'a str, tokenizer: &'a Tokenizer) -> Option<&'a str> {
    tokenizer.special_id(text).map(|_| text).or_else(|| tokenizer.special_inside(text))
}
