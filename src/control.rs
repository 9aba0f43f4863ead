//! What the operator does to the running process: reload, drain, hand over, stop. One thread of its own waits
//! for signals and file changes, so that none of it competes with requests.
//!
//! - `SIGHUP`, or a changed file: reload; all or nothing
//! - `SIGTERM`: readiness turns false, listeners close, running requests end, the process leaves as soon as the
//!   last one has
//! - `SIGQUIT`: the same after handing the listening sockets to a process started with `--upgrade`
//! - `SIGINT`, or a second signal: leave at once

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use rustls::sign::CertifiedKey;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, mpsc};

use crate::config::{self, Settings};
use crate::scanner;
use crate::state::State;
use crate::tls::{self, Certificate, TlsError};

/// How often is looked whether the last request has ended.
const DRAIN_TICK: Duration = Duration::from_millis(20);
/// How long nothing must be in work before the process leaves: a request whose headers are just being read is
/// not counted yet.
const DRAIN_QUIET: Duration = Duration::from_millis(200);
/// Pingora keeps accepting for this long after it has handed its sockets over.
const HAND_OVER: Duration = Duration::from_secs(6);

/// Why the process leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Every request has ended.
    Drained,
    /// Told to leave at once, or the drain took too long.
    AtOnce,
}

/// What the control thread works with.
pub struct Control {
    /// The process.
    pub state: Arc<State>,
    /// Folder of the configuration.
    pub folder: PathBuf,
    /// The certificates in use, by the address of their listener.
    pub certificates: Vec<(SocketAddr, Arc<Certificate>)>,
    /// Tells Pingora to stop.
    pub stop: mpsc::Sender<ShutdownSignal>,
    /// Tells `main` to leave.
    pub leave: SyncSender<Leave>,
}

/// Hands the control thread's decision to Pingora.
pub struct StopSignal(Mutex<mpsc::Receiver<ShutdownSignal>>);

impl StopSignal {
    /// What arrives at `receiver` stops Pingora.
    #[must_use]
    pub fn new(receiver: mpsc::Receiver<ShutdownSignal>) -> Self {
        Self(Mutex::new(receiver))
    }
}

#[async_trait]
impl ShutdownSignalWatch for StopSignal {
    async fn recv(&self) -> ShutdownSignal {
        match self.0.lock().await.recv().await {
            Some(signal) => signal,
            None => ShutdownSignal::FastShutdown,
        }
    }
}

impl Control {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the thread or its signal handlers cannot be set up.
    pub fn start(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _guard = runtime.enter();
            Signals::new()?
        };
        let run = move || runtime.block_on(self.run(signals));
        std::thread::Builder::new().name("control".to_owned()).spawn(run).map(drop)
    }

    async fn run(self, mut signals: Signals) {
        let mut is_announced = false;
        let mut seen = self.fingerprint();
        loop {
            let watch = self.state.stages.load().settings.reload.watch_interval;
            let tick = tokio::time::sleep(watch.unwrap_or(Duration::from_secs(3600)));
            tokio::select! {
                () = self.until_ready(), if !is_announced => {
                    say("ready");
                    is_announced = true;
                }
                _ = signals.hup.recv() => {
                    seen = self.fingerprint();
                    self.reload();
                }
                () = tick => {
                    let now = self.fingerprint();
                    if watch.is_some() && now != seen {
                        // A file may be half written: wait until it has rested for one interval.
                        tokio::time::sleep(watch.unwrap_or_default().min(Duration::from_millis(200))).await;
                        if self.fingerprint() == now {
                            self.reload();
                            // The files of the configuration now in force.
                            seen = self.fingerprint();
                        }
                    }
                }
                _ = signals.term.recv() => return self.drain(ShutdownSignal::GracefulTerminate, signals).await,
                _ = signals.quit.recv() => return self.drain(ShutdownSignal::GracefulUpgrade, signals).await,
                _ = signals.int.recv() => {
                    self.state.is_draining.store(true, Ordering::Relaxed);
                    if self.stop.send(ShutdownSignal::FastShutdown).await.is_err() {
                        self.leave(Leave::AtOnce);
                    }
                    return;
                }
            }
        }
    }

    /// Of every file that a reload reads: the configuration, the certificates and keys that it names, the rule packs.
    fn fingerprint(&self) -> Vec<Fingerprint> {
        let stages = self.state.stages.load();
        let conf = config::file_names().iter().map(|name| fingerprint_of(&self.folder.join(name)));
        let tls = stages.settings.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let tls = tls.flat_map(|files| [fingerprint_of(&files.certificate), fingerprint_of(&files.key)]);
        let rules = stages.settings.scan.rules.iter();
        let rules = rules.flat_map(|folder| scanner::files(folder).unwrap_or_default());
        let rules = rules.map(|file| fingerprint_of(&file)).collect::<Vec<_>>();
        conf.chain(tls).chain(rules).collect()
    }

    async fn until_ready(&self) {
        while !self.state.is_ready() {
            tokio::time::sleep(DRAIN_TICK).await;
        }
    }

    /// Takes the configuration anew, or keeps the old one and says why.
    fn reload(&self) {
        let metrics = &self.state.metrics;
        let before = self.state.stages.load_full();
        let settings = match config::load(&self.folder) {
            Ok(settings) => settings,
            Err(faults) => {
                metrics.reloads.with_label_values(&["rejected"]).inc();
                log::error!("reload refused, the old configuration stays in force:\n{faults}");
                return;
            }
        };
        let renewed = match self.renewed_certificates(&settings) {
            Ok(renewed) => renewed,
            Err(error) => {
                metrics.reloads.with_label_values(&["rejected"]).inc();
                log::error!("reload refused, the old configuration stays in force: {error}");
                return;
            }
        };
        for (certificate, key) in renewed {
            certificate.replace(key);
        }
        let changes = config::diff(&before.settings, &settings);
        log::set_max_level(settings.log.level);
        self.state.access_log.reopen(&settings.access_log);
        self.state.replace(settings);
        self.state.keys.survey(&self.state.stages.load());
        metrics.reloads.with_label_values(&["ok"]).inc();
        metrics.reloaded_at.set(seconds_since_1970());
        match changes.len() {
            0 => log::info!("reloaded; nothing changed"),
            count => log::info!("reloaded; {count} changes: {}", changes.join(", ")),
        }
    }

    /// Reads every certificate anew, without taking any in use.
    fn renewed_certificates(
        &self,
        settings: &Settings,
    ) -> Result<Vec<(&Certificate, CertifiedKey)>, TlsError> {
        let files = |address: &SocketAddr| {
            let listener = settings.listeners.iter().find(|listener| listener.address == *address);
            listener.and_then(|listener| listener.tls.as_ref())
        };
        let of_listeners = self.certificates.iter().filter_map(|(address, own)| Some((own, files(address)?)));
        of_listeners.map(|(own, files)| Ok((&**own, tls::read(files)?))).collect()
    }

    async fn drain(self, how: ShutdownSignal, mut signals: Signals) {
        let settings = self.state.stages.load().settings.server.clone();
        log::info!("draining: no new connections, at most {} ms", settings.drain_timeout.as_millis());
        self.state.is_draining.store(true, Ordering::Relaxed);
        let wait = async {
            tokio::time::sleep(settings.drain_delay).await;
            let is_hand_over = matches!(how, ShutdownSignal::GracefulUpgrade);
            if self.stop.send(how).await.is_err() {
                return Leave::AtOnce;
            }
            if is_hand_over {
                tokio::time::sleep(HAND_OVER).await;
            }
            let deadline = Instant::now() + settings.drain_timeout;
            let mut quiet_since = Instant::now();
            while Instant::now() < deadline {
                if self.state.in_flight.load(Ordering::Relaxed) > 0 {
                    quiet_since = Instant::now();
                } else if quiet_since.elapsed() >= DRAIN_QUIET {
                    return Leave::Drained;
                }
                tokio::time::sleep(DRAIN_TICK).await;
            }
            log::warn!("draining took too long; the rest is cut");
            // Pingora's grace period ends now too: it drops what is in work, which settles it, and returns.
            std::future::pending().await
        };
        let leave = tokio::select! {
            leave = wait => leave,
            _ = signals.term.recv() => Leave::AtOnce,
            _ = signals.int.recv() => Leave::AtOnce,
        };
        self.leave(leave);
    }

    fn leave(&self, why: Leave) {
        self.state.is_draining.store(true, Ordering::Relaxed);
        if self.leave.send(why).is_err() {
            log::error!("the main thread is gone");
        }
    }
}

struct Signals {
    hup: Signal,
    term: Signal,
    quit: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            term: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            int: signal(SignalKind::interrupt())?,
        })
    }
}

/// What tells that a file has changed: size, inode and time, which also sees files that are swapped by rename
/// or by a link, as container platforms do.
type Fingerprint = Option<(u64, u64, Option<SystemTime>)>;

fn fingerprint_of(path: &Path) -> Fingerprint {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.ino(), metadata.modified().ok()))
}

/// Seconds since 1970.
#[must_use]
pub fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// One line for whoever started the process.
#[expect(clippy::print_stdout, reason = "addresses and readiness are told on standard output")]
pub fn say(line: &str) {
    println!("{line}");
}
