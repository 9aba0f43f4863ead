//! Keeps the keys as the store has them: looks every `keys.poll_ms` whether there were changes, writes back when keys
//! were last used, and keeps a snapshot on disk. None of it is on the way of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::task::JoinHandle;

use super::snapshot;
use crate::calendar;
use crate::state::State;
use crate::store::{StoreError, keys as store};

/// How often last uses are written back, and keys counted.
const WRITE_BACK: Duration = Duration::from_secs(5);
/// Uses written in one transaction.
const USES: usize = 500;
/// The shortest time between two snapshots. A start without the store may miss this much.
const SNAPSHOT: Duration = Duration::from_secs(5);

/// The task.
pub struct KeySync {
    state: Arc<State>,
}

impl KeySync {
    /// Keeps the keys of `state`.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }
}

#[async_trait]
impl BackgroundService for KeySync {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut round = Round {
            state: &self.state,
            write_back: Instant::now(),
            last_save: None,
            saving: None,
            is_dirty: true,
        };
        loop {
            round.go().await;
            let poll = self.state.stages.load().settings.keys.poll;
            tokio::select! {
                _ = shutdown.changed() => break,
                () = tokio::time::sleep(poll) => {}
            }
        }
        // What was used since the last time; a store that is away makes nobody wait at the end.
        drop(round.write_uses().await);
        round.end_save(true).await;
        if round.is_dirty {
            round.begin_save();
            round.end_save(true).await;
        }
    }
}

/// What each round goes on from. Whatever takes long is cut into pieces or done beside it, so that changes are still
/// looked for in time.
struct Round<'a> {
    state: &'a State,
    /// When uses are next written back.
    write_back: Instant,
    /// When the last snapshot was begun.
    last_save: Option<Instant>,
    /// A snapshot that is being written.
    saving: Option<JoinHandle<Result<(), String>>>,
    /// Whether keys have changed since the last snapshot was begun.
    is_dirty: bool,
}

impl Round<'_> {
    async fn go(&mut self) {
        self.refresh().await;
        if self.write_back <= Instant::now() {
            self.write_back = Instant::now() + WRITE_BACK;
            match self.write_uses().await {
                Ok(()) | Err(StoreError::Away(_)) => {}
                Err(error) => log::error!("when keys were last used cannot be written: {error}"),
            }
            self.state.keys.survey(&self.state.stages.load());
        }
        self.end_save(false).await;
        let is_time = self.last_save.is_none_or(|at| at.elapsed() >= SNAPSHOT);
        if self.is_dirty && is_time && self.saving.is_none() {
            self.begin_save();
        }
    }

    async fn refresh(&mut self) {
        let keys = &self.state.keys;
        match keys.refresh(self.state).await {
            Ok(true) => {
                self.is_dirty = true;
                keys.survey(&self.state.stages.load());
            }
            Ok(false) => {}
            // The connection's keeper has logged that the store is away.
            Err(StoreError::Away(_)) => {}
            Err(error) => log::error!("keys cannot be read: {error}"),
        }
    }

    async fn write_uses(&mut self) -> Result<(), StoreError> {
        let mut uses = Vec::new();
        self.state.stages.load().keyring.for_each_stored(|entry| {
            if let Some((used, previous)) = entry.key.unsaved() {
                uses.push((Arc::clone(&entry.key), used, previous));
            }
        });
        for (number, part) in uses.chunks(USES).enumerate() {
            if number > 0 {
                self.refresh().await;
            }
            let rows =
                part.iter().map(|(key, used, previous)| (key.id.to_string(), *used, *previous)).collect();
            self.state.keys.store.run(move |store| store::note_uses(store, rows)).await?;
            part.iter().for_each(|(key, used, _)| key.mark_saved(*used));
        }
        Ok(())
    }

    /// Begins to write the snapshot, unless the keys are those of one.
    fn begin_save(&mut self) {
        let stages = self.state.stages.load_full();
        let is_known = self.state.keys.hold().seen.is_some();
        let Some(path) = stages.settings.keys.snapshot.clone().filter(|_| is_known) else { return };
        let work = move || {
            let mut entries = Vec::new();
            stages.keyring.for_each_stored(|entry| entries.push(entry.clone()));
            let text = snapshot::write(&entries, &stages.settings.auth.pepper, calendar::now());
            snapshot::save(&path, &text).map_err(|error| format!("{}: {error}", path.display()))
        };
        self.is_dirty = false;
        self.last_save = Some(Instant::now());
        self.saving = Some(tokio::task::spawn_blocking(work));
    }

    /// Takes note of a snapshot that has been written; with `wait`, of one that still is.
    async fn end_save(&mut self, wait: bool) {
        let Some(saving) = self.saving.take_if(|saving| wait || saving.is_finished()) else { return };
        let result = saving.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Err(error) = result {
            self.is_dirty = true;
            log::error!("the snapshot of keys cannot be written: {error}");
        }
    }
}
