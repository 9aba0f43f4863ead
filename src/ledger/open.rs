//! Requests in work, so that after a `kill -9` it can be told which they were. A request that has been in work for a
//! while is noted in a file beside the journal, and so is its end once its row is committed: what has begun there and
//! not ended was in work when the kill came, or had been answered within the last commit.
//!
//! ```text
//! var/ledger/5f3c…/open.jsonl    {"begun": {…}} or {"ended": 7} a line, as the journal's are
//! ```
//!
//! The file is written by the journal's thread and nobody waits for the disk: it outlives the process, but not for sure
//! the loss of power. Cost for a request: a short lock when it begins.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::entry::{read_line, write_line};
use crate::record::Record;

/// How long a request is in work before it is noted, at least. Most that are refused or fail end before.
const NOTE_AFTER: Duration = Duration::from_millis(50);
/// How large the file may become before it is written anew with what is still in work.
const MOST_BYTES: u64 = 4 << 20;

/// A request that a server was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Counts the requests of a life.
    pub id: u64,
    /// When it came, milliseconds since 1970.
    pub time_ms: i64,
    /// The request's id.
    pub request_id: String,
    /// Who pays.
    pub tenant: String,
    /// With which key.
    pub key_id: String,
    /// For which model, by its catalogue name.
    pub model: String,
    /// What was called.
    pub endpoint: String,
    /// Input tokens, as they were counted before it was forwarded.
    pub input_tokens: i64,
    /// Output tokens that were reserved.
    pub output_tokens: i64,
}

impl Begun {
    /// What is known of a request that is forwarded now: its input was counted, and so much output was reserved.
    #[must_use]
    pub fn of(record: &Record, input: u64, output: u64) -> Self {
        let time = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self {
            id: 0,
            time_ms: i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            request_id: record.request_id.clone(),
            tenant: record.tenant.to_string(),
            key_id: record.key_id.to_string(),
            model: record.model.to_string(),
            endpoint: record.endpoint.to_owned(),
            input_tokens: number(input),
            output_tokens: number(output),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    Begun(Begun),
    Ended(u64),
}

/// Requests in work.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    next: u64,
    live: HashMap<u64, Live>,
    /// Noted ones whose row is committed or lost.
    ended: Vec<u64>,
}

#[derive(Debug)]
struct Live {
    begun: Begun,
    since: Instant,
    is_noted: bool,
}

impl Open {
    /// Takes a request in; gives its number.
    pub(super) fn begin(&self, mut begun: Begun) -> u64 {
        let mut requests = self.lock();
        begun.id = requests.next;
        requests.next += 1;
        let id = begun.id;
        requests.live.insert(id, Live { begun, since: Instant::now(), is_noted: false });
        id
    }

    /// A request is over, and its row committed or lost.
    pub(super) fn end(&self, id: u64) {
        let mut requests = self.lock();
        if requests.live.remove(&id).is_some_and(|live| live.is_noted) {
            requests.ended.push(id);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Requests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the file.
#[derive(Debug)]
pub(super) struct Notes {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    lines: Vec<u8>,
    is_complained: bool,
}

impl Notes {
    /// Of the life with this folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: path_in(folder), file: None, bytes: 0, lines: Vec::new(), is_complained: false }
    }

    /// Notes what has begun and ended since the last time.
    pub(super) fn write(&mut self, open: &Open) {
        self.lines.clear();
        let mut requests = open.lock();
        for id in std::mem::take(&mut requests.ended) {
            write_line(&mut self.lines, &Note::Ended(id));
        }
        let is_renewed = self.bytes > MOST_BYTES;
        if is_renewed {
            self.lines.clear();
        }
        for live in requests.live.values_mut() {
            let is_due = !live.is_noted && live.since.elapsed() >= NOTE_AFTER;
            if is_due || (is_renewed && live.is_noted) {
                live.is_noted = true;
                write_line(&mut self.lines, &Note::Begun(live.begun.clone()));
            }
        }
        drop(requests);
        if self.lines.is_empty() && !is_renewed {
            return;
        }
        let written = if is_renewed { self.renew() } else { self.append() };
        if let Err(error) = written
            && !std::mem::replace(&mut self.is_complained, true)
        {
            log::error!("ledger: requests in work cannot be noted in {}: {error}", self.path.display());
        }
    }

    fn append(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let made = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
                none.insert(made)
            }
        };
        file.write_all(&self.lines)?;
        self.bytes += self.lines.len() as u64;
        Ok(())
    }

    /// Begins the file anew. A kill in between leaves the old one.
    fn renew(&mut self) -> io::Result<()> {
        let making = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&making)?;
        file.write_all(&self.lines)?;
        std::fs::rename(&making, &self.path)?;
        self.file = None;
        self.bytes = self.lines.len() as u64;
        Ok(())
    }
}

/// What had begun and not ended in the life with this folder.
pub(super) fn unended(folder: &Path) -> io::Result<Vec<Begun>> {
    let content = match std::fs::read(path_in(folder)) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (mut begun, mut ended) = (Vec::new(), HashSet::new());
    for line in content.split(|byte| *byte == b'\n') {
        match read_line(line) {
            Some(Note::Begun(request)) => begun.push(request),
            Some(Note::Ended(id)) => drop(ended.insert(id)),
            // The last one may be cut by the kill.
            None => {}
        }
    }
    begun.retain(|request: &Begun| !ended.contains(&request.id));
    Ok(begun)
}

fn path_in(folder: &Path) -> PathBuf {
    folder.join("open.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Begun {
        let text = str::to_owned;
        Begun {
            id: 0,
            time_ms: 5,
            request_id: text("r"),
            tenant: text("acme"),
            key_id: text("k"),
            model: text("m"),
            endpoint: text("chat_completions"),
            input_tokens: 7,
            output_tokens: 256,
        }
    }

    fn ids(folder: &Path) -> Vec<u64> {
        let mut ids: Vec<u64> =
            unended(folder).expect("it can be read").iter().map(|begun| begun.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn what_has_begun_and_not_ended_is_told() {
        let folder = std::env::temp_dir().join(format!("tollgate-open-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (open, mut notes) = (Open::default(), Notes::new(&folder));
        assert_eq!(ids(&folder), [0; 0]);
        let begin = |count: usize| -> Vec<u64> {
            let ids = (0..count).map(|_| open.begin(begun())).collect();
            let mut requests = open.lock();
            for live in requests.live.values_mut() {
                live.since -= NOTE_AFTER;
            }
            ids
        };
        let first = begin(3);
        notes.write(&open);
        assert_eq!(ids(&folder), first);
        open.end(first[1]);
        assert_eq!(ids(&folder), first, "its row may still be lost");
        let young = open.begin(begun());
        notes.write(&open);
        assert_eq!(ids(&folder), [first[0], first[2]], "{young} has just begun");
        open.end(young);
        // A file that has grown begins anew with what is in work.
        notes.bytes = MOST_BYTES + 1;
        open.end(first[0]);
        notes.write(&open);
        assert!(notes.bytes < 1000);
        assert_eq!(ids(&folder), [first[2]]);
        let more = begin(1);
        notes.write(&open);
        assert_eq!(ids(&folder), [first[2], more[0]]);
        // A kill may cut the last line.
        let path = path_in(&folder);
        let content = std::fs::read(&path).expect("the file");
        std::fs::write(&path, &content[..content.len() - 5]).expect("a file");
        assert_eq!(ids(&folder), [first[2]]);
        drop(std::fs::remove_dir_all(folder));
    }
}
