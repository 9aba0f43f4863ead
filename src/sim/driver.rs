//! The task that owns one server's engine: it holds the clock, takes commands, and wakes whoever waits for
//! a token. One task an instance, so the scheduler needs no lock.
//!
//! Tokens are not sent through a queue: the driver raises a counter that the request reads. A client that
//! reads slowly therefore costs no memory, and finds all its tokens ready when it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::engine::{Engine, Job, Profile, Prompt, QueueFull, Stats};

/// What the driver can be asked.
#[derive(Debug)]
pub(super) enum Command {
    /// Queue sequences; answers the id of the first.
    Submit(Vec<Job<Arc<Progress>>>, oneshot::Sender<Result<u64, QueueFull>>),
    /// Take sequences out: first id and how many.
    Cancel(u64, u64),
    /// Stretch time.
    Slowdown(f64),
    /// What is going on.
    Stats(oneshot::Sender<Stats>),
}

/// How far one sequence is. Written by the driver, read by the request.
#[derive(Debug)]
pub(super) struct Progress {
    produced: AtomicU32,
    cached: AtomicU32,
    is_finished: AtomicBool,
    wake: Arc<Notify>,
}

impl Progress {
    /// Tokens answered so far.
    pub(super) fn produced(&self) -> u32 {
        self.produced.load(Ordering::Acquire)
    }

    /// Prompt tokens found in the prefix cache; settled once a token is there.
    pub(super) fn cached(&self) -> u32 {
        self.cached.load(Ordering::Acquire)
    }

    /// Nothing more will come.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished.load(Ordering::Acquire)
    }
}

/// The sequences of one request in the engine. Dropped early, they are cancelled.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) sequences: Vec<Arc<Progress>>,
    wake: Arc<Notify>,
    first: u64,
    engine: EngineHandle,
}

impl Flight {
    /// Returns once any sequence has moved since the last call.
    pub(super) async fn moved(&self) {
        self.wake.notified().await;
    }

    /// Whether every sequence has finished.
    pub(super) fn is_finished(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.is_finished())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.is_finished() {
            // A driver that is gone has nothing left to cancel.
            let _ = self.engine.0.send(Command::Cancel(self.first, self.sequences.len() as u64));
        }
    }
}

/// Why a request could not be queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotQueued {
    Full,
    /// The server is stopping.
    Stopped,
}

/// The way to one driver. Clones share it; the driver ends with the last.
#[derive(Debug, Clone)]
pub(super) struct EngineHandle(mpsc::UnboundedSender<Command>);

impl EngineHandle {
    /// A handle, and the other end for [`drive`].
    #[expect(
        clippy::disallowed_methods,
        reason = "at most a few commands a request, and a request has one in work: bounded by the connections"
    )]
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Queues one sequence for each prompt and answer length.
    ///
    /// # Errors
    /// [`NotQueued`]; nothing runs then.
    pub(super) async fn submit(&self, wanted: Vec<(Prompt, u32)>) -> Result<Flight, NotQueued> {
        let wake = Arc::new(Notify::new());
        let sequences: Vec<_> = wanted
            .iter()
            .map(|_| {
                Arc::new(Progress {
                    produced: AtomicU32::new(0),
                    cached: AtomicU32::new(0),
                    is_finished: AtomicBool::new(false),
                    wake: Arc::clone(&wake),
                })
            })
            .collect();
        let jobs = wanted.into_iter().zip(&sequences);
        let jobs = jobs
            .map(|((prompt, output), holder)| Job { prompt, output, holder: Arc::clone(holder) })
            .collect();
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Submit(jobs, reply)).map_err(|_| NotQueued::Stopped)?;
        match answer.await {
            Ok(Ok(first)) => Ok(Flight { sequences, wake, first, engine: self.clone() }),
            Ok(Err(QueueFull)) => Err(NotQueued::Full),
            Err(_) => Err(NotQueued::Stopped),
        }
    }

    /// Stretches time.
    pub(super) fn set_slowdown(&self, factor: f64) {
        let _ = self.0.send(Command::Slowdown(factor));
    }

    /// What is going on; nothing at all once the driver has stopped.
    pub(super) async fn stats(&self) -> Stats {
        let (reply, answer) = oneshot::channel();
        if self.0.send(Command::Stats(reply)).is_err() {
            return Stats::default();
        }
        answer.await.unwrap_or_default()
    }
}

/// Runs an engine until the last handle is gone.
pub(super) async fn drive(profile: Profile, mut commands: mpsc::UnboundedReceiver<Command>) {
    let born = Instant::now();
    let mut engine = Engine::new(profile);
    loop {
        while let Ok(command) = commands.try_recv() {
            apply(&mut engine, born, command);
        }
        let next = engine.poll(born.elapsed(), |progress, emission| {
            progress.cached.store(emission.cached, Ordering::Release);
            progress.produced.store(emission.produced, Ordering::Release);
            progress.is_finished.store(emission.is_finished, Ordering::Release);
            progress.wake.notify_one();
        });
        let command = match next {
            None => commands.recv().await,
            Some(due) if due <= born.elapsed() => {
                // Without waiting (time scale 0) the engine must still let its readers run.
                tokio::task::yield_now().await;
                continue;
            }
            Some(due) => tokio::select! {
                biased;
                command = commands.recv() => command,
                () = sleep_until(born + due) => continue,
            },
        };
        match command {
            Some(command) => apply(&mut engine, born, command),
            None => return,
        }
    }
}

fn apply(engine: &mut Engine<Arc<Progress>>, born: Instant, command: Command) {
    match command {
        Command::Submit(jobs, reply) => {
            let count = jobs.len() as u64;
            let outcome = engine.submit(born.elapsed(), jobs);
            if let Err(Ok(first)) = reply.send(outcome) {
                // The client left before it knew its number.
                cancel(engine, first, count);
            }
        }
        Command::Cancel(first, count) => cancel(engine, first, count),
        Command::Slowdown(factor) => engine.set_slowdown(born.elapsed(), factor),
        Command::Stats(reply) => {
            let _ = reply.send(engine.stats());
        }
    }
}

fn cancel(engine: &mut Engine<Arc<Progress>>, first: u64, count: u64) {
    for id in first..first + count {
        engine.cancel(id);
    }
}
