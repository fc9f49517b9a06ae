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

/// Bytes of all structures that are kept, as far as they can be told; the last is kept, whatever it takes.
const BYTES: usize = 256 << 20;

/// The digest of a structure, and its end tokens.
type Key = ([u8; 32], Vec<u32>);

/// What was made for a key, once for all who ask.
type Made<T> = Arc<OnceLock<Result<T, String>>>;

/// The last that were made.
struct Last<K, T> {
    made: HashMap<K, (Made<T>, usize)>,
    order: VecDeque<K>,
    most: usize,
    most_bytes: usize,
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
        let (vocabularies, structures) =
            (Last::keeping(VOCABULARIES, usize::MAX), Last::keeping(STRUCTURES, BYTES));
        Structures { tokenizer, vocab, vocabularies: vocabularies.into(), structures: structures.into() }
    }

    /// A structure that ends with any of `end_tokens`.
    ///
    /// # Errors
    /// What of it cannot be enforced.
    pub fn get(&self, outputs: &StructuredOutputs, end_tokens: &[u32]) -> Result<Structure, String> {
        let make = || {
            let make = || Vocabulary::new(&self.tokenizer, self.vocab, end_tokens).map(Arc::new);
            let vocabulary = once(&self.vocabularies, end_tokens.to_vec(), make, |_| 0);
            Structure::compile(outputs, &vocabulary?)
        };
        once(&self.structures, (outputs.digest(), end_tokens.to_vec()), make, Structure::bytes)
    }
}

/// What is kept for a key, or else is made, while others of other keys are served.
fn once<K: Clone + Eq + Hash, T: Clone>(
    last: &Mutex<Last<K, T>>,
    key: K,
    make: impl FnOnce() -> Result<T, String>,
    bytes: impl FnOnce(&T) -> usize,
) -> Result<T, String> {
    let lock = || last.lock().unwrap_or_else(PoisonError::into_inner);
    let place = lock().place(key.clone());
    let mut is_new = false;
    let made = place.get_or_init(|| {
        is_new = true;
        make()
    });
    if is_new {
        lock().count(&key, made.as_ref().map_or(0, bytes));
    }
    made.clone()
}

impl<K: Clone + Eq + Hash, T> Last<K, T> {
    fn keeping(most: usize, most_bytes: usize) -> Last<K, T> {
        Last { made: HashMap::new(), order: VecDeque::new(), most, most_bytes }
    }

    fn place(&mut self, key: K) -> Made<T> {
        if let Some((place, _)) = self.made.get(&key) {
            return place.clone();
        }
        if self.order.len() == self.most {
            self.drop_first();
        }
        self.order.push_back(key.clone());
        self.made.entry(key).or_default().0.clone()
    }

    /// Counts the bytes of what was made, for which what was made before is dropped.
    fn count(&mut self, key: &K, bytes: usize) {
        let Some((_, counted)) = self.made.get_mut(key) else { return };
        *counted = bytes;
        let mut all: usize = self.made.values().map(|(_, bytes)| bytes).sum();
        while all > self.most_bytes && self.order.len() > 1 {
            all -= self.drop_first();
        }
    }

    fn drop_first(&mut self) -> usize {
        let first = self.order.pop_front().and_then(|first| self.made.remove(&first));
        first.map_or(0, |(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_for_a_key_is_made_once_while_it_is_kept() {
        let last = Mutex::new(Last::keeping(2, 100));
        let mut count = 0;
        let mut get = |key: u32| {
            let before = count;
            let make = || {
                count += 1;
                if key == 7 { Err("no".to_string()) } else { Ok(key) }
            };
            let made = once(&last, key, make, |key| *key as usize);
            (made.ok(), count - before)
        };
        assert_eq!([1, 7, 7, 1].map(&mut get), [(Some(1), 1), (None, 1), (None, 0), (Some(1), 0)]);
        assert_eq!([3, 7, 1].map(&mut get), [(Some(3), 1), (None, 0), (Some(1), 1)]);
        // What was made before is dropped for bytes, and the last is kept.
        assert_eq!(
            [99, 1, 98, 200].map(&mut get),
            [(Some(99), 1), (Some(1), 0), (Some(98), 1), (Some(200), 1)]
        );
        assert_eq!([200, 98, 1].map(&mut get), [(Some(200), 0), (Some(98), 1), (Some(1), 1)]);
    }
}
