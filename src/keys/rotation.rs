//! Rotations on schedule, and who is told of them. What is due stands in the store (`agenda.rs`); the gateway that
//! finds it first claims it there, so that of many one acts. A claim ends by itself, so that a gateway that dies over
//! it only delays it.
//!
//! With `keys.rotation_folder` a due rotation is made, and the new key written to `<folder>/<id>.key`. In this order:
//! the file beside it, the store, the rename; a crash leaves a key whose old secret works, and a start mends the rest.
//! Without the folder nobody could be given the secret, so that the rotation is announced and left to
//! `POST /admin/v1/keys/{id}/rotate`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::connectors::http::Connector;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use serde_json::json;
use tokio::task::JoinSet;
use tollgate_filters::units::Moment;

use super::actions::{self, KeyError};
use super::agenda::{self, TOLD_DUE, TOLD_ENDING, TOLD_ROTATED, Task};
use super::record::Record;
use super::secret;
use crate::calendar::{self, show};
use crate::config::hash_key;
use crate::config::settings::Settings;
use crate::state::State;
use crate::store::{StoreError, keys as store};
use crate::webhook::{self, Event};

/// How often is looked what is due.
const TICK: Duration = Duration::from_secs(1);
/// Tasks in work at a time.
const TASKS: i64 = 16;
/// How long a task is claimed for, beyond what its webhook can take.
const CLAIM: Duration = Duration::from_secs(60);
/// How long a gateway without a folder waits for one with a folder to make a due rotation.
const PATIENCE: u64 = 3;

/// The task.
pub struct Rotations {
    state: Arc<State>,
    connector: Arc<Connector>,
}

impl Rotations {
    /// Rotates and tells for the keys of `state`.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        Self { state, connector: webhook::connector() }
    }
}

#[async_trait]
impl BackgroundService for Rotations {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut running: JoinSet<()> = JoinSet::new();
        let mut is_mended = false;
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            while running.try_join_next().is_some() {}
            if !is_mended {
                is_mended = mend(&self.state).await;
            }
            self.count().await;
            let room = TASKS - i64::try_from(running.len()).unwrap_or(TASKS);
            let now = calendar::now();
            let due = self.state.keys.run(move |connection| Ok(store::due(connection, now, room)?)).await;
            // The keeper of the connection has logged that the store is away.
            for record in due.unwrap_or_default() {
                let (state, connector) = (Arc::clone(&self.state), Arc::clone(&self.connector));
                running.spawn(async move { Box::pin(Attempt { state, connector }.act(record)).await });
            }
        }
    }
}

impl Rotations {
    async fn count(&self) {
        let now = calendar::now();
        let count =
            self.state.keys.run(move |connection| Ok(store::count_overdue(connection, TOLD_DUE, now)?));
        if let Ok(count) = count.await {
            self.state.keys.status().overdue.store(count, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

/// One task of one key.
struct Attempt {
    state: Arc<State>,
    connector: Arc<Connector>,
}

impl Attempt {
    async fn act(&self, record: Record) {
        let id = record.id.clone();
        if let Err(error) = self.try_to_act(record).await {
            log::error!("key {id}: {error}");
        }
    }

    async fn try_to_act(&self, record: Record) -> Result<(), KeyError> {
        let now = calendar::now();
        let stages = self.state.stages.load_full();
        let settings = &stages.settings;
        let Some((at, task)) = agenda::next(&record, now) else {
            return self.note(record, 0, now).await;
        };
        if task == Task::Rotate && settings.keys.rotation_folder.is_none() && now.0 < at.0 + PATIENCE {
            return Ok(());
        }
        if at > now {
            // Claimed by a gateway that is gone, or another's clock is ahead of ours.
            return self.note(record, 0, now).await;
        }
        let patience = settings.keys.webhook.as_ref().map_or(Duration::ZERO, webhook::longest);
        let until = Moment(now.0 + (CLAIM + patience).as_secs());
        let claimed = record.clone();
        if !self.state.keys.run(move |connection| Ok(store::claim(connection, &claimed, until)?)).await? {
            return Ok(());
        }
        match (task, &settings.keys.rotation_folder) {
            (Task::TellRotated, _) => {
                self.tell("key.rotated", &record, settings).await;
                self.note(record, TOLD_ROTATED, now).await
            }
            (Task::TellEnding, _) => {
                self.tell("key.rotation_ending", &record, settings).await;
                self.note(record, TOLD_ENDING, now).await
            }
            (Task::Rotate, Some(folder)) => self.rotate(&record, folder.clone(), settings).await,
            (Task::Rotate, None) => {
                log::warn!("key {} of tenant {}: a new secret is due", record.id, record.spec.tenant);
                self.tell("key.rotation_due", &record, settings).await;
                self.note(record, TOLD_DUE, now).await
            }
        }
    }

    async fn note(&self, record: Record, told: i64, now: Moment) -> Result<(), KeyError> {
        let mut after = record.clone();
        after.told |= told;
        let notice = agenda::next(&after, now).map(|(at, _)| at);
        let noted = move |connection: &mut _| Ok(store::note_told(connection, &record, after.told, notice)?);
        self.state.keys.run(noted).await.map(drop)
    }

    /// Makes a new secret, and puts the key where its owner finds it.
    async fn rotate(&self, record: &Record, folder: PathBuf, settings: &Settings) -> Result<(), KeyError> {
        let now = calendar::now();
        let key = secret::new_key(&record.id)?;
        let hash = hash_key(&settings.auth.pepper, &key);
        let (beside, place) = (beside(&folder, &record.id), folder.join(format!("{}.key", record.id)));
        let (writes_to, in_file) = (beside.clone(), key.clone());
        off_runtime(move || write_key(&writes_to, &in_file)).await?;
        let grace = record.spec.grace_s(settings);
        let (id, change) = (record.id.clone(), record.change);
        let rotated = self.state.keys.run(move |connection| {
            actions::change(connection, &id, now, |record| {
                // Somebody else has changed it since it was due; what is due then is looked at anew.
                if record.change != change {
                    return Err(KeyError::Conflict("it was changed meanwhile".to_owned()));
                }
                actions::replace_secret(record, hash, grace, now);
                Ok(())
            })
        });
        match rotated.await {
            Ok(rotated) => {
                off_runtime(move || fs::rename(&beside, &place)).await?;
                self.state.keys.took(&self.state, &rotated);
                self.state.metrics.key_rotations.inc();
                let until = rotated.previous.as_ref().map_or(now, |previous| previous.until);
                let (id, tenant) = (&rotated.id, &rotated.spec.tenant);
                log::info!(
                    "key {id} of tenant {tenant} has a new secret; the old one works until {}",
                    show(until)
                );
                Ok(())
            }
            // The commit may have happened: `mend` finds out.
            Err(KeyError::Store(StoreError::Away(why))) => Err(KeyError::Store(StoreError::Away(why))),
            Err(error) => {
                drop(off_runtime(move || fs::remove_file(&beside)).await);
                Err(error)
            }
        }
    }

    async fn tell(&self, kind: &str, record: &Record, settings: &Settings) {
        let Some(webhook) = &settings.keys.webhook else { return };
        let event = event(kind, record, settings);
        let result = webhook::deliver(&self.connector, webhook, &event).await;
        let label = if result.is_ok() { "ok" } else { "failed" };
        self.state.metrics.webhooks.with_label_values(&[label]).inc();
        if let Err(error) = result {
            log::error!("{kind} of key {} was not told: {error}", record.id);
        }
    }
}

/// What the webhook hears.
fn event(kind: &str, record: &Record, settings: &Settings) -> Event {
    let previous = record.previous.as_ref();
    let file = settings.keys.rotation_folder.as_ref().map(|folder| folder.join(format!("{}.key", record.id)));
    let file = file.filter(|file| file.exists()).map(|file| file.display().to_string());
    let since = record.rotated.unwrap_or(record.created);
    let body = json!({
        "type": kind,
        "timestamp": show(calendar::now()),
        "data": {
            "key_id": record.id,
            "tenant": record.spec.tenant,
            "labels": record.spec.labels,
            "rotated": record.rotated.map(show),
            "rotation_due": record.rotation_due().map(show),
            "previous_works_until": previous.map(|previous| show(previous.until)),
            "previous_last_used": previous.and_then(|previous| previous.used).map(show),
            "secret_file": file,
        },
    });
    Event { id: format!("{}-{}-{kind}", record.id, since.0), body: body.to_string() }
}

/// Finishes rotations that a crash has cut between the store and the rename: a file beside its place whose key works
/// is moved there, another one is removed. Gives whether it could be done.
async fn mend(state: &State) -> bool {
    let stages = state.stages.load_full();
    let Some(folder) = stages.settings.keys.rotation_folder.clone() else { return true };
    let Ok(files) = fs::read_dir(&folder) else { return true };
    for path in files.flatten().map(|file| file.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(id) = name.strip_suffix(".key.new").map(str::to_owned) else { continue };
        let Ok(key) = fs::read_to_string(&path) else { continue };
        let hash = hash_key(&stages.settings.auth.pepper, key.trim_end());
        let asked = id.clone();
        let record = match state.keys.run(move |connection| actions::get(connection, &asked)).await {
            Ok(record) => Some(record),
            Err(KeyError::Unknown(_)) => None,
            Err(_) => return false,
        };
        let mended = if record.is_some_and(|record| record.hash == hash) {
            log::info!("key {id}: the new secret is now in its file");
            fs::rename(&path, folder.join(format!("{id}.key")))
        } else {
            fs::remove_file(&path)
        };
        if let Err(error) = mended {
            log::error!("{}: {error}", path.display());
        }
    }
    true
}

fn beside(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.key.new"))
}

fn write_key(path: &Path, key: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

/// Does work with files on a thread that may wait for them.
async fn off_runtime(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), KeyError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| KeyError::Conflict(format!("keys.rotation_folder cannot be written: {error}")))
}
