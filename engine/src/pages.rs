//! KV pages: reference counts, and finding a cached page by the tokens of it and of all pages before it.

use std::collections::{BTreeSet, HashMap};

/// A page's number.
pub type PageId = u32;

/// Identifies the content of a page and all pages before it: 128 bits of a BLAKE3 chain over their tokens. Two
/// different prefixes collide with a probability of about 2^-128, so a match means the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixHash([u8; 16]);

impl PrefixHash {
    /// The hash of a full page of `tokens` after the pages with the hash `before`.
    pub fn after(before: Option<PrefixHash>, tokens: &[u32]) -> PrefixHash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&before.map_or([0; 16], |h| h.0));
        hasher.update(bytemuck::cast_slice(tokens));
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        PrefixHash(hash)
    }
}

#[derive(Clone, Debug, Default)]
struct Page {
    references: u32,
    hash: Option<PrefixHash>,
    /// When it was freed: the least recently used page is allocated first. 0 for pages that are not published.
    freed: u64,
}

/// All pages of a KV cache.
///
/// A page without references is free. A free page that was published keeps its content and can be
/// found until it is allocated again.
#[derive(Debug)]
pub struct PagePool {
    pages: Vec<Page>,
    free: BTreeSet<(u64, PageId)>,
    found: HashMap<PrefixHash, PageId>,
    clock: u64,
}

impl PagePool {
    /// A pool of `count` free pages.
    pub fn new(count: usize) -> PagePool {
        PagePool {
            pages: vec![Page::default(); count],
            free: (0..count as PageId).map(|id| (0, id)).collect(),
            found: HashMap::new(),
            clock: 0,
        }
    }

    /// The number of pages.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Pages without references.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Allocates the least recently used free page; its old content can no longer be found.
    pub fn allocate(&mut self) -> Option<PageId> {
        let (_, id) = self.free.pop_first()?;
        let page = &mut self.pages[id as usize];
        if let Some(hash) = page.hash.take() {
            self.found.remove(&hash);
        }
        page.references = 1;
        Some(id)
    }

    /// The page that holds this prefix's last tokens, if there is one.
    pub fn find(&self, hash: PrefixHash) -> Option<PageId> {
        self.found.get(&hash).copied()
    }

    /// Whether the page has no references.
    pub fn is_free(&self, id: PageId) -> bool {
        self.pages[id as usize].references == 0
    }

    /// Adds a reference to a page that [`PagePool::find`] found.
    pub fn retain(&mut self, id: PageId) {
        let page = &mut self.pages[id as usize];
        if page.references == 0 {
            self.free.remove(&(page.freed, id));
        }
        page.references += 1;
    }

    /// Removes a reference.
    ///
    /// # Panics
    /// If it has no references: a page freed twice would be given to two sequences.
    pub fn release(&mut self, id: PageId) {
        let page = &mut self.pages[id as usize];
        assert!(page.references > 0, "page {id} is released twice");
        page.references -= 1;
        if page.references == 0 {
            self.clock += 1;
            page.freed = if page.hash.is_some() { self.clock } else { 0 };
            self.free.insert((page.freed, id));
        }
    }

    /// Makes a full page findable. If another page has the same content, that one is still the one found.
    pub fn publish(&mut self, id: PageId, hash: PrefixHash) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.found.entry(hash) {
            entry.insert(id);
            self.pages[id as usize].hash = Some(hash);
        }
    }

    /// Withdraws all published pages, so that none of them is found again.
    pub fn forget(&mut self) {
        self.found.clear();
        self.pages.iter_mut().for_each(|page| page.hash = None);
    }
}
