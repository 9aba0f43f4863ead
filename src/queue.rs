//! Requests that wait for a place on a server: all that may serve them are full. A place that becomes free is handed to
//! the next that can use it, under the lock, so that no newcomer takes it away; one that leaves gives up its turn at once.
//!
//! A request that finds a free server and nobody waiting touches no lock here.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tollgate_filters::request::upstream::balance::{NoServer, Place};
use tollgate_filters::request::upstream::queue::{FairQueue, Ticket};

use crate::metrics::QueueMetrics;
use crate::state::Stages;

/// All that wait.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<FairQueue<Waiter>>,
    /// How many, for those who only want to know whether anybody does.
    count: AtomicUsize,
    metrics: QueueMetrics,
    /// When the process started.
    origin: Instant,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The configuration that the request arrived with.
    pub stages: Arc<Stages>,
    /// Position of its model in the catalogue.
    pub model: usize,
    /// Servers that it has tried.
    pub tried: Vec<usize>,
    /// Who pays.
    pub tenant: Arc<str>,
    /// The priority of its tier.
    pub class: u8,
}

#[derive(Debug)]
struct Waiter {
    wish: Wish,
    hand: oneshot::Sender<Seat>,
}

/// A place on a server, which goes to the next that waits when this is dropped.
#[derive(Debug)]
pub struct Seat {
    place: Option<Place>,
    queue: Arc<Queue>,
}

/// A turn that is waited for.
#[derive(Debug)]
pub struct Turn {
    ticket: Ticket,
    class: u8,
    since: Instant,
    hand: oneshot::Receiver<Seat>,
    queue: Arc<Queue>,
    outcome: &'static str,
}

/// What a request gets.
#[derive(Debug)]
pub enum Found {
    /// A place at once.
    Seat(Seat),
    /// A turn in the queue.
    Turn(Turn),
    /// Nothing: no server is up, or the queue has no room for it.
    Nothing(NoServer),
}

impl Queue {
    /// An empty queue of a process that started at `origin`.
    #[must_use]
    pub fn new(metrics: QueueMetrics, origin: Instant) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), count: AtomicUsize::new(0), metrics, origin })
    }

    /// A place on a server for `wish`, or a turn in the queue.
    pub fn find(self: &Arc<Self>, wish: Wish) -> Found {
        if self.count.load(Ordering::Relaxed) == 0 {
            match self.pick(&wish) {
                Err(NoServer::AllFull) => {}
                found => return self.found(found),
            }
        }
        let room = wish.stages.settings.queue.length;
        let class = wish.class;
        let mut shed = None;
        let mut waiting = self.lock();
        // Said before the servers are looked at, and read after one has become free: one of the two sees the other.
        self.count.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Somebody who waits may want this model too, and was here before.
        let is_awaited = waiting.any(|waiter| waiter.wish.wants_same(&wish));
        let picked = if is_awaited { Err(NoServer::AllFull) } else { self.pick(&wish) };
        let found = match picked {
            Err(NoServer::AllFull) if room > 0 => {
                let tenant = Arc::clone(&wish.tenant);
                let (hand, receiver) = oneshot::channel();
                match waiting.push(class, &tenant, Waiter { wish, hand }, room) {
                    Ok((ticket, gone)) => {
                        shed = gone;
                        Found::Turn(Turn {
                            ticket,
                            class,
                            since: Instant::now(),
                            hand: receiver,
                            queue: Arc::clone(self),
                            outcome: "left",
                        })
                    }
                    Err(_) => {
                        self.metrics.observe(class, "full", Duration::ZERO);
                        Found::Nothing(NoServer::AllFull)
                    }
                }
            }
            picked => self.found(picked),
        };
        self.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        // Its request learns of it as its sender is dropped.
        drop(shed);
        found
    }

    /// Hands places that are free to those who wait for them. Called when one becomes free, and from time to time for
    /// servers that come up again.
    pub fn dispatch(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut waiting = self.lock();
        let mut served = Vec::new();
        loop {
            // Models without a free server are not looked at again.
            let mut full: Vec<(usize, usize)> = Vec::new();
            let taken = waiting.take(|waiter| {
                let model = (Arc::as_ptr(&waiter.wish.stages).addr(), waiter.wish.model);
                if waiter.wish.tried.is_empty() && full.contains(&model) {
                    return None;
                }
                let place = self.pick(&waiter.wish).ok();
                if place.is_none() && waiter.wish.tried.is_empty() {
                    full.push(model);
                }
                place
            });
            match taken {
                Some((waiter, place)) => served.push((waiter.hand, self.seat(place))),
                None => break,
            }
        }
        self.count.store(waiting.len(), Ordering::Relaxed);
        drop(waiting);
        for (hand, seat) in served {
            // One that has just left: the place goes on to the next as it is dropped, which takes the lock again.
            drop(hand.send(seat));
        }
    }

    /// How many wait in each class.
    #[must_use]
    pub fn depth(&self, class: u8) -> usize {
        self.lock().waiting(class)
    }

    fn pick(&self, wish: &Wish) -> Result<Place, NoServer> {
        wish.stages.models[wish.model].route.pick(&wish.tried, self.origin.elapsed())
    }

    fn found(self: &Arc<Self>, picked: Result<Place, NoServer>) -> Found {
        match picked {
            Ok(place) => Found::Seat(self.seat(place)),
            Err(none) => Found::Nothing(none),
        }
    }

    fn seat(self: &Arc<Self>, place: Place) -> Seat {
        Seat { place: Some(place), queue: Arc::clone(self) }
    }

    fn lock(&self) -> MutexGuard<'_, FairQueue<Waiter>> {
        // Nothing panics between two changes that belong together.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wish {
    fn wants_same(&self, other: &Self) -> bool {
        self.model == other.model && Arc::ptr_eq(&self.stages, &other.stages)
    }
}

impl Seat {
    /// Position of the candidate in its route, and of the server in the gateway's list.
    #[must_use]
    pub fn position(&self) -> (usize, usize) {
        let place = self.place.as_ref().expect("it is there until the drop");
        (place.candidate, place.server)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.place.take());
        self.queue.dispatch();
    }
}

impl Turn {
    /// Waits for the place; `None` if the request was shed.
    pub async fn wait(&mut self) -> Option<Seat> {
        let seat = (&mut self.hand).await.ok();
        self.outcome = if seat.is_some() { "served" } else { "full" };
        seat
    }

    /// Notes that the wait has become too long.
    pub fn expire(&mut self) {
        self.outcome = "deadline";
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let removed = {
            let mut waiting = self.queue.lock();
            let removed = waiting.remove(self.ticket);
            self.queue.count.store(waiting.len(), Ordering::Relaxed);
            removed
        };
        drop(removed);
        self.queue.metrics.observe(self.class, self.outcome, self.since.elapsed());
    }
}
