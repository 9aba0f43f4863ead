//! Carries orders to the store and grants back: one thread, one connection, commands one behind the other. Beside what
//! requests ask it tells every 50 ms what has changed, and twice a second that this gateway is there.
//!
//! Once the store has answered nothing for `limits.shared.timeout_ms` no request waits any more until it answers. If it does
//! within a second nothing is lost: what comes too late is given back. If not, the connection ends: what was on its way may
//! have happened or not. Each connection therefore has an epoch of its own and begins with saying in
//! whole what is held; what the store reads later out of an older one it ignores. Orders that were made before that are
//! not sent after it: what they tell has been said already.
//!
//! A store that was started empty, was emptied, or is another one has another memory, which it names itself. Every order
//! carries the name of the memory that this gateway has told everything; a store with another one does nothing. The
//! gateway then asks the ledger what every life of every gateway has used, tells it beside what it holds itself, and
//! until that is done requests go on as with the store away. So do they for another second where there are other gateways:
//! each notices within that, and what they hold is known before anybody is given anything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tollgate_filters::request::quota::shared::{EXPIRY, Entry, Grant, Order, Reply, ScopeRef};

use super::link::{Dialer, Link};
use super::resp::{self, Value};
use super::script::{self, Answer, Presence};
use super::shared::{Board, Job};

/// How often the store is told what has changed.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// How often the store hears that this gateway is there; also how soon a store that is away is noticed without requests.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// How long a store may answer nothing before the connection is given up.
const LOST: Duration = Duration::from_secs(1);
/// The wait before connecting again.
const RETRY: Duration = Duration::from_millis(100);
/// Commands of our own that are under way at a time: what requests ask stands behind no more than these.
const AHEAD: usize = 64;
/// What requests ask that is under way at a time. The rest waits here, and is answered here where the store has just
/// refused as much: a flood of requests that have no room is not passed on to the store.
const WINDOW: usize = 16;
/// How long a stop waits for the store to take back what is held.
const LEAVE: Duration = Duration::from_millis(500);

/// How long a memory of the store is let alone after its begin where there are several gateways: all of them notice
/// within [`BEAT_EVERY`], and tell what they hold.
const SETTLE: Duration = Duration::from_secs(1);
/// How often what is held is said again while the ledger is waited for; the store takes it back after `EXPIRY`.
const AGAIN: Duration = Duration::from_secs(2);
/// For how long the store remembers its memory's name while no gateway is there: longer than any budget.
const REMEMBER: Duration = Duration::from_secs(40 * 86_400);

/// The set of gateways.
const GATEWAYS: &str = "tollgate:gateways";
/// What tells one memory of the store from others.
const MEMORY: &str = "tollgate:memory";

/// The thread's own.
pub(super) struct Courier {
    board: Arc<Board>,
    dialer: Dialer,
    jobs: mpsc::Receiver<Job>,
    stop: oneshot::Receiver<()>,
    names: [String; 2],
    epoch: u64,
    beats: u64,
    /// The memory of the store that has been told everything.
    taught: Option<String>,
    /// Whether the log says that the store is away, or slow.
    is_said: bool,
    is_paused: bool,
    /// When the store was last told anew.
    told_anew: Option<Instant>,
}

/// Why a connection ended.
enum End {
    /// The gateway stops.
    Stop,
    /// It broke, or the store was too slow or refused.
    Away(String),
    /// The store does not know what this gateway holds, or has not been told all of it, or has forgotten it.
    Anew,
}

/// A command whose reply is awaited.
enum Awaited {
    Order(Order, Option<oneshot::Sender<Grant>>),
    Beat,
}

/// What is under way on one connection.
struct Traffic {
    out: BytesMut,
    awaited: VecDeque<Awaited>,
    /// When the store last answered, or was asked something after it had answered all.
    moved: Instant,
    /// What requests ask that is not under way yet, and how much is.
    waiting: VecDeque<Job>,
    asked: usize,
    /// Scopes that are to be told about.
    to_tell: Vec<ScopeRef>,
    /// Until the store knows what is held, each is told about in whole.
    is_greeting: bool,
    /// What the store's memory is called, and since when there is it.
    memory: Option<(String, Instant)>,
    /// The reading of the ledger that the store has to be told of, and the one when scopes were last listed; and when
    /// that was.
    needed: u64,
    listed: u64,
    listed_at: Instant,
    /// Whether the log says that the ledger is waited for.
    is_waiting_said: bool,
}

impl Traffic {
    fn push(&mut self, awaited: Awaited) {
        if self.awaited.is_empty() {
            self.moved = Instant::now();
        }
        self.awaited.push_back(awaited);
    }
}

impl Courier {
    pub(super) fn new(
        board: Arc<Board>,
        dialer: Dialer,
        jobs: mpsc::Receiver<Job>,
        stop: oneshot::Receiver<()>,
    ) -> Self {
        let names = [script::name(script::LIMITS), script::name(script::PRESENCE)];
        Self {
            board,
            dialer,
            jobs,
            stop,
            names,
            epoch: 0,
            beats: 0,
            taught: None,
            is_said: false,
            is_paused: false,
            told_anew: None,
        }
    }

    /// Works until it is told to stop.
    pub(super) async fn run(mut self) {
        loop {
            let connected = tokio::select! {
                connected = self.dialer.connect() => connected,
                _ = &mut self.stop => return,
            };
            let end = match connected {
                Ok(link) => self.serve(link).await,
                Err(error) => End::Away(error),
            };
            self.board.is_up.store(false, Ordering::Release);
            let wait = match end {
                End::Stop => return,
                End::Anew => {
                    log::warn!("limits: the store is told anew what this gateway holds");
                    let before = self.told_anew.replace(Instant::now());
                    // A store that throws away what it is told is not told in a circle.
                    if before.is_some_and(|before| before.elapsed() < LOST) { RETRY } else { Duration::ZERO }
                }
                End::Away(error) => {
                    self.board.errors.fetch_add(1, Ordering::Relaxed);
                    if !std::mem::replace(&mut self.is_said, true) {
                        log::error!("limits: the store is away: {error}; it is tried again");
                    }
                    RETRY
                }
            };
            self.board.note_try();
            let waited = tokio::time::sleep(wait);
            tokio::pin!(waited);
            loop {
                tokio::select! {
                    () = &mut waited => break,
                    // Whoever asked before it was known waits no longer.
                    job = self.jobs.recv() => drop(job),
                    _ = &mut self.stop => return,
                }
            }
        }
    }

    async fn serve(&mut self, link: Link) -> End {
        self.epoch += 1;
        self.board.begin_epoch(self.epoch);
        let mut traffic = Traffic {
            out: BytesMut::new(),
            awaited: VecDeque::new(),
            moved: Instant::now(),
            waiting: VecDeque::new(),
            asked: 0,
            to_tell: Vec::new(),
            is_greeting: true,
            memory: None,
            needed: 0,
            listed: 0,
            listed_at: Instant::now(),
            is_waiting_said: false,
        };
        self.beat(&mut traffic, false);
        let (mut reader, mut writer) = tokio::io::split(link.stream);
        let mut input = BytesMut::new();
        let (mut tell, mut beat) = (tokio::time::interval(TELL_EVERY), tokio::time::interval(BEAT_EVERY));
        tell.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_unflushed = false;
        loop {
            self.ask(&mut traffic);
            self.tell(&mut traffic, Duration::ZERO);
            tokio::select! {
                job = self.jobs.recv() => {
                    let mut next = job;
                    if next.is_none() {
                        return End::Stop;
                    }
                    while let Some(job) = next {
                        if job.epoch != self.epoch {
                            return End::Anew;
                        }
                        traffic.waiting.push_back(job);
                        next = self.jobs.try_recv().ok();
                    }
                }
                read = reader.read_buf(&mut input) => {
                    match read {
                        Ok(0) => return End::Away("the connection was closed".to_owned()),
                        Ok(_) => {}
                        Err(error) => return End::Away(error.to_string()),
                    }
                    if let Err(end) = self.replies(&mut traffic, &mut input) {
                        return end;
                    }
                }
                sent = send(&mut writer, &mut traffic.out, &mut is_unflushed),
                    if is_unflushed || !traffic.out.is_empty() =>
                {
                    if let Err(error) = sent {
                        return End::Away(error.to_string());
                    }
                }
                _ = tell.tick() => {
                    let patience = self.board.settings.timeout;
                    let silence = if traffic.awaited.is_empty() { Duration::ZERO } else { traffic.moved.elapsed() };
                    if silence > LOST.max(patience) {
                        return End::Away(format!("no answer within {:?}", LOST.max(patience)));
                    }
                    if silence > patience {
                        self.pause(patience);
                    }
                    if self.board.is_lost.load(Ordering::Relaxed) {
                        return End::Anew;
                    }
                    if traffic.is_greeting {
                        self.greet(&mut traffic);
                    } else if traffic.to_tell.is_empty() {
                        traffic.to_tell = self.board.scopes();
                    }
                }
                _ = beat.tick() => self.beat(&mut traffic, false),
                _ = &mut self.stop => {
                    // All that lies ready goes back, as if nobody had wanted it for long.
                    traffic.to_tell = self.board.scopes();
                    let leave = async {
                        self.beat(&mut traffic, true);
                        while !traffic.awaited.is_empty() {
                            self.tell(&mut traffic, Duration::from_secs(3600));
                            writer.write_all_buf(&mut traffic.out).await?;
                            writer.flush().await?;
                            let read = reader.read_buf(&mut input).await?;
                            if read == 0 || self.replies(&mut traffic, &mut input).is_err() {
                                break;
                            }
                        }
                        std::io::Result::Ok(())
                    };
                    // Otherwise the store takes it back by itself, a little later.
                    let _ = tokio::time::timeout(LEAVE, leave).await;
                    return End::Stop;
                }
            }
        }
    }

    fn replies(&mut self, traffic: &mut Traffic, input: &mut BytesMut) -> Result<(), End> {
        while let Some(value) = resp::reply(input).map_err(End::Away)? {
            let unasked = || End::Away("a reply that nothing was asked for".to_owned());
            let awaited = traffic.awaited.pop_front().ok_or_else(unasked)?;
            traffic.moved = Instant::now();
            if let Value::Error(error) = value {
                return Err(End::Away(error));
            }
            let said = || End::Away("a reply of another kind".to_owned());
            match awaited {
                Awaited::Beat => {
                    let presence = script::presence(&value).ok_or_else(said)?;
                    self.board.note_time(presence.now);
                    self.board.note_gateways(presence.count);
                    self.meet(traffic, presence)?;
                }
                Awaited::Order(order, reply) => match script::answer(&order, &value).ok_or_else(said)? {
                    Answer::SayAnew => return Err(End::Anew),
                    Answer::Reply(answer) => {
                        if reply.is_some() {
                            traffic.asked -= 1;
                        }
                        if !answer.is_granted {
                            self.refuse_like(traffic, &order, &answer);
                        }
                        let is_last = order.entries.first().is_some_and(|entry| entry.tell.is_last);
                        let scope = order.entries.first().map(|entry| entry.scope.clone());
                        let grant = Grant::new(order, answer, self.board.now());
                        match (reply, scope) {
                            // Who does not wait any longer drops it, and it goes back.
                            (Some(reply), _) => drop(reply.send(grant)),
                            (None, Some(scope)) if is_last => self.board.close(&scope),
                            (None, _) => {}
                        }
                    }
                },
            }
        }
        if traffic.is_greeting {
            self.greet(traffic);
        } else if !self.board.is_up.load(Ordering::Relaxed) {
            self.begin();
        }
        Ok(())
    }

    /// Notes which memory the store has, and what it has to be told before it is asked.
    fn meet(&mut self, traffic: &mut Traffic, presence: Presence) -> Result<(), End> {
        let Presence { memory, age, is_told, .. } = presence;
        match &traffic.memory {
            Some((known, _)) if *known == memory => return Ok(()),
            Some(_) => return Err(End::Anew),
            None => {}
        }
        traffic.needed = match (self.board.readings(), &self.taught) {
            (None, _) => 0,
            (_, Some(taught)) if *taught == memory => 0,
            // This gateway has told no store anything yet, and forgotten nothing of its own: what the ledger had at its
            // start is enough, and told whenever it comes where others have told the same.
            (_, None) => u64::from(!is_told),
            (Some(readings), Some(_)) => {
                self.board.read_ledger();
                readings + 1
            }
        };
        if self.taught.as_ref().is_some_and(|taught| *taught != memory) {
            log::warn!(
                "limits: the store has forgotten what it was told; gateways and the ledger tell it anew"
            );
        }
        let now = Instant::now();
        traffic.memory = Some((memory, now.checked_sub(age).unwrap_or(now)));
        self.list(traffic);
        Ok(())
    }

    fn list(&self, traffic: &mut Traffic) {
        // In this order: what a reading that ends now has noted is listed the next time.
        traffic.listed = self.board.readings().unwrap_or(0);
        traffic.listed_at = Instant::now();
        traffic.to_tell = self.board.scopes();
    }

    /// Ends the greeting once the store knows everything.
    fn greet(&mut self, traffic: &mut Traffic) {
        if !traffic.to_tell.is_empty() || !traffic.awaited.is_empty() {
            return;
        }
        let Some((memory, born)) = traffic.memory.clone() else { return };
        if traffic.listed < traffic.needed {
            let is_read = self.board.readings().is_some_and(|readings| readings >= traffic.needed);
            if !is_read && traffic.listed_at.elapsed() >= AGAIN && !traffic.is_waiting_said {
                traffic.is_waiting_said = true;
                log::warn!(
                    "limits: the store has to be told what the ledger knows, which does not answer yet"
                );
            }
            if is_read || traffic.listed_at.elapsed() >= AGAIN {
                self.list(traffic);
            }
            if !traffic.to_tell.is_empty() {
                return;
            }
            if traffic.listed < traffic.needed {
                return;
            }
        }
        if self.board.gateways() > 1 && born.elapsed() < SETTLE {
            return;
        }
        self.taught = Some(memory);
        traffic.is_greeting = false;
        self.begin();
    }

    /// The store is slow: requests do without it until it answers.
    fn pause(&mut self, patience: Duration) {
        if self.board.is_up.swap(false, Ordering::AcqRel) {
            self.board.errors.fetch_add(1, Ordering::Relaxed);
            self.is_paused = true;
            log::warn!(
                "limits: the store has answered nothing for {patience:?}; requests do not wait for it"
            );
        }
    }

    /// The store knows what is held, and answers: requests may ask.
    fn begin(&mut self) {
        let was_said = std::mem::replace(&mut self.is_said, false);
        if std::mem::replace(&mut self.is_paused, false) || was_said {
            log::info!("limits: the store is back");
        }
        self.board.is_up.store(true, Ordering::Release);
        self.board.note_try();
    }

    /// Sends the next of what requests ask.
    fn ask(&mut self, traffic: &mut Traffic) {
        while traffic.asked < WINDOW
            && let Some(Job { order, reply, .. }) = traffic.waiting.pop_front()
        {
            if reply.is_closed() {
                self.tell_only(traffic, &order);
            } else {
                traffic.asked += 1;
                self.order(traffic, order, Some(reply));
            }
        }
    }

    /// Answers those who wait for as much as the store has just refused.
    fn refuse_like(&mut self, traffic: &mut Traffic, refused: &Order, reply: &Reply) {
        for job in std::mem::take(&mut traffic.waiting) {
            match job.order.refused_like(refused, reply) {
                None => traffic.waiting.push_back(job),
                Some(like) => {
                    self.tell_only(traffic, &job.order);
                    drop(job.reply.send(Grant::unsent(job.order, like, self.board.now())));
                }
            }
        }
    }

    /// Says what an order would have told that is not sent.
    fn tell_only(&mut self, traffic: &mut Traffic, order: &Order) {
        if let Some(tells) = order.tells() {
            self.order(traffic, tells, None);
        }
    }

    fn order(&mut self, traffic: &mut Traffic, order: Order, reply: Option<oneshot::Sender<Grant>>) {
        let keys = (order.entries.len() + 1).to_string();
        let memory = traffic.memory.as_ref().map_or("", |(memory, _)| memory);
        let arguments = script::arguments(&order, memory, &self.board.gateway, self.epoch);
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", self.names[0].as_bytes(), keys.as_bytes()];
        words.extend(order.entries.iter().map(|entry| entry.scope.name().as_bytes()));
        words.extend([MEMORY.as_bytes(), arguments.as_bytes()]);
        resp::command(&mut traffic.out, &words);
        self.board.trips.fetch_add(1, Ordering::Relaxed);
        traffic.push(Awaited::Order(order, reply));
    }

    /// Tells about the next scopes of which there is something to tell, `later` than now.
    fn tell(&mut self, traffic: &mut Traffic, later: Duration) {
        if traffic.to_tell.is_empty() || traffic.memory.is_none() {
            return;
        }
        let mut clock = self.board.clock();
        clock.now += later;
        while traffic.awaited.len() < AHEAD
            && let Some(scope) = traffic.to_tell.pop()
        {
            if let Some(tell) = scope.tell(clock, traffic.is_greeting) {
                let entries = vec![Entry { scope, tell, items: Vec::new() }];
                self.order(traffic, Order { entries, output: 0, least_output: 0 }, None);
            }
        }
    }

    fn beat(&mut self, traffic: &mut Traffic, is_leaving: bool) {
        let expiry = EXPIRY.as_millis().to_string();
        let leaves: &[u8] = if is_leaving { b"1" } else { b"0" };
        self.beats += 1;
        let new_memory = format!("{}-{}", self.board.gateway, self.beats);
        let remember = REMEMBER.as_millis().to_string();
        let words: [&[u8]; 11] = [
            b"EVALSHA",
            self.names[1].as_bytes(),
            b"2",
            GATEWAYS.as_bytes(),
            MEMORY.as_bytes(),
            self.board.gateway.as_bytes(),
            expiry.as_bytes(),
            leaves,
            new_memory.as_bytes(),
            self.taught.as_deref().unwrap_or("").as_bytes(),
            remember.as_bytes(),
        ];
        resp::command(&mut traffic.out, &words);
        self.board.trips.fetch_add(1, Ordering::Relaxed);
        traffic.push(Awaited::Beat);
    }
}

/// One step of sending; what has been written stays written when this is dropped.
pub(crate) async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    out: &mut BytesMut,
    is_unflushed: &mut bool,
) -> std::io::Result<()> {
    if out.is_empty() {
        writer.flush().await?;
        *is_unflushed = false;
    } else {
        writer.write_buf(out).await?;
        *is_unflushed = true;
    }
    Ok(())
}
