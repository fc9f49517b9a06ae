//! A model's tokens, as llguidance walks them.

use crate::guard::guarded;
use crate::prompt::tokenizer::Tokenizer;
use crate::prompt::tokenizer::token_bytes::TokenBytes;
use crate::structured::alternatives::beyond;
use crate::structured::endings::{Endings, endings};
use crate::structured::parser_error::plain;
use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::earley::CGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Logger, ParserFactory};
use std::fmt;
use std::sync::Arc;

/// Tokens of more bytes are never allowed: the trie does not hold them.
const MAX_TOKEN_BYTES: usize = 1000;

/// What one mask may cost a lexer, in llguidance's measure: 170 ns each where its lists are long. With the items of a parser it is
/// what bounds the time of a mask to a second; a row that meets it is an error.
pub(crate) const MASK_FUEL: u64 = 5_000_000;

/// States of a lexer: 1 to 2 kB each.
pub(crate) const LEXER_STATES: usize = 25_000;

/// Items of a parser's row, and of a whole mask. A property that may come next is four of a row's. Each is compared with all
/// others of its row: 20 µs in rows of 10,000.
const ROW_ITEMS: usize = 10_000;
const MASK_ITEMS: usize = 50_000;

/// Those of a grammar that a user wrote: where its rules are ambiguous, the time of a row grows with the cube of its items, and is 70
/// ms there.
const FREE_ROW_ITEMS: usize = 2_500;
const FREE_MASK_ITEMS: usize = 30_000;

/// Alternatives at one place, of a grammar that a user wrote and of a schema. A row holds these and what led to them.
const FREE_ALTERNATIVES: usize = 2_400;
const ALTERNATIVES: usize = 9_000;

/// A model's tokens as bytes, in a trie.
pub struct Vocabulary {
    pub(crate) factory: ParserFactory,
    /// The bytes of each token, as [`crate::prompt::tokenizer::token_bytes`] has them.
    pub(crate) token_bytes: Arc<Vec<Vec<u8>>>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// The tokens that end an answer.
    pub(crate) end_tokens: Vec<u32>,
    /// Tokens that lose a blank where they come first.
    pub(crate) cut_first: Vec<u32>,
    /// Tokens with a `"`.
    pub(crate) quotes: Vec<u32>,
}

/// The trie, with the tokenizer for text that is forced.
struct Tokens {
    trie: TokTrie,
    bytes: Arc<Vec<Vec<u8>>>,
    tokenizer: Arc<Tokenizer>,
}

impl Vocabulary {
    /// Of a model with `size` logits, whose answers end with any of `end_tokens`.
    ///
    /// # Errors
    /// Why its tokens cannot be constrained.
    pub fn new(tokenizer: &Arc<Tokenizer>, size: usize, end_tokens: &[u32]) -> Result<Vocabulary, String> {
        if end_tokens.is_empty() {
            return Err(
                "the model names no end token (eos_token_id of generation_config.json or config.json), with \
                        which a structured output ends"
                    .into(),
            );
        }
        let TokenBytes { mut bytes, cut_first } =
            tokenizer.token_bytes(size, end_tokens).map_err(|why| format!("tokenizer.json: {why}"))?;
        bytes.iter_mut().filter(|bytes| bytes.len() > MAX_TOKEN_BYTES).for_each(Vec::clear);
        let has_quote = |(token, bytes): (u32, &Vec<u8>)| bytes.contains(&b'"').then_some(token);
        let quotes = (0..).zip(&bytes).filter_map(has_quote).collect();
        let bytes = Arc::new(bytes);
        let made = guarded(|| {
            let info = TokRxInfo::new(size as u32, end_tokens[0]);
            let trie = TokTrie::from(&info, &bytes).with_eos_tokens(end_tokens);
            let env: TokEnv = Arc::new(Tokens { trie, bytes: bytes.clone(), tokenizer: tokenizer.clone() });
            ParserFactory::new_simple(&env)
        });
        let mut factory = made.and_then(|made| made.map_err(|error| error.to_string()))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.step_lexer_fuel = MASK_FUEL;
        limits.max_lexer_states = LEXER_STATES;
        limits.max_items_in_row = ROW_ITEMS;
        limits.step_max_items = MASK_ITEMS;
        Ok(Vocabulary {
            factory,
            token_bytes: bytes,
            tokenizer: tokenizer.clone(),
            end_tokens: end_tokens.to_vec(),
            cut_first,
            quotes,
        })
    }
}

impl Vocabulary {
    /// A parser at the start of an answer. `is_schema`: that its rules come from a JSON Schema, so that they say at each place which of
    /// them goes on, where those of a user may go on in any number of ways.
    ///
    /// # Errors
    /// What of it is beyond a limit that every answer would meet where it comes there.
    pub(crate) fn parser(
        &self,
        rules: TopLevelGrammar,
        is_schema: bool,
    ) -> Result<llguidance::Matcher, String> {
        let mut limits = self.factory.limits().clone();
        if !is_schema {
            limits.max_items_in_row = FREE_ROW_ITEMS;
            limits.step_max_items = FREE_MASK_ITEMS;
        }
        let tokens = || Some(self.factory.tok_env().clone());
        let (rules, mut lexer) =
            GrammarInit::Serialized(rules).to_internal(tokens(), limits.clone()).map_err(said)?;
        let copy = GrammarInit::Internal(rules.clone(), lexer.clone());
        let compiled =
            copy.to_cgrammar(tokens(), &mut Logger::new(0, 0), limits.clone(), Vec::new()).map_err(said)?;
        check_alternatives(&compiled, is_schema)?;
        // Text that must come next is not asked for where it may have no end. In JSON, no terminal goes on with what may follow it.
        lexer.no_forcing = !is_schema && endings(&compiled, &limits)? == Endings::Unknown;
        drop(compiled);
        let (rules, logger) = (GrammarInit::Internal(rules, lexer), Logger::new(0, 0));
        let able = InferenceCapabilities::default();
        Ok(llguidance::Matcher::new(self.factory.create_parser_from_init_ext(rules, logger, able, limits)))
    }
}

/// An error of llguidance's.
fn said(error: impl fmt::Display) -> String {
    plain(&error.to_string())
}

fn check_alternatives(grammar: &CGrammar, is_schema: bool) -> Result<(), String> {
    let most = if is_schema { ALTERNATIVES } else { FREE_ALTERNATIVES };
    let Some((name, count)) = beyond(grammar, most) else { return Ok(()) };
    Err(if is_schema {
        format!(
            "its properties, branches and values that are no strings leave {count} ways at one place; at most {most} are taken; give \
             fewer of them"
        )
    } else {
        format!(
            "{name}: it has {count} alternatives at one place, with those of the rules that may begin it; at most {most} are taken; \
             write alternatives that are texts as one terminal (WORD: \"a\" | \"b\"), or give a list of texts as `choice`"
        )
    })
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("end_tokens", &self.end_tokens).finish_non_exhaustive()
    }
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// The tokens that the tokenizer makes of a text, unless it adds something to it.
    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(text, |text| {
            let tokens = self.tokenizer.encode_plain(text).unwrap_or_default();
            let known = |token: &u32| self.bytes.get(*token as usize);
            let bytes: Option<Vec<&Vec<u8>>> = tokens.iter().map(known).collect();
            match bytes {
                Some(bytes) if bytes.iter().flat_map(|b| b.iter()).eq(text.as_bytes()) => tokens,
                _ => self.trie.greedy_tokenize(text.as_bytes()),
            }
        })
    }
}
