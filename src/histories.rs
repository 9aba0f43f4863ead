//! The histories of conversations, by key and by what the client calls the user: bounded in number (the one unused
//! for longest goes first) and in time. Each is used by one request at a time, under a lock that is held for the few
//! microseconds of one observation and never across an await.
//!
//! Where gateways share limits they share these too (`shared.rs`): what another gateway has seen is adopted before a prompt
//! is looked at, and the store is told afterwards. While it is away each goes on with its own.

pub mod shared;

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quick_cache::sync::Cache;
use tollgate_filters::request::scan::behaviour::History;

/// Which conversation: that of a key, and of whom the client calls the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conversation<'k> {
    /// The name of the key.
    pub key_id: &'k str,
    /// A hash of the user.
    pub user: Option<u64>,
}

/// What is remembered of one.
#[derive(Debug, Default)]
pub struct Remembered {
    /// What was seen.
    pub history: History,
    /// Whether the store that gateways share has been told all of it.
    pub is_told: bool,
    /// The rules whose words it has.
    rules: u64,
    used: Duration,
}

/// All histories.
#[derive(Debug)]
pub struct Histories {
    cache: Cache<u64, Arc<Mutex<Remembered>>>,
    hasher: RandomState,
}

/// The moment, and how long a conversation is remembered after its last prompt. `now` counts from the start of the process.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Since the start of the process.
    pub now: Duration,
    /// How long one is remembered.
    pub memory: Duration,
    /// A number that tells the rules in force from others: words of other rules mean nothing.
    pub rules: u64,
}

impl Histories {
    /// Room for `conversations` histories.
    #[must_use]
    pub fn new(conversations: u64) -> Self {
        let room = usize::try_from(conversations).unwrap_or(usize::MAX);
        Self { cache: Cache::new(room), hasher: RandomState::new() }
    }

    /// Lends the history of one conversation to `use_it`; a new one if it was not used for so long.
    pub fn with<R>(
        &self,
        whose: Conversation<'_>,
        moment: Moment,
        use_it: impl FnOnce(&mut Remembered) -> R,
    ) -> R {
        let id = self.hasher.hash_one(whose);
        let remembered = self.cache.get(&id).unwrap_or_else(|| {
            let new = Arc::default();
            self.cache.insert(id, Arc::clone(&new));
            new
        });
        // A panic in another request leaves a history that is old, not wrong.
        let mut remembered = remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if moment.now.saturating_sub(remembered.used) > moment.memory {
            remembered.history = History::default();
        }
        if remembered.rules != moment.rules {
            remembered.history.forget_words();
            remembered.rules = moment.rules;
        }
        remembered.used = moment.now;
        use_it(&mut remembered)
    }

    /// Whether all that is remembered of this conversation is what the store has, and there is something.
    #[must_use]
    pub fn is_told(&self, whose: Conversation<'_>) -> bool {
        let remembered = self.cache.get(&self.hasher.hash_one(whose));
        remembered.is_some_and(|one| one.lock().unwrap_or_else(PoisonError::into_inner).is_told)
    }

    /// Goes on with what the store has, unless this gateway has seen something that it could not tell.
    pub fn adopt(&self, whose: Conversation<'_>, moment: Moment, history: History) {
        self.with(whose, moment, |remembered| {
            if remembered.is_told || remembered.history == History::default() {
                remembered.history = history;
                remembered.is_told = true;
            }
        });
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
        let moment = Moment { now, memory: HOUR, rules: 1 };
        histories.with(Conversation { key_id: key, user }, moment, |remembered| {
            remembered.history.observe(&seen, &settings, now, |_| Vec::new())
        })
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
