//! Keeps the keys as the store has them: looks every `keys.poll_ms` whether there were changes, writes back when keys
//! were last used, and keeps a snapshot on disk. None of it is on the way of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;

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
        let mut round = Round { state: &self.state, write_back: Instant::now(), saved: None, is_dirty: true };
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
        round.save().await;
    }
}

struct Round<'a> {
    state: &'a State,
    /// When uses are next written back.
    write_back: Instant,
    /// When the last snapshot was written.
    saved: Option<Instant>,
    /// Whether keys have changed since.
    is_dirty: bool,
}

impl Round<'_> {
    async fn go(&mut self) {
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
        if self.write_back <= Instant::now() {
            self.write_back = Instant::now() + WRITE_BACK;
            match self.write_uses().await {
                Ok(()) | Err(StoreError::Away(_)) => {}
                Err(error) => log::error!("when keys were last used cannot be written: {error}"),
            }
            keys.survey(&self.state.stages.load());
        }
        if self.is_dirty && self.saved.is_none_or(|at| at.elapsed() >= SNAPSHOT) {
            self.save().await;
        }
    }

    async fn write_uses(&self) -> Result<(), StoreError> {
        let keys = &self.state.keys;
        let mut uses = Vec::new();
        self.state.stages.load().keyring.for_each_stored(|entry| {
            if let Some((used, previous)) = entry.key.unsaved() {
                uses.push((Arc::clone(&entry.key), used, previous));
            }
        });
        for part in uses.chunks(USES) {
            let rows =
                part.iter().map(|(key, used, previous)| (key.id.to_string(), *used, *previous)).collect();
            keys.store.run(move |store| store::note_uses(store, rows)).await?;
            part.iter().for_each(|(key, used, _)| key.mark_saved(*used));
        }
        Ok(())
    }

    /// Writes the snapshot, unless the keys are those of one.
    async fn save(&mut self) {
        let stages = self.state.stages.load_full();
        let is_known = self.state.keys.hold().seen.is_some();
        let Some(path) = stages.settings.keys.snapshot.clone().filter(|_| is_known) else { return };
        let mut entries = Vec::new();
        stages.keyring.for_each_stored(|entry| entries.push(entry.clone()));
        let pepper = stages.settings.auth.pepper.clone();
        drop(stages);
        let work = move || {
            let text = snapshot::write(&entries, &pepper, calendar::now());
            snapshot::save(&path, &text).map_err(|error| format!("{}: {error}", path.display()))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => self.is_dirty = false,
            Ok(Err(error)) => log::error!("the snapshot of keys cannot be written: {error}"),
            Err(error) => log::error!("the snapshot of keys was not written: {error}"),
        }
        self.saved = Some(Instant::now());
    }
}
