//! Who has used what. A tenant's use lives as long as its configuration; that of keys is made when a key is first
//! used and forgotten once it is as if it had never been used, so that a hundred thousand keys of which few are
//! busy cost what the busy ones do.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::calendar::Clock;
use super::limits::{Limits, Plan};
use super::slices::Slices;
use super::tally::Tally;

/// What a tenant or a key has used. Kept across configuration reloads.
#[derive(Debug, Default)]
pub struct Usage(Mutex<Tallies>);

/// The use of everything, and of the models of each rule.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    whole: Tally,
    /// By the rule's pattern, which a reload keeps.
    by_rule: Vec<(Arc<str>, Tally)>,
}

impl Usage {
    /// Requests at a time, and the tokens that are reserved for them.
    #[must_use]
    pub fn in_work(&self) -> (u64, u64) {
        self.lock().whole.in_work()
    }

    /// Runs `work` with the slices of one scope, of everything or of a rule's models, if it has any.
    pub(super) fn with_slices<T>(
        &self,
        pattern: Option<&Arc<str>>,
        work: impl FnOnce(&mut Slices) -> T,
    ) -> Option<T> {
        self.with_tally(pattern, |tally| tally.slices.as_deref_mut().map(work)).flatten()
    }

    /// Forgets the slices of one scope, if nothing is held of them. `false` if something is.
    pub(super) fn close_slices(&self, pattern: Option<&Arc<str>>) -> bool {
        self.with_tally(pattern, Tally::close_slices).unwrap_or(true)
    }

    fn with_tally<T>(&self, pattern: Option<&Arc<str>>, work: impl FnOnce(&mut Tally) -> T) -> Option<T> {
        let mut tallies = self.lock();
        let tally = match pattern {
            None => Some(&mut tallies.whole),
            Some(pattern) => {
                tallies.by_rule.iter_mut().find(|(other, _)| other == pattern).map(|(_, tally)| tally)
            }
        };
        tally.map(work)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tallies> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_blank(&self, clock: Clock) -> bool {
        let tallies = self.lock();
        tallies.whole.is_blank(clock) && tallies.by_rule.iter().all(|(_, tally)| tally.is_blank(clock))
    }
}

impl Tallies {
    /// Each scope that a request for the models of `rule` lies in, with its limits: of everything, and of the rule.
    pub(super) fn scopes<'a>(
        &'a mut self,
        plan: &'a Plan,
        rule: Option<usize>,
    ) -> impl Iterator<Item = (&'a mut Tally, &'a Limits, bool)> {
        let rule = rule.and_then(|rule| plan.rules.get(rule)).map(|rule| {
            let known = self.by_rule.iter().position(|(pattern, _)| *pattern == rule.pattern);
            let at = known.unwrap_or_else(|| {
                // Few keys have more than one: room for the next would be most of what a key takes.
                self.by_rule.reserve_exact(1);
                self.by_rule.push((Arc::clone(&rule.pattern), Tally::default()));
                self.by_rule.len() - 1
            });
            (&mut self.by_rule[at].1, &rule.limits, true)
        });
        [(&mut self.whole, &plan.limits, false)].into_iter().chain(rule)
    }
}

/// Shards of the table of keys: more than any machine has workers that would meet at one.
const SHARDS: usize = 64;

/// The use of every key that was used lately.
#[derive(Debug)]
pub struct Usages {
    shards: Vec<Mutex<HashMap<Arc<str>, Arc<Usage>>>>,
    hasher: RandomState,
    next_sweep: AtomicUsize,
}

impl Default for Usages {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new(), next_sweep: AtomicUsize::new(0) }
    }
}

impl Usages {
    /// What a key has used.
    ///
    /// # Cost
    /// Two hashes and a lock that nothing holds for long; for a key that was not used lately, an allocation.
    #[must_use]
    pub fn of(&self, key: &Arc<str>) -> Arc<Usage> {
        let mut shard = self.shard(self.hasher.hash_one(key) as usize % SHARDS);
        if let Some(usage) = shard.get(key) {
            return Arc::clone(usage);
        }
        Arc::clone(shard.entry(Arc::clone(key)).or_default())
    }

    /// Forgets keys of which there is nothing to know, in one shard; the next call takes the next shard.
    pub fn sweep(&self, clock: Clock) {
        let index = self.next_sweep.fetch_add(1, Ordering::Relaxed) % SHARDS;
        let mut shard = self.shard(index);
        // A request that is about to use one holds it: only this lock gives it out.
        shard.retain(|_, usage| Arc::strong_count(usage) > 1 || !usage.is_blank(clock));
        if shard.capacity() > 4 * shard.len().max(16) {
            shard.shrink_to_fit();
        }
    }

    /// How many shards [`Usages::sweep`] goes through.
    #[must_use]
    pub fn shards(&self) -> usize {
        SHARDS
    }

    /// Keys of which something is known.
    #[must_use]
    pub fn len(&self) -> usize {
        (0..SHARDS).map(|index| self.shard(index).len()).sum()
    }

    /// Whether nothing is known of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Usage>>> {
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
