//! KV pages: reference counts, and finding a page again by the tokens that it and all before it hold.

use std::collections::{BTreeSet, HashMap};

/// A page's number.
pub type PageId = u32;

/// What a page and all pages before it hold: 128 bits of a BLAKE3 chain over their tokens. Two different
/// prefixes meet with a chance of about 2^-128, so a match is taken for the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixHash([u8; 16]);

impl PrefixHash {
    /// The hash of a full page of `tokens` after the pages that `before` stands for.
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
    /// When it was freed: the longest unused page is taken first. 0 for pages that nobody can find.
    freed: u64,
}

/// All pages of a KV cache.
///
/// A page is free when nobody refers to it. A free page that was published keeps its content and can be
/// found until it is allocated anew.
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

    /// Pages in all.
    pub fn count(&self) -> usize {
        self.pages.len()
    }

    /// Pages that nobody refers to.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Takes a free page, the longest unused first; its old content is forgotten.
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

    /// Whether nobody refers to the page.
    pub fn is_free(&self, id: PageId) -> bool {
        self.pages[id as usize].references == 0
    }

    /// Refers to a page that [`PagePool::find`] found.
    pub fn retain(&mut self, id: PageId) {
        let page = &mut self.pages[id as usize];
        if page.references == 0 {
            self.free.remove(&(page.freed, id));
        }
        page.references += 1;
    }

    /// Refers to a page no longer.
    ///
    /// # Panics
    /// If nobody refers to it: a page freed twice would be given to two sequences.
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

    /// Lets a full page be found. If another page holds the same, that one stays the one that is found.
    pub fn publish(&mut self, id: PageId, hash: PrefixHash) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.found.entry(hash) {
            entry.insert(id);
            self.pages[id as usize].hash = Some(hash);
        }
    }

    /// Forgets all published pages: nothing is found from here on.
    pub fn forget(&mut self) {
        self.found.clear();
        self.pages.iter_mut().for_each(|page| page.hash = None);
    }
}
