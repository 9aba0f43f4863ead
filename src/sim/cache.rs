//! The KV blocks of one simulated server and its prefix cache. A prompt is a chain of block hashes, each
//! hash covering everything before it, so two prompts share exactly their common beginning, as in vLLM
//! (<https://docs.vllm.ai/en/v0.32.0/design/prefix_caching/>). Blocks nobody holds stay cached until
//! their room is wanted; then the one unused for longest goes, tails before heads.
//! Invariant: free + idle + held = total. Cost: O(blocks of the prompt) a reservation.

use std::collections::{BTreeMap, HashMap};

/// The blocks of one server.
#[derive(Debug)]
pub(super) struct BlockPool {
    total: u32,
    free: u32,
    cached: HashMap<u64, Entry>,
    /// Cached blocks nobody holds, oldest first: tick of release → hash.
    idle: BTreeMap<u64, u64>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    holders: u32,
    /// Its key in `idle` while `holders` is 0.
    released: u64,
}

/// Blocks reserved for one sequence. Give it back with [`BlockPool::release`].
#[derive(Debug, Default)]
pub(super) struct Hold {
    chain: Vec<u64>,
    private: u32,
    /// Leading blocks whose content was there already.
    pub(super) hits: u32,
}

impl BlockPool {
    /// A pool of `total` blocks, all free.
    pub(super) fn new(total: u32) -> Self {
        Self { total, free: total, cached: HashMap::new(), idle: BTreeMap::new(), clock: 0 }
    }

    /// Reserves `needed` blocks, of which the first hold `chain`. Of the chain at most `lookup` blocks
    /// count as hits. `None` when there is no room; nothing has changed then.
    pub(super) fn reserve(&mut self, chain: Vec<u64>, lookup: usize, needed: u32) -> Option<Hold> {
        let hits = chain.iter().take(lookup).take_while(|hash| self.cached.contains_key(hash)).count();
        let known = chain.iter().filter_map(|hash| self.cached.get(hash));
        let (mut present, mut waking) = (0_u32, 0_u32);
        for entry in known {
            present += 1;
            waking += u32::from(entry.holders == 0);
        }
        let blocks_in_chain = as_u32(chain.len());
        let private = needed.saturating_sub(blocks_in_chain);
        let fresh = private + blocks_in_chain - present;
        if fresh > self.free + as_u32(self.idle.len()).saturating_sub(waking) {
            return None;
        }
        for hash in &chain {
            if let Some(entry) = self.cached.get_mut(hash) {
                if entry.holders == 0 {
                    self.idle.remove(&entry.released);
                }
                entry.holders += 1;
            }
        }
        self.take(fresh);
        for hash in &chain {
            self.cached.entry(*hash).or_insert(Entry { holders: 1, released: 0 });
        }
        Some(Hold { chain, private, hits: as_u32(hits) })
    }

    /// Gives a reservation back; its prompt blocks stay cached until their room is wanted.
    pub(super) fn release(&mut self, hold: Hold) {
        self.free += hold.private;
        // Last block first, so that of one prompt the tail is evicted before the head.
        for hash in hold.chain.iter().rev() {
            if let Some(entry) = self.cached.get_mut(hash) {
                entry.holders = entry.holders.saturating_sub(1);
                if entry.holders == 0 {
                    self.clock += 1;
                    entry.released = self.clock;
                    self.idle.insert(self.clock, *hash);
                }
            }
        }
        debug_assert!(self.free + as_u32(self.idle.len()) <= self.total, "more blocks given back than taken");
    }

    /// Blocks held by running sequences.
    pub(super) fn held(&self) -> u32 {
        self.total - self.free - as_u32(self.idle.len())
    }

    /// Blocks kept only because their content may be asked for again.
    pub(super) fn idle(&self) -> u32 {
        as_u32(self.idle.len())
    }

    /// All blocks.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    fn take(&mut self, mut wanted: u32) {
        let from_free = wanted.min(self.free);
        self.free -= from_free;
        wanted -= from_free;
        for _ in 0..wanted {
            if let Some((_, hash)) = self.idle.pop_first() {
                self.cached.remove(&hash);
            }
        }
    }
}

fn as_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_beginning_is_shared_and_counted_once() {
        let mut pool = BlockPool::new(10);
        let first = pool.reserve(vec![1, 2, 3], 3, 4).expect("ten blocks are free");
        let second = pool.reserve(vec![1, 2, 9], 3, 4).expect("six blocks are free");
        assert_eq!((first.hits, second.hits), (0, 2));
        assert_eq!(pool.held(), 6, "two blocks are shared");
        pool.release(first);
        assert_eq!((pool.held(), pool.idle()), (4, 1), "block 3 stays cached, the shared ones are held");
        pool.release(second);
        assert_eq!((pool.held(), pool.idle()), (0, 4));
    }

    #[test]
    fn no_room_changes_nothing() {
        let mut pool = BlockPool::new(4);
        let hold = pool.reserve(vec![1], 1, 3).expect("four blocks are free");
        assert!(pool.reserve(vec![7], 1, 2).is_none());
        assert_eq!(pool.held(), 3);
        pool.release(hold);
        assert!(pool.reserve(vec![7], 1, 4).is_some(), "the idle block gives way");
    }

    #[test]
    fn the_longest_unused_tail_is_evicted_first() {
        let mut pool = BlockPool::new(4);
        let old = pool.reserve(vec![1, 2], 2, 2).expect("free");
        pool.release(old);
        let young = pool.reserve(vec![5, 6], 2, 2).expect("free");
        pool.release(young);
        let push = pool.reserve(vec![8], 1, 1).expect("one idle block gives way");
        assert_eq!(push.hits, 0);
        let again = pool.reserve(vec![1, 2], 2, 2).expect("room");
        assert_eq!(again.hits, 1, "of the older prompt the tail went, the head stayed");
    }

    #[test]
    fn blocks_are_conserved_through_any_order_of_events() {
        let mut pool = BlockPool::new(16);
        let mut holds = Vec::new();
        let mut dice = 7_u64;
        for _ in 0..2_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let roll = dice >> 33;
            if roll.is_multiple_of(3) && !holds.is_empty() {
                let at = usize::try_from(roll).unwrap_or(0) % holds.len();
                pool.release(holds.swap_remove(at));
            } else {
                let root = roll % 4;
                let chain = (0..roll % 5).map(|block| root * 100 + block).collect();
                holds.extend(pool.reserve(chain, 9, u32::try_from(roll % 6).unwrap_or(1)));
            }
            assert!(pool.held() + pool.idle() <= pool.total());
        }
        for hold in holds.drain(..) {
            pool.release(hold);
        }
        assert_eq!(pool.held(), 0);
    }
}
