//! The usage ledger: one row for each request of a known tenant, exactly once, whatever is killed.
//!
//! A request hands its record over when it settles, and goes on. A thread of the ledger numbers the rows, adds each
//! group of them to the journal on this machine's disk and waits until it is there (`writer.rs`, `journal.rs`). Another
//! takes them from the journal to the store (`keeper.rs`), which keeps the highest number it has of each life of each
//! gateway: so a row is stored once, however often it is tried. What a killed gateway left in its journal, the next one
//! stores at its start, and which requests it had in work (`open.rs`).
//!
//! - Lost by `kill -9`: what settled within the last `commit_window_ms` (and the disk's own delay). Nothing else, also
//!   by a power loss.
//! - The store away: rows wait in the journal, up to `journal_max_bytes` and the queue in memory.
//! - All of it full: with `when_full: closed` no further request is let in, so none can be lost. With `open` requests go
//!   on; their rows are lost, counted in `tollgate_ledger_lost_rows`, told in the log, and noted in the ledger with
//!   their number and cost.
//!
//! A request that is refused for want of room has no row, since it used nothing.
//!
//! Rows of requests that no tenant can be charged for (a wrong key, an unknown path) are not kept: whoever can reach
//! the gateway could fill the store with them. They are in the access log.

mod entry;
mod journal;
mod keeper;
mod open;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ring::rand::{SecureRandom, SystemRandom};

pub use entry::{Boot, Entry, UsageRow, What};
pub use open::Begun;

use crate::config::settings::{Ledger as Settings, Storage};
use crate::record::Record;
use crate::store::usage::Totals;
use journal::{Journal, Position};
use keeper::Keeper;
use open::Open;
use writer::Writer;

/// How long a stop waits for the store. What it does not take stays in the journal for the next start.
const STOP: Duration = Duration::from_secs(5);

enum Message {
    /// A settled request, and its number among those in work.
    Row(Arc<Record>, Option<u64>),
    Stop,
}

/// Takes rows.
#[derive(Debug)]
pub struct Ledger {
    queue: SyncSender<Message>,
    /// Rows that fit into the queue.
    room: usize,
    shared: Arc<Shared>,
    life: String,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads tell each other and the metrics.
#[derive(Default)]
struct Shared {
    /// Requests in work.
    open: Open,
    /// Rows between a request and the journal.
    waiting: AtomicUsize,
    /// Rows that found the queue full and are not noted yet, and what they came to.
    lost_now: AtomicU64,
    lost_now_peur: AtomicU64,
    /// Of this life.
    lost: AtomicU64,
    rejected: AtomicU64,
    stored: AtomicU64,
    /// Bytes of rows that are in the journal, and those of them that the store has.
    written_bytes: AtomicU64,
    read_bytes: AtomicU64,
    /// Whether the journal takes no rows.
    is_full: AtomicBool,
    progress: Mutex<Progress>,
    /// Told when `progress` has changed.
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// How far the journal is on the disk.
    committed: Option<Position>,
    /// Until when the keeper may go on after a stop.
    stop_by: Option<Instant>,
    totals: TotalsState,
    /// Who wants to know what has been used by now.
    wanted: Option<TakeTotals>,
}

type TakeTotals = Box<dyn FnOnce(&Totals) + Send>;

#[derive(Default)]
enum TotalsState {
    /// Nobody has asked and they are not there.
    #[default]
    Unknown,
    /// Somebody waits for them.
    Awaited(TakeTotals),
    /// They are there.
    Known(Totals),
    /// They were handed over.
    Taken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// The ledger in numbers, for metrics and readiness.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Rows stored by this process.
    pub stored: u64,
    /// Rows that could not be kept.
    pub lost: u64,
    /// Rows that the store refused.
    pub rejected: u64,
    /// Rows that are not in the journal yet.
    pub waiting: u64,
    /// Bytes of the journal that the store does not have.
    pub pending_bytes: u64,
}

impl Ledger {
    /// Starts the threads of a new life.
    ///
    /// # Errors
    /// If the journal cannot be made.
    pub fn start(settings: &Settings, storage: &Storage) -> io::Result<Self> {
        let boot = Boot { boot: random_id()?, node: settings.node.clone(), started_ms: now_ms() };
        let life = boot.boot.clone();
        let journal = Journal::create(&settings.journal, &boot)?;
        let shared = Arc::<Shared>::default();
        shared.lock().committed = Some(journal.end());
        let (queue, messages) = sync_channel(settings.queue_rows);
        let keeper = Keeper::new(settings, storage, journal.folder(), Arc::clone(&shared))?;
        let writer = Writer::new(settings, journal, Arc::clone(&shared));
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let threads = vec![
            spawn("ledger", Box::new(move || writer.run(&messages)))?,
            spawn("ledger-store", Box::new(move || keeper.run()))?,
        ];
        Ok(Self { queue, room: settings.queue_rows, shared, life, threads: Mutex::new(threads) })
    }

    /// Notes that a request is forwarded; gives its number, with which it is to be handed over when it has settled.
    pub fn begin(&self, begun: Begun) -> u64 {
        self.shared.open.begin(begun)
    }

    /// Hands a settled request over, with the number that it has if it was forwarded. Never waits: what finds the queue
    /// full is counted as lost.
    pub fn push(&self, record: &Arc<Record>, begun: Option<u64>) {
        if record.tenant.is_empty() {
            return;
        }
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Message::Row(Arc::clone(record), begun)).is_err() {
            if let Some(begun) = begun {
                self.shared.open.end(begun);
            }
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            let peur = u64::try_from(record.cost_eur.0).unwrap_or(u64::MAX);
            self.shared.lost_now_peur.fetch_add(peur, Ordering::Relaxed);
            self.shared.lost_now.fetch_add(1, Ordering::Relaxed);
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the rows of this many requests in work would find room.
    #[must_use]
    pub fn has_room_for(&self, in_work: usize) -> bool {
        self.shared.waiting.load(Ordering::Relaxed).saturating_add(in_work) <= self.room
    }

    /// How it is doing.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            stored: read(&self.shared.stored),
            lost: read(&self.shared.lost),
            rejected: read(&self.shared.rejected),
            waiting: self.shared.waiting.load(Ordering::Relaxed) as u64,
            pending_bytes: self.shared.pending_bytes(),
        }
    }

    /// Gives `take` what was used before this process started, today and this month, by everybody in the same store;
    /// what killed gateways left in their journals here is in it. At once if it is known, else on the ledger's thread
    /// when the store has answered. Nothing that this process hands over is ever in it, so it can be added to what has
    /// been counted meanwhile.
    pub fn on_totals(&self, take: impl FnOnce(&Totals) + Send + 'static) {
        let mut progress = self.shared.lock();
        match std::mem::replace(&mut progress.totals, TotalsState::Taken) {
            TotalsState::Known(totals) => {
                drop(progress);
                take(&totals);
            }
            TotalsState::Unknown | TotalsState::Awaited(_) => {
                progress.totals = TotalsState::Awaited(Box::new(take));
            }
            TotalsState::Taken => log::error!("ledger: the totals were asked for twice"),
        }
    }

    /// The id of this life, as it stands in the ledger.
    #[must_use]
    pub fn life(&self) -> &str {
        &self.life
    }

    /// Gives `take` what was used today and this month, as [`Ledger::on_totals`] does, with all that this process has
    /// committed: as soon as the store has taken it and answers. Who asked before and has no answer yet gets none.
    pub fn ask_totals(&self, take: impl FnOnce(&Totals) + Send + 'static) {
        self.shared.lock().wanted = Some(Box::new(take));
        self.shared.changed.notify_all();
    }

    /// Waits until the totals are known, at most for `patience`. Gives whether they are.
    pub fn wait_for_totals(&self, patience: Duration) -> bool {
        let is_unknown = |progress: &mut Progress| {
            matches!(progress.totals, TotalsState::Unknown | TotalsState::Awaited(_))
        };
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), patience, is_unknown);
        let (mut progress, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !is_unknown(&mut progress)
    }

    /// Commits what is waiting, gives the store a moment to take it, and ends the threads.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() || self.queue.send(Message::Stop).is_err() {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                log::error!("a thread of the ledger panicked");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the journal that the store does not have.
    fn pending_bytes(&self) -> u64 {
        let read = self.read_bytes.load(Ordering::Relaxed);
        self.written_bytes.load(Ordering::Relaxed).saturating_sub(read)
    }

    /// The totals are known.
    fn give_totals(&self, totals: Totals) {
        let mut progress = self.lock();
        let before = std::mem::replace(&mut progress.totals, TotalsState::Taken);
        match before {
            TotalsState::Awaited(take) => {
                drop(progress);
                take(&totals);
            }
            _ => progress.totals = TotalsState::Known(totals),
        }
        self.changed.notify_all();
    }
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
