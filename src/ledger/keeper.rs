//! From the journal to the store. One thread with a connection of its own: what killed gateways left comes first, then
//! the totals are known, then the rows of this life as they are committed. Whatever fails is tried again from the
//! journal; the store passes over what it has.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::entry::{Boot, Entry, What};
use super::journal::{Reader, abandoned};
use super::{Shared, open};
use crate::config::settings::{Ledger as Settings, Retention, Storage};
use crate::store::{Backoff, Connection, Status, StoreError, usage};

/// Rows of one transaction.
const BATCH: usize = 1000;
/// How often is looked for journals of gateways that have gone meanwhile, and that an idle connection is tried.
const LOOK: Duration = Duration::from_secs(5);
/// How often what is old is removed.
const PURGE: Duration = Duration::from_secs(3600);

pub(super) struct Keeper {
    storage: Storage,
    retention: Retention,
    /// Folder of all journals.
    base: PathBuf,
    own: Reader,
    shared: Arc<Shared>,
    status: Status,
    connection: Option<Connection>,
    backoff: Backoff,
    has_totals: bool,
    looked: Option<Instant>,
    purged: Option<Instant>,
}

/// Why a round ended early.
enum Halt {
    /// The store; the connection is to be made anew.
    Store(StoreError),
    /// The journal.
    Disk(io::Error),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Keeper {
    pub(super) fn new(
        settings: &Settings,
        storage: &Storage,
        own: &Path,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        Ok(Self {
            storage: storage.clone(),
            retention: settings.retention,
            base: settings.journal.clone(),
            own: Reader::open(own)?,
            shared,
            status: Status::default(),
            connection: None,
            backoff: Backoff::default(),
            has_totals: false,
            looked: None,
            purged: None,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            if self.backoff.is_due() {
                match self.round() {
                    Ok(()) => {
                        self.status.note("ledger", Ok(()));
                        self.backoff = Backoff::default();
                    }
                    Err(Halt::Store(error)) => {
                        let error = StoreError::Away(error.to_string());
                        self.status.note("ledger: rows wait in the journal", Err(&error));
                        self.connection = None;
                        self.backoff.failed();
                    }
                    Err(Halt::Disk(error)) => {
                        log::error!("ledger: the journal cannot be read: {error}");
                        self.backoff.failed();
                    }
                }
            }
            if self.wait() {
                break;
            }
        }
        self.leave();
    }

    /// Waits for something to do. True when it is time to end.
    fn wait(&self) -> bool {
        let mut progress = self.shared.lock();
        loop {
            let is_stored = progress.committed == Some(self.own.mark().at);
            let is_done = self.connection.is_some() && is_stored && progress.wanted.is_none();
            if let Some(by) = progress.stop_by
                && (is_done || Instant::now() >= by)
            {
                return true;
            }
            let patience = if !self.backoff.is_due() {
                self.backoff.wait()
            } else if is_done {
                LOOK.saturating_sub(self.looked.map_or(LOOK, |at| at.elapsed()))
            } else {
                Duration::ZERO
            };
            let limit = progress
                .stop_by
                .map_or(patience, |by| patience.min(by.saturating_duration_since(Instant::now())));
            if limit.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(progress, limit);
            progress = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Does all there is to do.
    fn round(&mut self) -> Result<(), Halt> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.storage)?,
        };
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
            connection.ping()?;
            self.take_over(&mut connection)?;
            self.looked = Some(Instant::now());
        }
        if !self.has_totals {
            let totals = usage::totals(&mut connection, Utc::now())?;
            self.shared.give_totals(totals);
            self.has_totals = true;
        }
        self.store_own(&mut connection)?;
        self.answer(&mut connection)?;
        if self.purged.is_none_or(|at| at.elapsed() >= PURGE) {
            let count = usage::purge(&mut connection, &self.retention, Utc::now())?;
            if count > 0 {
                log::info!(
                    "ledger: {count} rows were older than `ledger.retention` keeps them and are removed"
                );
            }
            self.purged = Some(Instant::now());
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// Tells who wants to know what has been used, now that all that was committed is in it.
    fn answer(&self, connection: &mut Connection) -> Result<(), Halt> {
        if self.shared.lock().wanted.is_none() {
            return Ok(());
        }
        let totals = usage::totals(connection, Utc::now())?;
        let take = self.shared.lock().wanted.take();
        if let Some(take) = take {
            take(&totals);
        }
        Ok(())
    }

    /// Stores what gateways that are gone have left here, and removes it.
    fn take_over(&self, connection: &mut Connection) -> Result<(), Halt> {
        for left in abandoned(&self.base)? {
            let mut reader = Reader::open(&left.folder)?;
            let mut count = 0;
            loop {
                let entries = reader.read(BATCH, None)?;
                if entries.is_empty() {
                    break;
                }
                count += entries.len();
                self.store(connection, reader.boot(), &entries)?;
            }
            let unended = open::unended(&left.folder)?;
            let unsettled = usage::note_unsettled(connection, reader.boot(), &unended)?;
            if unsettled > 0 {
                log::warn!(
                    "ledger: {unsettled} requests were in work when {} ended, or answered within its last commit; \
                     `tollgate usage --unsettled` lists them",
                    reader.boot().boot
                );
            }
            std::fs::remove_dir_all(&left.folder)?;
            log::info!(
                "ledger: took over {count} rows of {}, which has ended without a stop",
                reader.boot().boot
            );
        }
        Ok(())
    }

    fn store_own(&mut self, connection: &mut Connection) -> Result<(), Halt> {
        loop {
            let end = self.shared.lock().committed;
            let before = self.own.mark();
            let entries = self.own.read(BATCH, end)?;
            if entries.is_empty() {
                return Ok(());
            }
            if let Err(halt) = self.store(connection, self.own.boot(), &entries) {
                self.own.rewind(before);
                return Err(halt);
            }
            self.shared.stored.fetch_add(entries.len() as u64, Ordering::Relaxed);
            let now = self.own.mark();
            self.shared.read_bytes.store(now.read_bytes, Ordering::Relaxed);
            if before.at.segment < now.at.segment {
                self.own.remove_read()?;
            }
        }
    }

    /// Stores entries; those that the store refuses for what they say are put aside, one by one.
    fn store(&self, connection: &mut Connection, boot: &Boot, entries: &[Entry]) -> Result<(), Halt> {
        let is_plausible = |entry: &Entry| match &entry.what {
            What::Row(row) => row.is_plausible(),
            What::Lost { .. } => true,
        };
        if entries.iter().all(is_plausible) {
            match usage::record(connection, boot, entries) {
                Err(StoreError::Refused(_)) => {}
                result => return Ok(result?),
            }
        }
        for entry in entries {
            let refused = if is_plausible(entry) {
                match usage::record(connection, boot, std::slice::from_ref(entry)) {
                    Err(StoreError::Refused(why)) => why,
                    result => {
                        result?;
                        continue;
                    }
                }
            } else {
                "no request can have used that much".to_owned()
            };
            self.put_aside(boot, entry, &refused)?;
            usage::reject(connection, boot, entry.seq)?;
        }
        Ok(())
    }

    fn put_aside(&self, boot: &Boot, entry: &Entry, why: &str) -> io::Result<()> {
        let path = self.base.join("rejected.jsonl");
        log::error!("ledger: row {} of {} is put aside in {}: {why}", entry.seq, boot.boot, path.display());
        let mut file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let line = serde_json::json!({"boot": boot, "entry": entry, "why": why});
        writeln!(file, "{line}")?;
        file.sync_all()?;
        self.shared.rejected.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// An empty journal need not stay.
    fn leave(self) {
        let is_empty = self.shared.lock().committed == Some(self.own.mark().at);
        let folder = self.own.folder();
        if is_empty {
            if let Err(error) = std::fs::remove_dir_all(folder) {
                log::warn!("ledger: {} cannot be removed: {error}", folder.display());
            }
        } else {
            log::warn!(
                "ledger: {} keeps rows for the next start; the store did not take them",
                folder.display()
            );
        }
    }
}
