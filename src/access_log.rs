//! One JSON line for each request, written by a thread of its own. The request path hands a record over and
//! goes on: a slow disk never makes a request wait. The queue is bounded; what does not fit is counted as
//! dropped, in a metric, and never silently lost.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::config::settings::{AccessLog as Settings, AccessLogTarget};
use crate::record::Record;

/// Records that may wait for the writer: half a minute of a busy machine.
const QUEUE: usize = 65_536;

/// How long records are collected before they are written.
const BATCH: Duration = Duration::from_millis(20);

/// How often an idle writer looks whether its file is due for rotation.
const IDLE: Duration = Duration::from_secs(1);

enum Message {
    Record(Arc<Record>),
    Reopen(Settings),
    Stop,
}

/// Takes records.
#[derive(Debug)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AccessLog {
    /// Starts the writer.
    ///
    /// # Errors
    /// If the log file cannot be opened or the thread not be started.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::open(settings.clone(), Arc::clone(&dropped))?;
        let run = move || writer.run(&messages);
        let writer = std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?;
        Ok(Self { queue, dropped, writer: Mutex::new(Some(writer)) })
    }

    /// Hands a record over, or counts it as dropped.
    pub fn push(&self, record: Arc<Record>) {
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Opens the log anew, as after a reload or when a file was moved away.
    pub fn reopen(&self, settings: &Settings) {
        if self.queue.send(Message::Reopen(settings.clone())).is_err() {
            log::error!("the access log's writer has ended; records are being dropped");
        }
    }

    /// Writes what is left and ends the writer.
    pub fn stop(&self) {
        let handle = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.queue.send(Message::Stop).is_ok()
            && let Some(handle) = handle
            && handle.join().is_err()
        {
            log::error!("the access log's writer panicked");
        }
    }
}

struct Writer {
    settings: Settings,
    out: Out,
    dropped: Arc<AtomicU64>,
    line: Vec<u8>,
}

enum Out {
    Off,
    Stdout,
    File { file: BufWriter<File>, path: PathBuf, bytes: u64, since: SystemTime },
}

impl Writer {
    fn open(settings: Settings, dropped: Arc<AtomicU64>) -> io::Result<Self> {
        Ok(Self { out: Out::open(&settings)?, settings, dropped, line: Vec::with_capacity(1024) })
    }

    fn run(&mut self, messages: &Receiver<Message>) {
        loop {
            match messages.recv_timeout(IDLE) {
                Ok(message) => {
                    if self.take(message).is_break() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // While records come, they are written in batches: waking this thread for each would cost the request
            // more than the rest of its settling, and a write for each would cost it again.
            loop {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the thread is the writer's own; nobody waits for it"
                )]
                std::thread::sleep(BATCH);
                let mut count = 0;
                while let Ok(message) = messages.try_recv() {
                    count += 1;
                    if self.take(message).is_break() {
                        return;
                    }
                }
                self.settle();
                if count == 0 {
                    break;
                }
            }
        }
    }

    fn take(&mut self, message: Message) -> ControlFlow<()> {
        match message {
            Message::Record(record) => {
                self.write(&record);
                // A large batch must not grow a file far beyond its size.
                if self.out.is_full(&self.settings) {
                    self.settle();
                }
            }
            Message::Reopen(settings) => {
                self.settle();
                match Out::open(&settings) {
                    Ok(out) => (self.out, self.settings) = (out, settings),
                    Err(error) => log::error!("access log: cannot reopen: {error}; keeping the old one"),
                }
            }
            Message::Stop => {
                self.settle();
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn write(&mut self, record: &Record) {
        self.line.clear();
        if let Err(error) = record.write_json(&mut self.line) {
            log::error!("access log: a record could not be written as JSON: {error}");
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.line.push(b'\n');
        if let Err(error) = self.out.write(&self.line) {
            log::error!("access log: {error}; the record is dropped");
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Flushes, then rotates if that is due.
    fn settle(&mut self) {
        if let Err(error) = self.out.flush() {
            log::error!("access log: {error}");
        }
        if let Err(error) = self.out.rotate(&self.settings) {
            log::error!("access log: cannot rotate: {error}");
        }
    }
}

impl Out {
    fn open(settings: &Settings) -> io::Result<Self> {
        match &settings.target {
            AccessLogTarget::Off => Ok(Self::Off),
            AccessLogTarget::Stdout => Ok(Self::Stdout),
            AccessLogTarget::File(path) => Self::open_file(path),
        }
    }

    fn open_file(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let metadata = file.metadata()?;
        // A file's age counts from its birth where the file system knows it, so that restarts do not put off
        // its rotation for ever.
        let since = metadata.created().unwrap_or_else(|_| SystemTime::now());
        let file = BufWriter::with_capacity(64 * 1024, file);
        Ok(Self::File { file, path: path.to_owned(), bytes: metadata.len(), since })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Off => Ok(()),
            Self::Stdout => io::stdout().lock().write_all(line),
            Self::File { file, bytes, .. } => {
                *bytes += line.len() as u64;
                file.write_all(line)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Off => Ok(()),
            Self::Stdout => io::stdout().lock().flush(),
            Self::File { file, .. } => file.flush(),
        }
    }

    fn is_full(&self, settings: &Settings) -> bool {
        matches!(self, Self::File { bytes, .. } if *bytes >= settings.rotate_bytes)
    }

    fn rotate(&mut self, settings: &Settings) -> io::Result<()> {
        let is_full = self.is_full(settings);
        let Self::File { path, bytes, since, .. } = self else { return Ok(()) };
        let age = since.elapsed().unwrap_or_default();
        if *bytes == 0 || (!is_full && age < settings.rotate_age) {
            return Ok(());
        }
        let path = path.clone();
        std::fs::rename(&path, rotated_name(&path))?;
        *self = Self::open_file(&path)?;
        if let Self::File { since, .. } = self {
            *since = SystemTime::now();
        }
        remove_oldest(&path, settings.keep_files)
    }
}

/// `access.log` → `access.log.20261123T101500.123456Z`: sorts by time.
fn rotated_name(path: &Path) -> PathBuf {
    let stamp = chrono::Utc::now().format(".%Y%m%dT%H%M%S%.6fZ").to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(stamp);
    PathBuf::from(name)
}

fn remove_oldest(path: &Path, keep: usize) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let prefix = format!("{}.2", name.to_string_lossy());
    let mut rotated: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
        .collect();
    rotated.sort();
    let surplus = rotated.len().saturating_sub(keep);
    rotated.into_iter().take(surplus).try_for_each(std::fs::remove_file)
}
