//! A scripted inference server over raw TCP (HTTP/1.1). It keeps every request byte it was sent, answers as it
//! is told, and notes when the gateway left it, which is how cancellation is measured.
//!
//! `GET` is taken for a health check and answered without being recorded: the gateway answers every other `GET`
//! of its clients itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::script::{self, Step};
use super::wire::{Framing, Head, Wire};
use super::within;

/// A request as the server got it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    /// Counts the connections of this server.
    pub(crate) connection: usize,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the gateway sends JSON")
    }
}

/// How the answer to one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The script was played to its end.
    Played,
    /// The gateway closed the connection before that.
    Abandoned(Instant),
}

type Answering = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

struct Shared {
    answering: Mutex<Answering>,
    seen: Mutex<Vec<Seen>>,
    endings: Mutex<Vec<Ending>>,
    connections: AtomicUsize,
    probes: AtomicUsize,
    is_healthy: AtomicBool,
    /// Steps up with every change of the above, so that tests wait for events.
    changes: watch::Sender<u64>,
}

/// A running server. Stops when dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Upstream {
    /// A server that answers every request with what `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            answering: Mutex::new(Arc::new(answer)),
            seen: Mutex::default(),
            endings: Mutex::default(),
            connections: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            is_healthy: AtomicBool::new(true),
            changes: watch::channel(0).0,
        });
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, Arc::clone(&shared)))));
        Self { address, shared, accepting }
    }

    /// A server that plays the same script for every request.
    pub(crate) async fn playing(script: Vec<Step>) -> Self {
        Self::start(move |_| script.clone()).await
    }

    /// A server that gives a chat completion or, when asked for a stream, a short chat stream with usage, in the
    /// name of the model it was asked for.
    pub(crate) async fn chatting() -> Self {
        Self::start(|seen| {
            // A body that is JSON to us need not be JSON to serde, which refuses lone surrogates.
            let asked: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            let model = asked["model"].as_str().unwrap_or("none").to_owned();
            if asked["stream"] == Value::Bool(true) {
                script::stream(&script::chat_events(&model, &["one ", "two ", "three"], Some((7, 3))))
            } else {
                script::chat(&model)
            }
        })
        .await
    }

    /// Answers differently from now on.
    pub(crate) fn answer_with(&self, answer: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) {
        *lock(&self.shared.answering) = Arc::new(answer);
    }

    /// What health checks are told from now on.
    pub(crate) fn set_healthy(&self, is_healthy: bool) {
        self.shared.is_healthy.store(is_healthy, Ordering::SeqCst);
    }

    /// Stops listening and cuts every connection, like a server that was killed.
    pub(crate) async fn kill(&self) {
        let task = lock(&self.accepting).take();
        if let Some(task) = task {
            task.abort();
            drop(task.await);
        }
    }

    /// Listens again at the same address.
    pub(crate) async fn revive(&self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still ours");
        *lock(&self.accepting) = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        lock(&self.shared.seen).len()
    }

    /// How many connections were opened so far, those of health checks included.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many health checks came so far.
    pub(crate) fn probes(&self) -> usize {
        self.shared.probes.load(Ordering::SeqCst)
    }

    /// Waits for the `count`th request and gives it.
    pub(crate) async fn request(&self, count: usize) -> Seen {
        self.until(&format!("request {count} at the server"), |shared| {
            lock(&shared.seen).get(count - 1).cloned()
        })
        .await
    }

    /// Waits until the answer to some request has ended for the `count`th time, and says how.
    pub(crate) async fn ending(&self, count: usize) -> Ending {
        self.until(&format!("answer {count} of the server to end"), |shared| {
            lock(&shared.endings).get(count - 1).copied()
        })
        .await
    }

    /// Waits for `more` health checks from now on.
    pub(crate) async fn more_probes(&self, more: usize) {
        let goal = self.probes() + more;
        let reached = |shared: &Shared| (shared.probes.load(Ordering::SeqCst) >= goal).then_some(());
        self.until(&format!("{more} health checks"), reached).await;
    }

    async fn until<T>(&self, what: &str, mut found: impl FnMut(&Shared) -> Option<T>) -> T {
        let mut changes = self.shared.changes.subscribe();
        within(what, async {
            loop {
                if let Some(value) = found(&self.shared) {
                    return value;
                }
                changes.changed().await.expect("the sender lives in self");
            }
        })
        .await
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.accepting).take() {
            task.abort();
        }
    }
}

impl Shared {
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.changed();
        connections.spawn(serve(stream, number, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut wire = Wire::new(stream);
    while let Ok(Some(head)) = wire.head().await {
        if head.request_line().0 == "GET" {
            shared.probes.fetch_add(1, Ordering::SeqCst);
            shared.changed();
            let status = if shared.is_healthy.load(Ordering::SeqCst) { 200 } else { 503 };
            let answer = [script::head(status, "application/json", 2), b"{}".to_vec()].concat();
            if wire.io.write_all(&answer).await.is_err() {
                return;
            }
            continue;
        }
        let Ok(body) = read_body(&mut wire, head.framing()).await else { return };
        let seen = Seen { framing: head.framing(), head, body, connection };
        let answering = Arc::clone(&lock(&shared.answering));
        lock(&shared.seen).push(seen.clone());
        shared.changed();
        let played = play(&mut wire, answering(&seen)).await;
        let (ending, goes_on) = match played {
            Played::Out => (Ending::Played, true),
            Played::Closed => (Ending::Played, false),
            Played::Abandoned => (Ending::Abandoned(Instant::now()), false),
        };
        lock(&shared.endings).push(ending);
        shared.changed();
        if !goes_on {
            return;
        }
    }
}

async fn read_body(wire: &mut Wire<TcpStream>, framing: Framing) -> std::io::Result<Vec<u8>> {
    match framing {
        Framing::Absent => Ok(Vec::new()),
        Framing::Length(length) => wire.exact(length).await,
        Framing::Chunked => {
            let mut body = Vec::new();
            while let Some(chunk) = wire.chunk().await? {
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        }
    }
}

enum Played {
    Out,
    Closed,
    Abandoned,
}

async fn play(wire: &mut Wire<TcpStream>, script: Vec<Step>) -> Played {
    for step in script {
        let is_over = match step {
            Step::Send(bytes) => wire.io.write_all(&bytes).await.is_err(),
            Step::Pause(time) => is_left(wire, tokio::time::sleep(time)).await,
            Step::Gate(gate) => {
                let permit = async { gate.acquire().await.expect("gates are never closed").forget() };
                is_left(wire, permit).await
            }
            Step::Hang => is_left(wire, std::future::pending()).await,
            Step::Close => return Played::Closed,
            Step::Reset => {
                wire.io.set_zero_linger().expect("a TCP socket can linger");
                return Played::Closed;
            }
        };
        if is_over {
            return Played::Abandoned;
        }
    }
    Played::Out
}

/// Whether the gateway left before `event` happened.
async fn is_left(wire: &mut Wire<TcpStream>, event: impl Future<Output = ()>) -> bool {
    tokio::pin!(event);
    loop {
        tokio::select! {
            () = &mut event => return false,
            read = wire.fill() => if !matches!(read, Ok(1..)) { return true },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
