//! Limits that several gateways share: what a request asks, and what it does while the store is away. The deciding is
//! done in `tollgate_filters::request::quota::shared`, the carrying by a thread (`courier.rs`).
//! Cost: none while slices have room; else one trip, under `limits.shared.timeout_ms`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::quota::shared::{
    Begun, EXPIRY, Grant, More, Names, Order, Recorded, ScopeRef, Terms, begin, reserve_alone, restore,
    standing_alone,
};
use tollgate_filters::request::quota::{Clock, Demand, Denied, Holders, Lease, Standing, Used, standing};

use super::courier::Courier;
use super::link::Dialer;
use super::script;
use crate::config::settings;

/// Orders that may wait for the thread. Whoever finds it full does as with the store away.
const QUEUE: usize = 16_384;

/// What a request asks of the thread.
pub(super) struct Job {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Grant>,
    /// The connection that it was made for.
    pub(super) epoch: u64,
}

/// What the thread and requests both see.
pub(super) struct Board {
    pub(super) settings: settings::SharedLimits,
    /// This gateway's name in the store: of this process, so that nothing of an earlier one is taken for its own. The
    /// same as that of its life in the ledger, if there is one.
    pub(super) gateway: String,
    /// Reads the ledger and has the store told what it has; see [`SharedLimits::learn_from`].
    teacher: OnceLock<Box<dyn Fn() + Send + Sync>>,
    has_ledger: bool,
    /// How often the ledger was read, and all scopes are to be told of what it has.
    readings: AtomicU64,
    pub(super) is_up: AtomicBool,
    /// Counts the connections.
    epoch: AtomicU64,
    /// Whether an order was made and not sent: what it told has to be said again.
    pub(super) is_lost: AtomicBool,
    pub(super) trips: AtomicU64,
    pub(super) errors: AtomicU64,
    /// How many there are, and since when none has been missing.
    gateways: Mutex<(u64, Duration)>,
    /// How often others were there when the store was heard of.
    company: AtomicU64,
    /// How far the store's clock is ahead, milliseconds.
    ahead_ms: AtomicI64,
    /// Scopes of which something is held or to be told.
    scopes: Mutex<HashMap<(Arc<str>, usize), ScopeRef>>,
    origin: Instant,
    tried: Mutex<bool>,
    first_try: Condvar,
}

/// Limits that several gateways share.
pub struct SharedLimits {
    board: Arc<Board>,
    jobs: mpsc::Sender<Job>,
    stop: Mutex<Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>>,
}

impl std::fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedLimits")
    }
}

impl SharedLimits {
    /// Starts the thread. `origin` is that of every time passed to the filters, `life` the name of this process in the
    /// ledger, if there is one; then the ledger has to be read, see [`SharedLimits::learn_from`].
    ///
    /// # Errors
    /// If there can be no thread, or the authorities for TLS cannot be read.
    pub fn start(
        settings: &settings::SharedLimits,
        life: Option<&str>,
        origin: Instant,
    ) -> Result<Self, String> {
        let dialer = Dialer::new(settings.clone(), &[script::LIMITS, script::PRESENCE])?;
        let gateway = life.map_or_else(random_name, |life| Ok(life.to_owned()))?;
        let board = Arc::new(Board {
            settings: settings.clone(),
            gateway,
            teacher: OnceLock::new(),
            has_ledger: life.is_some(),
            readings: AtomicU64::new(0),
            is_up: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            is_lost: AtomicBool::new(false),
            trips: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            gateways: Mutex::default(),
            company: AtomicU64::new(0),
            ahead_ms: AtomicI64::new(0),
            scopes: Mutex::default(),
            origin,
            tried: Mutex::new(false),
            first_try: Condvar::new(),
        });
        let (jobs, received) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let courier = Courier::new(Arc::clone(&board), dialer, received, stopped);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let thread = std::thread::Builder::new()
            .name("limits".to_owned())
            .spawn(move || runtime.block_on(courier.run()))
            .map_err(|error| error.to_string())?;
        Ok(Self { board, jobs, stop: Mutex::new(Some((stop, thread))) })
    }

    /// Names what reads the ledger: it has [`SharedLimits::restore`] called with all that the ledger has, and then
    /// [`SharedLimits::has_read`]. Called when the store turns out to know nothing of what it was told before.
    pub fn learn_from(&self, ledger: impl Fn() + Send + Sync + 'static) {
        if self.board.teacher.set(Box::new(ledger)).is_err() {
            log::error!("limits: the ledger was named twice");
        }
    }

    /// Waits until the store has answered once or not, up to `patience`. Whether it has.
    pub fn wait_for_first_try(&self, patience: Duration) -> bool {
        let tried = self.board.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.board.first_try.wait_timeout_while(tried, patience, |tried| !*tried);
        drop(waited);
        self.is_up()
    }

    /// Gives everything back that is not in use, and ends the thread.
    pub fn stop(&self) {
        let held = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = held {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }

    /// Whether the store answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.board.is_up.load(Ordering::Acquire)
    }

    /// How many gateways share the limits, as far as is known.
    #[must_use]
    pub fn gateways(&self) -> u64 {
        self.board.gateways()
    }

    /// A number that stays the same while this gateway is the only one.
    #[must_use]
    pub fn company(&self) -> u64 {
        self.board.company.load(Ordering::Acquire)
    }

    /// Limits of which something is held or to be told.
    #[must_use]
    pub fn scopes(&self) -> usize {
        self.board.lock().len()
    }

    /// Commands to the store so far.
    #[must_use]
    pub fn trips(&self) -> u64 {
        self.board.trips.load(Ordering::Relaxed)
    }

    /// Times that the store was away so far.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.board.errors.load(Ordering::Relaxed)
    }

    /// Takes what a request may come to out of every limit that it lies under.
    ///
    /// # Errors
    /// [`Denied`]: a limit has no room, or the store is away and a limit wants to be refused then.
    pub async fn reserve(
        &self,
        holders: Holders,
        demand: Demand,
        names: Names<'_>,
    ) -> Result<Lease, Box<Denied>> {
        let (clock, terms) = (self.board.clock(), self.terms());
        let (mut holders, mut demand) = (holders, demand);
        if let Some(epoch) = self.board.epoch() {
            match begin(holders, demand, clock, terms, names) {
                Begun::Lease(lease) => return Ok(*lease),
                Begun::Ask(ask, order) => match self.ask(order, epoch).await {
                    Some(grant) => return ask.answered(grant),
                    None => (holders, demand) = ask.unanswered(),
                },
            }
        }
        reserve_alone(holders, demand, self.board.clock(), terms, names, |scope| self.board.open(scope))
    }

    /// How many output tokens a stream that has come to `used` may come to before this is asked again.
    ///
    /// # Errors
    /// The budget that has nothing left for it.
    pub async fn more(&self, lease: &mut Lease, used: Used) -> Result<u64, Refusal> {
        let clock = self.board.clock();
        if let Some(epoch) = self.board.epoch().filter(|_| lease.is_from_store()) {
            match lease.more(used, clock) {
                More::Allowed(tokens) => return Ok(tokens),
                More::Ask(ask, order) => {
                    if let Some(grant) = self.ask(order, epoch).await {
                        return lease.more_answered(*ask, grant);
                    }
                }
            }
        }
        lease.more_alone(used, clock, self.terms())
    }

    /// What is left, for an answer that takes nothing: while the store is away, of this gateway's part.
    #[must_use]
    pub fn standing(&self, holders: &Holders) -> Standing {
        let clock = self.board.clock();
        match self.board.epoch() {
            Some(_) => standing(holders, clock),
            None => standing_alone(holders, clock, self.terms()),
        }
    }

    /// Which reading of the ledger the next one is.
    #[must_use]
    pub fn next_reading(&self) -> u64 {
        self.board.readings.load(Ordering::Acquire) + 1
    }

    /// Has the store told what the ledger has of one life.
    pub fn restore(&self, holders: &Holders, recorded: Recorded<'_>, names: Names<'_>) {
        for scope in restore(holders, recorded, self.board.clock(), self.terms(), names) {
            self.board.open(scope);
        }
    }

    /// All that one reading of the ledger has was given to [`SharedLimits::restore`].
    pub fn has_read(&self) {
        self.board.readings.fetch_add(1, Ordering::AcqRel);
    }

    fn terms(&self) -> Terms {
        let settings = &self.board.settings;
        Terms {
            slice_percent: settings.slice_percent,
            when_down: settings.when_down,
            gateways: self.gateways(),
        }
    }

    /// One trip; `None` if the store did not answer in time.
    async fn ask(&self, order: Order, epoch: u64) -> Option<Grant> {
        for entry in &order.entries {
            self.board.open(entry.scope.clone());
        }
        let (reply, answered) = oneshot::channel();
        if self.jobs.try_send(Job { order, reply, epoch }).is_err() {
            self.board.is_lost.store(true, Ordering::Relaxed);
            return None;
        }
        tokio::time::timeout(self.board.settings.timeout, answered).await.ok()?.ok()
    }
}

fn random_name() -> Result<String, String> {
    let mut name = [0; 8];
    SystemRandom::new().fill(&mut name).map_err(|_| "the system gives no random numbers")?;
    Ok(name.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Board {
    /// How often the ledger was read and its use noted; `None` where there is no ledger.
    pub(super) fn readings(&self) -> Option<u64> {
        self.has_ledger.then(|| self.readings.load(Ordering::Acquire))
    }

    /// Asks for the ledger to be read again.
    pub(super) fn read_ledger(&self) {
        if let Some(teacher) = self.teacher.get() {
            teacher();
        }
    }

    /// Time since the process started.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// That, and the time of day by the store's clock.
    pub(super) fn clock(&self) -> Clock {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        let difference = Duration::from_millis(ahead.unsigned_abs());
        let unix = if ahead < 0 { unix.saturating_sub(difference) } else { unix + difference };
        Clock { now: self.now(), unix }
    }

    /// The connection that requests may ask on, if there is one.
    fn epoch(&self) -> Option<u64> {
        // In this order: one that is read while the store is being told anew is not taken for the one after.
        let epoch = self.epoch.load(Ordering::Acquire);
        self.is_up.load(Ordering::Acquire).then_some(epoch)
    }

    /// Notes that what is held is about to be said in whole.
    pub(super) fn begin_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Release);
        self.is_lost.store(false, Ordering::Relaxed);
    }

    /// Notes what time the store has.
    pub(super) fn note_time(&self, milliseconds: i64) {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let own = i64::try_from(unix.as_millis()).unwrap_or(i64::MAX);
        self.ahead_ms.store(milliseconds.saturating_sub(own), Ordering::Relaxed);
    }

    /// Notes how many gateways there are. One that is missing counts for a while: a store that was started anew has not
    /// heard of all, and their parts must not grow by that.
    pub(super) fn note_gateways(&self, count: i64) {
        let (count, now) = (u64::try_from(count).unwrap_or(0), self.now());
        if count > 1 {
            self.company.fetch_add(1, Ordering::AcqRel);
        }
        let mut known = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        if count >= known.0 || now.saturating_sub(known.1) > EXPIRY {
            *known = (count, now);
        }
    }

    /// How many there are, as far as is known.
    pub(super) fn gateways(&self) -> u64 {
        let known = self.gateways.lock().unwrap_or_else(PoisonError::into_inner).0;
        known.max(self.settings.gateways)
    }

    /// Notes that it was tried whether the store is there.
    pub(super) fn note_try(&self) {
        *self.tried.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.first_try.notify_all();
    }

    /// Scopes of which there may be something to tell.
    pub(super) fn scopes(&self) -> Vec<ScopeRef> {
        self.lock().values().cloned().collect()
    }

    /// Forgets a scope of which nothing is held.
    pub(super) fn close(&self, scope: &ScopeRef) {
        // Under this lock, so that no request opens it meanwhile and finds itself forgotten.
        let mut scopes = self.lock();
        if scope.close() {
            scopes.remove(&scope.id());
        }
    }

    fn open(&self, scope: ScopeRef) {
        self.lock().entry(scope.id()).or_insert(scope);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(Arc<str>, usize), ScopeRef>> {
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
