//! The structures that requests ask for, compiled once for all that ask for the same.

use crate::prompt::tokenizer::Tokenizer;
use crate::structured::StructuredOutputs;
use crate::structured::constraint::Structure;
use crate::structured::room::Room;
use crate::structured::vocabulary::Vocabulary;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Structures that are kept, and vocabularies: requests may have end tokens of their own.
const STRUCTURES: usize = 64;
const VOCABULARIES: usize = 4;

/// Bytes of all structures that are kept, as far as they can be told; the last is kept, whatever it takes.
const BYTES: usize = 256 << 20;

/// Bytes of all structures that rows hold and that are kept, beyond which no others are compiled: far more than those of all rows
/// that run at once, if they are of a usual size. What is kept fits into it alone, so that a row that ends always makes room.
const HELD_BYTES: usize = 1 << 30;

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
    room: Arc<Room>,
}

impl Structures {
    /// Those over the tokens of a model with so many logits.
    pub fn new(tokenizer: Arc<Tokenizer>, vocab: usize) -> Structures {
        let (vocabularies, structures) =
            (Last::keeping(VOCABULARIES, usize::MAX), Last::keeping(STRUCTURES, BYTES));
        let room = Arc::new(Room::new(HELD_BYTES));
        Structures {
            tokenizer,
            vocab,
            vocabularies: vocabularies.into(),
            structures: structures.into(),
            room,
        }
    }

    /// The memory of what rows hold.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// A structure that ends with any of `end_tokens`.
    ///
    /// # Errors
    /// What of it cannot be enforced.
    pub fn get(&self, outputs: &StructuredOutputs, end_tokens: &[u32]) -> Result<Structure, String> {
        let make = || {
            let make = || Vocabulary::new(&self.tokenizer, self.vocab, end_tokens).map(Arc::new);
            let vocabulary = once(&self.vocabularies, end_tokens.to_vec(), make, |_| 0);
            let structure = Structure::compile(outputs, &vocabulary?)?;
            let taken = self.room.take(structure.bytes_in_use());
            Ok(structure.taking(taken))
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    #[test]
    fn memory_is_taken_while_a_structure_is_kept_or_held() {
        let nano = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../nano"));
        let structures = Structures::new(Arc::new(Tokenizer::open(nano).unwrap()), 2048);
        let get = |i: usize| structures.get(&StructuredOutputs::Regex(format!("a{i}")), &[2]).unwrap();
        let first = get(0);
        let one = structures.room().taken();
        assert!(one > 0 && first.bytes_in_use() == one);
        drop(get(0));
        assert_eq!(structures.room().taken(), one, "it was compiled once");
        (1..=STRUCTURES).for_each(|i| drop(get(i)));
        let all = structures.room().taken();
        assert!(all > STRUCTURES * one, "the first is held, and as many are kept");
        drop(first);
        assert_eq!(structures.room().taken(), all - one);
    }

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
