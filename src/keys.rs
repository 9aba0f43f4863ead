//! API keys in the store, as the running gateway knows them. Requests look only at the keyring of the configuration in
//! force; what stands here keeps it fresh:
//!
//! - changes made by this process are taken at once, those of others within `keys.poll_ms` (`sync.rs`);
//! - with the store away, the keys that are known go on working, also after a start (`snapshot.rs`);
//! - rotations on schedule are made or announced (`rotation.rs`), and told to a webhook.
//!
//! A reload and a change to a key never cross: both happen under one lock, which no request takes.

pub mod actions;
pub mod agenda;
pub mod record;
pub mod rotation;
pub mod secret;
pub mod snapshot;
pub mod spec;
pub mod sync;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tollgate_filters::request::auth::{Change, Entry, Interner, Key, Terms};
use tollgate_filters::units::Moment;

use self::actions::KeyError;
use self::record::Record;
use crate::calendar;
use crate::config::settings::{Settings, Storage};
use crate::state::{Stages, State};
use crate::store::{Connection, Store, StoreError, keys as store};

/// Keys read from the store at a time.
const BATCH: i64 = 5_000;

/// The keys of the store. Outlives a reload.
#[derive(Debug)]
pub struct Keys {
    store: Store,
    known: Mutex<Known>,
    status: Status,
}

/// What is known of the store. Whoever holds it may change the keyring, or put another configuration in force.
#[derive(Debug, Default)]
pub struct Known {
    terms: Interner<Terms>,
    /// Everything up to this change is in the keyring; `None` until all keys were read once.
    seen: Option<i64>,
    /// Changes that this process made and has not yet read back: an older state must not come over them.
    ahead: HashMap<String, i64>,
}

impl Known {
    /// Up to which change everything is known, and the highest change that is.
    fn reach(&self) -> (Option<i64>, i64) {
        let ahead = self.ahead.values().copied().max();
        (self.seen, self.seen.max(ahead).unwrap_or(0))
    }
}

/// How the keys are doing, for metrics and readiness.
#[derive(Debug, Default)]
pub struct Status {
    /// Keys of the store in the keyring.
    pub stored: AtomicI64,
    /// Of those, with two secrets that work.
    pub rotating: AtomicI64,
    /// Of those, without a tenant or a tier in the configuration.
    pub homeless: AtomicI64,
    /// Of those, with an id that the configuration declares too.
    pub clashing: AtomicI64,
    /// When the next previous secret ends, seconds since 1970; 0 if none does.
    pub next_end: AtomicU64,
    /// Keys whose new secret is overdue.
    pub overdue: AtomicI64,
    /// When the keys were last compared with the store, milliseconds since the start of the process.
    pub fresh_ms: AtomicU64,
    /// Whether the keys are those of a snapshot, since the store has not been seen yet.
    pub is_from_snapshot: AtomicBool,
    /// When that snapshot was written, seconds since 1970.
    pub snapshot_written: AtomicU64,
}

impl Keys {
    /// Connects to the store, in a thread of its own.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(storage: &Storage) -> std::io::Result<Self> {
        let store = Store::start("keys", storage)?;
        Ok(Self { store, known: Mutex::default(), status: Status::default() })
    }

    /// How they are doing.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Whether the store answered when it was last asked for keys.
    #[must_use]
    pub fn is_store_up(&self) -> bool {
        self.store.status().is_up()
    }

    /// Keeps keys and configuration as they are while it is held.
    pub fn hold(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` on the connection to the store.
    ///
    /// # Errors
    /// What `work` says, or [`KeyError::Store`].
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let done = self.store.run(move |store| match work(store) {
            Ok(value) => Ok(Ok(value)),
            // What the store says about itself decides whether the connection is kept.
            Err(KeyError::Store(error)) => Err(error),
            Err(error) => Ok(Err(error)),
        });
        done.await?
    }

    /// Brings the keys to where the store is; gives whether anything changed.
    ///
    /// # Errors
    /// [`StoreError`]; the keys that are known go on working.
    pub async fn refresh(&self, state: &State) -> Result<bool, StoreError> {
        let (mut from, highest) = self.hold().reach();
        let last = self.store.run(store::last_change).await?;
        // A store that was put back to an older state is read anew.
        if last < highest {
            log::warn!("the store's keys were put back from change {highest} to {last}; all are read anew");
            self.hold().ahead.retain(|_, change| *change > highest);
            from = None;
        }
        let is_whole = from.is_none();
        let mut all = Vec::new();
        while from.is_none_or(|seen| seen < last) {
            let start = from.unwrap_or(-1);
            let batch = self.store.run(move |store| store::changed_since(store, start, BATCH)).await?;
            let is_last = batch.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
            from = Some(batch.last().map_or(last, |record| record.change));
            all.extend(batch);
            if is_last {
                break;
            }
        }
        let seen = from.unwrap_or(last).max(last);
        let has_changed = is_whole || !all.is_empty();
        self.take(state, &all, seen, is_whole);
        self.status.fresh_ms.store(millis(state.now()), Ordering::Relaxed);
        Ok(has_changed)
    }

    /// Takes records into the keyring, and everything up to `seen` for known. `is_whole` says that what is not among
    /// them is not in the store.
    fn take(&self, state: &State, records: &[Record], seen: i64, is_whole: bool) {
        let mut known = self.hold();
        let stages = state.stages.load();
        let mut changes = Vec::with_capacity(records.len());
        for record in records {
            let is_old = known.ahead.get(&record.id).is_some_and(|ahead| record.change < *ahead);
            if !is_old {
                changes.push(change_of(&mut known.terms, &stages, record));
            }
        }
        if is_whole {
            let there: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
            stages.keyring.for_each_stored(|entry| {
                let id = &entry.key.id;
                if !there.contains(&**id) && !known.ahead.contains_key(&**id) {
                    changes.push((Arc::clone(id), None));
                }
            });
            self.status.is_from_snapshot.store(false, Ordering::Relaxed);
        }
        stages.keyring.apply(changes);
        known.seen = Some(seen);
        known.ahead.retain(|_, change| *change > seen);
    }

    /// Takes a change that this process has just made, before any other process hears of it.
    pub fn took(&self, state: &State, record: &Record) {
        let mut known = self.hold();
        let stages = state.stages.load();
        let change = change_of(&mut known.terms, &stages, record);
        stages.keyring.apply([change]);
        known.ahead.insert(record.id.clone(), record.change);
    }

    /// Takes the keys of a snapshot.
    fn take_snapshot(&self, state: &State, written: Moment, keys: Vec<(Key, Terms)>) {
        let mut known = self.hold();
        let stages = state.stages.load();
        let changes = keys.into_iter().map(|(key, terms)| {
            let terms = known.terms.intern(terms);
            let id = Arc::clone(&key.id);
            (id, Some(stages.principals.entry(&Arc::new(key), &terms)))
        });
        let changes: Vec<Change> = changes.collect();
        stages.keyring.apply(changes);
        self.status.is_from_snapshot.store(true, Ordering::Relaxed);
        self.status.snapshot_written.store(written.0, Ordering::Relaxed);
    }

    /// Counts the keys for metrics. Costs a look at each, some milliseconds for 100,000.
    pub fn survey(&self, stages: &Stages) {
        let now = calendar::now();
        let (mut stored, mut rotating, mut homeless, mut clashing, mut next_end) = (0, 0, 0, 0, u64::MAX);
        stages.keyring.for_each_stored(|entry| {
            stored += 1;
            if let Some((_, until)) = entry.key.previous().filter(|(_, until)| now < *until) {
                rotating += 1;
                next_end = next_end.min(until.0);
            }
            homeless += i64::from(entry.principal.is_none());
            clashing += i64::from(stages.keyring.get_declared(&entry.key.id).is_some());
        });
        let status = &self.status;
        let was_clashing = status.clashing.swap(clashing, Ordering::Relaxed);
        if clashing > was_clashing {
            let message =
                "keys of the store have the id of a key in tenants.yaml, which is the one that counts";
            log::error!("{clashing} {message}; `tollgate key list` shows them");
        }
        status.stored.store(stored, Ordering::Relaxed);
        status.rotating.store(rotating, Ordering::Relaxed);
        status.homeless.store(homeless, Ordering::Relaxed);
        status.next_end.store(if next_end == u64::MAX { 0 } else { next_end }, Ordering::Relaxed);
    }

    /// The first keys of a process, before it listens: those of the store or, with the store away, those of the
    /// snapshot.
    pub fn load(&self, state: &State, patience: Duration) {
        let is_up = self.store.status().wait_for_first_try(patience);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let read = match runtime {
            Ok(runtime) if is_up => {
                runtime.block_on(self.refresh(state)).map(drop).map_err(|error| error.to_string())
            }
            Ok(_) => Err("the store is away".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let stages = state.stages.load();
        if let Err(error) = read {
            self.load_snapshot(state, &stages.settings, &error);
        }
        self.survey(&stages);
    }

    fn load_snapshot(&self, state: &State, settings: &Settings, why: &str) {
        let Some(path) = &settings.keys.snapshot else {
            log::warn!(
                "{why}: only keys of tenants.yaml work until the store answers (keys.snapshot is null)"
            );
            return;
        };
        let read = std::fs::read(path).map_err(|error| error.to_string());
        match read.and_then(|text| snapshot::read(&text, &settings.auth.pepper)) {
            Ok((written, keys)) => {
                log::warn!(
                    "{why}: starting with {} keys as they were at {} ({})",
                    keys.len(),
                    calendar::show(written),
                    path.display()
                );
                self.take_snapshot(state, written, keys);
            }
            Err(error) => log::error!(
                "{why}, and {} cannot be used: {error}; only keys of tenants.yaml work until the store answers",
                path.display()
            ),
        }
    }
}

/// What becomes of a key in the keyring. Uses that this process knows of are kept.
fn change_of(terms: &mut Interner<Terms>, stages: &Stages, record: &Record) -> Change {
    let Some(key) = record.key() else { return (record.id.as_str().into(), None) };
    if let Some(before) = stages.keyring.get_stored(&key.id) {
        let (used, previous_used) = before.key.used();
        // The secret before last is nobody's previous one any more.
        let is_rotated = before.key.hash != key.hash;
        key.note_use(used, if is_rotated { Moment(0) } else { previous_used });
    }
    let terms = terms.intern(record.terms());
    let entry: Entry = stages.principals.entry(&Arc::new(key), &terms);
    (Arc::clone(&entry.key.id), Some(entry))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
