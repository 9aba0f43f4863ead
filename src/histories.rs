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
use tollgate_filters::request::scan::behaviour::{History, Settings};

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
    /// When the store that gateways share was told all of it, if it was.
    pub told: Option<Told>,
    /// Counts uses.
    version: u64,
    /// The rules whose words it has.
    rules: u64,
    used: Duration,
}

/// A time at which the store was told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The connection: what was on its way when it broke may not have come.
    pub epoch: u64,
    /// A number that stays the same while there is no other gateway.
    pub company: u64,
}

/// What is known of a conversation before the store is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Glance {
    version: u64,
    /// When the store was told all of it.
    pub told: Option<Told>,
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
            (remembered.history, remembered.told) = (History::default(), None);
        }
        if remembered.rules != moment.rules {
            remembered.history.forget_words();
            remembered.rules = moment.rules;
        }
        remembered.used = moment.now;
        let given = use_it(&mut remembered);
        remembered.version += 1;
        given
    }

    /// What is known of a conversation now, for [`Histories::adopt`].
    #[must_use]
    pub fn glance(&self, whose: Conversation<'_>) -> Glance {
        let remembered = self.cache.get(&self.hasher.hash_one(whose));
        remembered.map_or(Glance::default(), |one| {
            let one = one.lock().unwrap_or_else(PoisonError::into_inner);
            Glance { version: one.version, told: one.told }
        })
    }

    /// Goes on with what the store has, or adds that to what this gateway has seen and could not tell, or has seen since it looked
    /// `before` it asked.
    pub fn adopt(
        &self,
        whose: Conversation<'_>,
        moment: Moment,
        before: Glance,
        epoch: u64,
        history: History,
        settings: &Settings,
    ) {
        self.with(whose, moment, |remembered| {
            let is_known = remembered.told.is_some_and(|told| told.epoch == epoch);
            if remembered.version == before.version && (is_known || remembered.history == History::default())
            {
                remembered.history = history;
            } else {
                remembered.history.merge(history, settings, moment.now);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_filters::request::scan::behaviour::{Pattern, Seen};
    use tollgate_filters::request::scan::policy::Action;

    const HOUR: Duration = Duration::from_secs(3600);

    fn say(histories: &Histories, key: &str, user: Option<u64>, now: Duration) -> Vec<Pattern> {
        let settings = Settings { repeats: 3, prompts: 8, half_life: HOUR };
        let seen = Seen { asked: 1, hash: 1, text: "x", events: &[], action: Action::Allow };
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
    fn what_the_store_has_takes_the_place_of_what_it_was_told_and_of_nothing_else() {
        let settings = Settings { repeats: 3, prompts: 8, half_life: HOUR };
        let whose = Conversation { key_id: "a", user: None };
        let moment = |rules| Moment { now: Duration::from_secs(5), memory: HOUR, rules };
        let seen = |hash| Seen { asked: hash, hash, text: "tell me", events: &[], action: Action::Block };
        let refused = |hash| {
            let mut history = History::default();
            history.observe(&seen(hash), &settings, Duration::from_secs(5), |_| Vec::new());
            history.refuse_last(&seen(hash));
            history
        };
        let told = Told { epoch: 1, company: 0 };
        for (name, was_told, epoch, meanwhile, is_replaced) in [
            ("told", true, 1, false, true),
            ("not told", false, 1, false, false),
            ("told over a connection that broke", true, 2, false, false),
            ("another request came meanwhile", true, 1, true, false),
        ] {
            let histories = Histories::new(100);
            histories.with(whose, moment(1), |remembered| {
                remembered.history = refused(1);
                remembered.told = Some(told).filter(|_| was_told);
            });
            let before = histories.glance(whose);
            if meanwhile {
                histories.with(whose, moment(1), |remembered| remembered.told = Some(told));
            }
            histories.adopt(whose, moment(1), before, epoch, refused(2), &settings);
            let kept = histories.with(whose, moment(1), |remembered| remembered.history.keep().rest);
            let has =
                |hash: u64| kept.contains(&format!("[[{hash},")) || kept.contains(&format!(",[{hash},"));
            assert!(has(2), "{name}: {kept}");
            assert_eq!(has(1), !is_replaced, "{name}: {kept}");
        }
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
