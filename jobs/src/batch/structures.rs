//! The structures that requests ask for, compiled once for all that ask for the same.

use crate::prompt::tokenizer::Tokenizer;
use crate::structured::StructuredOutputs;
use crate::structured::constraint::Structure;
use crate::structured::vocabulary::Vocabulary;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Structures that are kept, and vocabularies: requests may have end tokens of their own.
const STRUCTURES: usize = 64;
const VOCABULARIES: usize = 4;

/// The digest of a structure, and its end tokens.
type Key = ([u8; 32], Vec<u32>);

/// What was made for a key, once for all who ask.
type Made<T> = Arc<OnceLock<Result<T, String>>>;

/// The last that were made.
struct Last<K, T> {
    made: HashMap<K, Made<T>>,
    order: VecDeque<K>,
    most: usize,
}

/// Compiles structures and keeps the last of them, with what was wrong with those that could not be.
pub struct Structures {
    tokenizer: Arc<Tokenizer>,
    vocab: usize,
    vocabularies: Mutex<Last<Vec<u32>, Arc<Vocabulary>>>,
    structures: Mutex<Last<Key, Structure>>,
}

impl Structures {
    /// Those over the tokens of a model with so many logits.
    pub fn new(tokenizer: Arc<Tokenizer>, vocab: usize) -> Structures {
        let (vocabularies, structures) = (Last::keeping(VOCABULARIES), Last::keeping(STRUCTURES));
        Structures { tokenizer, vocab, vocabularies: vocabularies.into(), structures: structures.into() }
    }

    /// A structure that ends with any of `end_tokens`.
    ///
    /// # Errors
    /// What of it cannot be enforced.
    pub fn get(&self, outputs: &StructuredOutputs, end_tokens: &[u32]) -> Result<Structure, String> {
        once(&self.structures, (outputs.digest(), end_tokens.to_vec()), || {
            let vocabulary = once(&self.vocabularies, end_tokens.to_vec(), || {
                Vocabulary::new(&self.tokenizer, self.vocab, end_tokens).map(Arc::new)
            });
            Structure::compile(outputs, &vocabulary?)
        })
    }
}

/// What is kept for a key, or else is made, while others of other keys are served.
fn once<K: Clone + Eq + Hash, T: Clone>(
    last: &Mutex<Last<K, T>>,
    key: K,
    make: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    let place = last.lock().unwrap_or_else(PoisonError::into_inner).place(key);
    place.get_or_init(make).clone()
}

impl<K: Clone + Eq + Hash, T> Last<K, T> {
    fn keeping(most: usize) -> Last<K, T> {
        Last { made: HashMap::new(), order: VecDeque::new(), most }
    }

    fn place(&mut self, key: K) -> Made<T> {
        if let Some(place) = self.made.get(&key) {
            return place.clone();
        }
        if self.order.len() == self.most
            && let Some(first) = self.order.pop_front()
        {
            self.made.remove(&first);
        }
        self.order.push_back(key.clone());
        self.made.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_for_a_key_is_made_once_while_it_is_kept() {
        let last = Mutex::new(Last::keeping(2));
        let mut count = 0;
        let mut get = |key: u32| {
            let before = count;
            let made = once(&last, key, || {
                count += 1;
                if key == 7 { Err("no".to_string()) } else { Ok(key) }
            });
            (made.ok(), count - before)
        };
        assert_eq!([1, 7, 7, 1].map(&mut get), [(Some(1), 1), (None, 1), (None, 0), (Some(1), 0)]);
        assert_eq!([3, 7, 1].map(&mut get), [(Some(3), 1), (None, 0), (Some(1), 1)]);
    }
}
