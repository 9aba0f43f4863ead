//! The store: one database above which keys, the usage ledger and its roll-ups stand. SQLite in a file by default,
//! PostgreSQL by one config line; the same statements run on both (`connection.rs` says which dialect that is).
//!
//! No request ever waits for it. [`Store`] hands work to a thread of its own, which keeps one connection, brings
//! the tables up to date (`migrations.rs`), and tries again for as long as the database is away. Whoever asks
//! meanwhile is told so at once; `tollgate_store_up`, `/readyz` and the log say it too.
//!
//! rusqlite and tokio-postgres under a seam of our own, and not sqlx: measured with `cargo tree`, they add 29 crates
//! where sqlx 0.9 adds 55 and seven duplicates (a second reader of system certificates among them); sqlx's `Any`
//! driver would have needed the same seam for types and errors. Every call blocks, which suits a thread of its own:
//! a transaction is a closure, and no connection is ever held across an await.
//! SQLite is compiled in: Debian 12 has 3.40, older than the driver supports, and a file that one build wrote is
//! read by the same code everywhere.

mod connection;
pub mod keys;
mod migrations;
mod postgres;
mod sqlite;
mod tls;

pub mod usage;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use connection::{Connection, Row, Value};

use crate::config::settings::Storage;

/// Pieces of work that may wait for the thread. Whoever finds it full is refused at once, like with the store away.
const QUEUE: usize = 256;
/// How often an idle connection is tried, so that a database that went away is noticed.
const PING: Duration = Duration::from_secs(1);
/// The first wait before connecting again; it doubles up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_millis(100);
/// The longest wait before connecting again.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// It cannot be reached, broke off, or took too long. Nothing is known about what was being done: a commit may
    /// have happened. Worth trying again, on a new connection.
    Away(String),
    /// It refused the values. Trying again gives the same.
    Refused(String),
    /// It could not make anything of the statement: a table is missing, a right is, or the program is wrong.
    Broken(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) => write!(f, "the store is away: {why}"),
            Self::Refused(why) => write!(f, "the store refused the values: {why}"),
            Self::Broken(why) => write!(f, "the store cannot do that: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

type Job = Box<dyn FnOnce(Result<&mut Connection, &StoreError>) -> Result<(), StoreError> + Send>;

/// A way to the store with a connection of its own. Keys have one, so that a revocation never waits for a report; the
/// ledger has its own, too.
#[derive(Debug)]
pub struct Store {
    jobs: SyncSender<Job>,
    status: Arc<Status>,
    /// How long an answer is waited for: connecting and one statement.
    patience: Duration,
}

/// How the store is doing, for metrics and readiness.
#[derive(Debug, Default)]
pub struct Status {
    is_up: AtomicBool,
    errors: AtomicU64,
    first_try: Mutex<bool>,
    tried: Condvar,
}

impl Status {
    /// Whether the last thing asked of the store worked.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Times that the store was away when something was asked of it.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Notes how it went, and says in the log when that has changed.
    pub fn note(&self, what: &str, result: Result<(), &StoreError>) {
        let is_up = !matches!(result, Err(StoreError::Away(_)));
        let was_up = self.is_up.swap(is_up, Ordering::Relaxed);
        let mut tried = self.first_try.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = !std::mem::replace(&mut *tried, true);
        drop(tried);
        self.tried.notify_all();
        match result {
            Err(error @ StoreError::Away(_)) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if was_up || is_first {
                    log::error!("{what}: {error}; requests go on, and it is tried again");
                }
            }
            _ if !was_up && !is_first => log::info!("{what}: the store is back"),
            _ => {}
        }
    }

    /// Waits until the store has answered, or has once not answered, or `patience` is over. Gives whether it is up.
    pub fn wait_for_first_try(&self, patience: Duration) -> bool {
        let tried = self.first_try.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.tried.wait_timeout_while(tried, patience, |tried| !*tried));
        self.is_up()
    }
}

impl Store {
    /// Starts the thread, called `name` in the log, which connects and brings the tables up to date.
    ///
    /// # Errors
    /// If the thread cannot be started. A store that is away is no error.
    pub fn start(name: &'static str, settings: &Storage) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(QUEUE);
        let status = Arc::<Status>::default();
        let keeper =
            Keeper { name, settings: settings.clone(), status: Arc::clone(&status), connection: None };
        let run = move || keeper.run(&waiting);
        std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { jobs, status, patience: settings.connect_timeout + settings.statement_timeout })
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Does `work` on the store's thread and gives what it found. May be awaited on any runtime, but not on the way
    /// of a request.
    ///
    /// # Errors
    /// [`StoreError::Away`] at once while there is no connection, and when the work takes longer than the deadlines
    /// of `storage` allow; else what `work` says.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let job = move |connection: Result<&mut Connection, &StoreError>| {
            let result = connection.map_err(Clone::clone).and_then(work);
            let outcome = result.as_ref().map(|_| ()).map_err(Clone::clone);
            // Who asked may have stopped waiting.
            drop(tell.send(result));
            outcome
        };
        if self.jobs.try_send(Box::new(job)).is_err() {
            return Err(StoreError::Away("too much is waiting for it already".to_owned()));
        }
        match tokio::time::timeout(self.patience, told).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(StoreError::Away("its thread has ended".to_owned())),
            Err(_) => Err(StoreError::Away(format!("no answer within {} ms", self.patience.as_millis()))),
        }
    }
}

/// Keeps the connection.
struct Keeper {
    name: &'static str,
    settings: Storage,
    status: Arc<Status>,
    connection: Option<Connection>,
}

impl Keeper {
    fn run(mut self, jobs: &Receiver<Job>) {
        let mut backoff = Backoff::default();
        let mut why = StoreError::Away("not connected yet".to_owned());
        loop {
            if self.connection.is_none() && backoff.is_due() {
                match Connection::open(&self.settings) {
                    Ok(connection) => {
                        self.connection = Some(connection);
                        self.status.note(self.name, Ok(()));
                        backoff = Backoff::default();
                    }
                    Err(error) => {
                        self.status.note(self.name, Err(&away(&error)));
                        why = away(&error);
                        backoff.failed();
                    }
                }
            }
            let wait = if self.connection.is_some() { PING } else { backoff.wait() };
            let outcome = match jobs.recv_timeout(wait) {
                Ok(job) => job(self.connection.as_mut().ok_or(&why)),
                Err(RecvTimeoutError::Timeout) => self.connection.as_mut().map_or(Ok(()), Connection::ping),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.connection.is_some() {
                self.status.note(self.name, outcome.as_ref().copied());
                if let Err(error @ StoreError::Away(_)) = outcome {
                    (self.connection, why) = (None, error);
                }
            }
        }
    }
}

/// A database that cannot be set up is as good as away: an operator may mend it while the gateway runs.
fn away(error: &StoreError) -> StoreError {
    match error {
        StoreError::Away(_) => error.clone(),
        StoreError::Refused(why) | StoreError::Broken(why) => StoreError::Away(why.clone()),
    }
}

/// When to connect again.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    due: Option<Instant>,
}

impl Backoff {
    /// Whether it is time to try.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.due.is_none_or(|due| Instant::now() >= due)
    }

    /// How long until then.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now()))
    }

    /// Notes a try that failed.
    pub fn failed(&mut self) {
        let wait = RETRY.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
        self.failures += 1;
        self.due = Some(Instant::now() + wait);
    }
}
