//! The histories of conversations, by key and by what the client calls the user: bounded in number (the one unused
//! for longest goes first) and in time. Each is used by one request at a time, under a lock that is held for the few
//! microseconds of one observation and never across an await.
//!
//! They are this gateway's own. Several gateways share them once there is a shared store: a history is a plain value,
//! and this is the only door to it.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tollgate_filters::request::scan::behaviour::History;

/// A history and when it was last used.
#[derive(Debug, Default)]
struct Remembered {
    history: History,
    used: Duration,
}

/// All histories.
#[derive(Debug)]
pub struct Histories {
    cache: Cache<u64, Arc<Mutex<Remembered>>>,
    hasher: RandomState,
}

impl Histories {
    /// Room for `conversations` histories.
    #[must_use]
    pub fn new(conversations: u64) -> Self {
        let room = usize::try_from(conversations).unwrap_or(usize::MAX);
        Self { cache: Cache::new(room), hasher: RandomState::new() }
    }

    /// Lends the history of one conversation to `use_it`; a new one if it was not used for `memory`. `now` counts from
    /// the start of the process.
    pub fn with<R>(
        &self,
        key_id: &str,
        conversation: Option<u64>,
        now: Duration,
        memory: Duration,
        use_it: impl FnOnce(&mut History) -> R,
    ) -> R {
        let id = self.hasher.hash_one((key_id, conversation));
        let remembered = self.cache.get(&id).unwrap_or_else(|| {
            let new = Arc::default();
            self.cache.insert(id, Arc::clone(&new));
            new
        });
        // A panic in another request leaves a history that is old, not wrong.
        let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(remembered.used) > memory {
            remembered.history = History::default();
        }
        remembered.used = now;
        use_it(&mut remembered.history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_filters::request::scan::behaviour::{Pattern, Seen, Settings};
    use tollgate_filters::request::scan::policy::Action;

    const HOUR: Duration = Duration::from_secs(3600);

    fn say(histories: &Histories, key: &str, user: Option<u64>, now: Duration) -> Vec<Pattern> {
        let settings = Settings { repeats: 3, prompts: 8, half_life: HOUR };
        let seen = Seen { hash: 1, text: "x", events: &[], action: Action::Allow };
        histories.with(key, user, now, HOUR, |history| history.observe(&seen, &settings, now, |_| Vec::new()))
    }

    #[test]
    fn each_conversation_has_its_own_and_forgets() {
        let histories = Histories::new(100);
        let at = Duration::from_secs;
        for (key, user) in [("a", None), ("a", Some(1)), ("b", None)] {
            assert!(say(&histories, key, user, at(1)).is_empty());
            assert!(say(&histories, key, user, at(2)).is_empty());
        }
        assert_eq!(say(&histories, "a", None, at(3)), [Pattern::Repeated { times: 3 }]);
        assert!(say(&histories, "b", None, at(9000)).is_empty(), "the hour is over");
    }

    #[test]
    fn there_are_never_more_than_there_is_room_for() {
        let histories = Histories::new(64);
        for user in 0..10_000 {
            say(&histories, "a", Some(user), Duration::ZERO);
        }
        assert!(histories.cache.len() <= 64, "{}", histories.cache.len());
    }
}
