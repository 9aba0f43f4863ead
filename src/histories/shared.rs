//! Histories that several gateways share, in the store in which they share limits: one connection, commands one behind the other. A
//! request waits for what the store remembers, no longer than `limits.shared.timeout_ms`; it does not wait for the store to be
//! told. A store that is away costs nothing: nobody asks until it answers again.
//!
//! The connection is served where the first request with a prompt is: waking a thread for each command costs more than the
//! command does (`benches/shared_histories.py`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, oneshot};
use tollgate_filters::request::scan::behaviour::{History, Kept};

use super::Conversation;
use crate::config::settings;
use crate::limits::courier::send;
use crate::limits::link::{Dialer, Link};
use crate::limits::resp::{self, Value};
use crate::limits::script;

/// What the store does, in one step each.
const HISTORY: &str = include_str!("history.lua");
/// What may wait for the connection.
const QUEUE: usize = 16_384;
/// Bytes that may wait for the connection; what comes then stays in the queue, and is not told when that is full.
const MOST_WAITING: usize = 4 << 20;
/// Errors that say that this server is of no use, or has to be made ready again.
const ENDING: [&str; 7] = ["NOSCRIPT", "NOAUTH", "NOPERM", "READONLY", "LOADING", "MASTERDOWN", "UNKILLABLE"];
/// How long the store may answer nothing before the connection is given up.
const LOST: Duration = Duration::from_secs(1);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The wait before connecting again.
const RETRY: Duration = Duration::from_millis(250);

/// What the store remembers of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The history.
    pub kept: Kept,
    /// The rules whose words it has.
    pub rules: u64,
    /// How long ago it was told.
    pub age: Duration,
}

/// How fetching went, in numbers since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Histories that the store had.
    pub found: AtomicU64,
    /// Conversations that were new to it.
    pub new: AtomicU64,
    /// Times that it did not answer in time.
    pub unanswered: AtomicU64,
}

/// The store did not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoAnswer;

enum Job {
    Get { whose: String, reply: oneshot::Sender<Option<Found>> },
    Put { whose: String, history: Box<History>, is_whole: bool, rules: u64, memory: Duration },
    Unsay { whose: String, hash: u64 },
}

/// The store, as requests see it.
pub struct SharedHistories {
    jobs: mpsc::Sender<Job>,
    /// Until it is served.
    courier: Mutex<Option<Courier>>,
    is_started: AtomicBool,
    is_away: Arc<AtomicBool>,
    epoch: Arc<AtomicU64>,
    timeout: Duration,
    counts: Counts,
}

impl std::fmt::Debug for SharedHistories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedHistories")
    }
}

impl SharedHistories {
    /// Nothing is connected before it is asked.
    ///
    /// # Errors
    /// If the authorities for TLS cannot be read.
    pub fn new(settings: &settings::SharedLimits) -> Result<Self, String> {
        let dialer = Dialer::new(settings.clone(), &[HISTORY])?;
        let (is_away, epoch) = (Arc::default(), Arc::default());
        let (jobs, received) = mpsc::channel(QUEUE);
        let courier = Courier {
            dialer,
            jobs: received,
            is_away: Arc::clone(&is_away),
            epoch: Arc::clone(&epoch),
            script: script::name(HISTORY),
        };
        Ok(Self {
            jobs,
            courier: Mutex::new(Some(courier)),
            is_started: AtomicBool::new(false),
            is_away,
            epoch,
            timeout: settings.timeout,
            counts: Counts::default(),
        })
    }

    /// Whether the store answers, as far as is known: it may not have been asked yet.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.is_away.load(Ordering::Acquire)
    }

    /// Has the connection served from here on, if it is not.
    #[expect(
        clippy::disallowed_methods,
        reason = "it has to be where requests are; a stop ends it with their runtime, and nobody waits for it"
    )]
    fn serve_here(&self) {
        if !self.is_started.swap(true, Ordering::AcqRel)
            && let Some(courier) = self.courier.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            tokio::spawn(courier.run());
        }
    }

    /// Counts connections: what is told on one may not have come when there is another.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// How fetching went.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the store remembers of a conversation, nothing where it is new.
    ///
    /// # Errors
    /// If it does not answer in time.
    pub async fn get(&self, whose: Conversation<'_>) -> Result<Option<Found>, NoAnswer> {
        if !self.is_up() {
            self.counts.unanswered.fetch_add(1, Ordering::Relaxed);
            return Err(NoAnswer);
        }
        self.serve_here();
        let (reply, answered) = oneshot::channel();
        let job = Job::Get { whose: name(whose), reply };
        let found = match self.jobs.try_send(job) {
            Ok(()) => tokio::time::timeout(self.timeout, answered).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        let (count, found) = match found {
            Some(Some(found)) => (&self.counts.found, Ok(Some(found))),
            Some(None) => (&self.counts.new, Ok(None)),
            None => (&self.counts.unanswered, Err(NoAnswer)),
        };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Has the store told of a conversation that has just had a prompt, only that it came again or not unless `is_whole`. Whether it
    /// will be, as far as is known.
    pub fn put(
        &self,
        whose: Conversation<'_>,
        history: &History,
        is_whole: bool,
        rules: u64,
        memory: Duration,
    ) -> bool {
        let history = Box::new(history.clone());
        self.jobs.try_send(Job::Put { whose: name(whose), history, is_whole, rules, memory }).is_ok()
    }

    /// Has the store told that the prompt of that hash got no answer. Whether it will be.
    pub fn unsay(&self, whose: Conversation<'_>, hash: u64) -> bool {
        self.is_up() && self.jobs.try_send(Job::Unsay { whose: name(whose), hash }).is_ok()
    }
}

/// What a conversation is called in the store.
fn name(whose: Conversation<'_>) -> String {
    match whose.user {
        Some(user) => format!("tollgate:history:{}:{user:016x}", whose.key_id),
        None => format!("tollgate:history:{}", whose.key_id),
    }
}

/// Serves the connection.
struct Courier {
    dialer: Dialer,
    jobs: mpsc::Receiver<Job>,
    is_away: Arc<AtomicBool>,
    epoch: Arc<AtomicU64>,
    script: String,
}

/// Who waits for a reply, if anybody does.
type Awaited = Option<oneshot::Sender<Option<Found>>>;

impl Courier {
    /// Works as long as there is the runtime that it is on.
    async fn run(mut self) {
        let mut is_said = false;
        loop {
            let error = match self.dialer.connect().await {
                Ok(link) => {
                    if std::mem::take(&mut is_said) {
                        log::info!("histories: the store is back");
                    }
                    self.epoch.fetch_add(1, Ordering::AcqRel);
                    self.is_away.store(false, Ordering::Release);
                    match self.serve(link).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            self.is_away.store(true, Ordering::Release);
            if !std::mem::replace(&mut is_said, true) {
                log::error!("histories: the store is away: {error}; each gateway goes on with its own");
            }
            // Whoever asked before it was known waits no longer.
            while self.jobs.try_recv().is_ok() {}
            tokio::time::sleep(RETRY).await;
            while self.jobs.try_recv().is_ok() {}
        }
    }

    /// Works until nobody can ask any more.
    async fn serve(&mut self, link: Link) -> Result<(), String> {
        let (mut reader, mut writer) = tokio::io::split(link.stream);
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let mut awaited: VecDeque<Awaited> = VecDeque::new();
        let mut moved = Instant::now();
        let (mut is_unflushed, mut is_refused) = (false, false);
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                job = self.jobs.recv(), if out.len() < MOST_WAITING => {
                    let Some(job) = job else { return Ok(()) };
                    let mut next = Some(job);
                    while let Some(job) = next {
                        if awaited.is_empty() {
                            moved = Instant::now();
                        }
                        awaited.push_back(self.order(job, &mut out));
                        next = if out.len() < MOST_WAITING { self.jobs.try_recv().ok() } else { None };
                    }
                }
                read = reader.read_buf(&mut input) => {
                    match read {
                        Ok(0) => return Err("the connection was closed".to_owned()),
                        Ok(_) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                    while let Some(value) = resp::reply(&mut input)? {
                        let reply = awaited.pop_front().ok_or("a reply that nothing was asked for")?;
                        moved = Instant::now();
                        if let Value::Error(error) = value {
                            if ENDING.iter().any(|code| error.starts_with(code)) {
                                return Err(error);
                            }
                            // Of one conversation, or for want of memory: the others go on.
                            if !std::mem::replace(&mut is_refused, true) {
                                log::warn!("histories: the store refuses: {error}");
                            }
                            continue;
                        }
                        if let Some(reply) = reply {
                            // Who does not wait any longer drops it.
                            drop(reply.send(found(&value)));
                        }
                    }
                }
                sent = send(&mut writer, &mut out, &mut is_unflushed), if is_unflushed || !out.is_empty() => {
                    sent.map_err(|error| error.to_string())?;
                }
                _ = look.tick(), if !awaited.is_empty() => {
                    if moved.elapsed() > LOST {
                        return Err(format!("no answer within {LOST:?}"));
                    }
                }
            }
        }
    }

    fn order(&self, job: Job, out: &mut BytesMut) -> Awaited {
        let mut command = |whose: &str, arguments: &[&[u8]]| {
            let mut words: Vec<&[u8]> = vec![b"EVALSHA", self.script.as_bytes(), b"1", whose.as_bytes()];
            words.extend(arguments);
            resp::command(out, &words);
        };
        match job {
            Job::Get { whose, reply } => {
                command(&whose, &[b"get"]);
                Some(reply)
            }
            Job::Put { whose, history, is_whole, rules, memory } => {
                // Written here, where no request waits and no lock is held.
                let kept = history.keep();
                let rest = if is_whole { kept.rest.as_bytes() } else { b"" };
                let times = kept.times.to_string();
                let hash = format!("{:016x}", kept.last_hash);
                let rules = format!("{rules:016x}");
                let memory = memory.as_millis().to_string();
                let arguments = [
                    b"put".as_slice(),
                    hash.as_bytes(),
                    rest,
                    rules.as_bytes(),
                    memory.as_bytes(),
                    times.as_bytes(),
                ];
                command(&whose, &arguments);
                None
            }
            Job::Unsay { whose, hash } => {
                command(&whose, &[b"unsay", format!("{hash:016x}").as_bytes()]);
                None
            }
        }
    }
}

/// What the script answers to `get`; nothing if that is nothing that it says.
fn found(value: &Value) -> Option<Found> {
    let [hash, times, rest, rules, age] = value.list()? else { return None };
    let hex = |value: &Value| u64::from_str_radix(value.text()?, 16).ok();
    Some(Found {
        kept: Kept {
            last_hash: hex(hash)?,
            times: u32::try_from(times.number()?).unwrap_or(0),
            rest: rest.text()?.to_owned(),
        },
        rules: hex(rules)?,
        age: Duration::from_millis(u64::try_from(age.number()?).unwrap_or(0)),
    })
}
