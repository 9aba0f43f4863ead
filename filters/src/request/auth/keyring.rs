//! All keys by their public id, in many small maps: a look-up reads one of them without a lock, and a change copies
//! one of them, not all. At 100,000 keys a map holds about a hundred, and a change costs a few microseconds.
//!
//! Cost of a look-up: a short hash for the map, one wait-free load, one hash look-up; no allocation.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Key, Principal, Terms};

/// Maps. A power of two, so that a mask picks one.
const SHARDS: usize = 1024;

/// A key in the ring.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What proves it.
    pub key: Arc<Key>,
    /// What it says about itself.
    pub terms: Arc<Terms>,
    /// Whom it identifies under this configuration; nobody while its tenant or tier is not part of it.
    pub principal: Option<Arc<Principal>>,
}

/// What becomes of an id: an entry, or none.
pub type Change = (Arc<str>, Option<Entry>);

type Shard = HashMap<Inline, Entry>;

/// Longest id, bytes.
pub const MAX_ID: usize = 32;

/// An id where it is compared: following a pointer to it would cost a look-up another cache miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inline([u8; MAX_ID]);

impl Inline {
    /// `None` for what is too long for an id, and is no key's.
    fn of(id: &str) -> Option<Self> {
        let mut bytes = [0; MAX_ID];
        // No id holds the byte 0, so that what fills up cannot be taken for a part of one.
        let is_id = !id.is_empty() && !id.as_bytes().contains(&0);
        bytes.get_mut(..id.len()).filter(|_| is_id)?.copy_from_slice(id.as_bytes());
        Some(Self(bytes))
    }
}

/// The entries.
#[derive(Debug)]
pub(super) struct Shards(Box<[ArcSwap<Shard>]>);

impl Shards {
    /// The entries of a new ring, each built into its map once.
    pub(super) fn new(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::new()).collect();
        for entry in entries {
            if let Some(id) = Inline::of(&entry.key.id) {
                shards[shard_of(&entry.key.id)].insert(id, entry);
            }
        }
        Self(shards.into_iter().map(ArcSwap::from_pointee).collect())
    }

    /// What `with` makes of the entry of this id.
    pub(super) fn with<T>(&self, id: &str, with: impl FnOnce(Option<&Entry>) -> T) -> T {
        match Inline::of(id) {
            Some(inline) => with(self.0[shard_of(id)].load().get(&inline)),
            None => with(None),
        }
    }

    /// Puts an entry for each id, or takes it out. Each map that is touched is copied once.
    pub(super) fn apply(&self, changes: impl IntoIterator<Item = Change>) {
        let mut by_shard: HashMap<usize, Vec<Change>> = HashMap::new();
        for (id, entry) in changes {
            by_shard.entry(shard_of(&id)).or_default().push((id, entry));
        }
        for (shard, changes) in by_shard {
            self.0[shard].rcu(|shard| {
                let mut next = Shard::clone(shard);
                for (id, entry) in &changes {
                    let Some(id) = Inline::of(id) else { continue };
                    match entry {
                        Some(entry) => next.insert(id, entry.clone()),
                        None => next.remove(&id),
                    };
                }
                next
            });
        }
    }

    /// Shows every entry, as they are when their map is looked at.
    pub(super) fn for_each(&self, mut show: impl FnMut(&Entry)) {
        for shard in &self.0 {
            shard.load().values().for_each(&mut show);
        }
    }
}

/// FNV-1a (<https://www.rfc-editor.org/rfc/rfc9923.html>). Who presents invented ids only picks which map is looked
/// at; ids that are in a map were given by an operator.
fn shard_of(id: &str) -> usize {
    let hash =
        id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // The high bits depend on every byte, the low ones less so.
    ((hash >> 16) ^ hash) as usize & (SHARDS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_spread_over_the_maps() {
        let mut counts = vec![0; SHARDS];
        for number in 0..100_000 {
            counts[shard_of(&format!("key{number:08}"))] += 1;
        }
        let fullest = counts.iter().max().copied().unwrap_or_default();
        assert!(fullest < 200, "a map holds {fullest} of 100,000 ids; about 98 were expected");
    }
}
