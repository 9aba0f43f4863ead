//! The journal: rows stand here, on this machine's disk, from the moment they are committed until the store has them.
//! Each life of a gateway has a folder of its own, named by its boot id and locked while it lives:
//!
//! ```text
//! var/ledger/5f3c…/lock
//! var/ledger/5f3c…/00000001.jsonl    a checksum and a JSON object a line; the first line tells whose it is
//! ```
//!
//! Files only grow, and are removed when all of their rows are in the store. What a kill left half written at the end
//! of the last file was never committed and is passed over.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::entry::{Boot, Entry, read_line, write_line};

/// A file that has grown to this size is followed by another, so that what the store has can be removed.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How far a journal goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Number of the file.
    pub(super) segment: u64,
    /// Bytes of it.
    pub(super) bytes: u64,
}

/// The end of a journal where rows are added.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    boot: Boot,
    file: File,
    end: Position,
    /// Keeps others from taking the folder for abandoned.
    _lock: File,
}

impl Journal {
    /// Makes the folder of a new life in `base`.
    pub(super) fn create(base: &Path, boot: &Boot) -> io::Result<Self> {
        std::fs::create_dir_all(base)?;
        // Under a name that nobody looks at, until it is locked.
        let making = base.join(format!(".{}", boot.boot));
        std::fs::create_dir(&making)?;
        let lock = File::create(making.join("lock"))?;
        lock.try_lock()?;
        let folder = base.join(&boot.boot);
        std::fs::rename(&making, &folder)?;
        let (file, end) = start_segment(&folder, boot, 1)?;
        File::open(base)?.sync_all()?;
        Ok(Self { folder, boot: boot.clone(), file, end, _lock: lock })
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it ends.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// Adds lines and waits until the disk has them. After an error none of them is in it.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.end.bytes >= SEGMENT_BYTES {
            (self.file, self.end) = start_segment(&self.folder, &self.boot, self.end.segment + 1)?;
        }
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.end.bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a group must not be followed by another.
                self.file.set_len(self.end.bytes)?;
                Err(error)
            }
        }
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.jsonl"))
}

fn start_segment(folder: &Path, boot: &Boot, number: u64) -> io::Result<(File, Position)> {
    let path = segment_path(folder, number);
    // A try before this one may have left it behind.
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.set_len(0)?;
    let mut line = Vec::new();
    write_line(&mut line, boot);
    file.write_all(&line)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    Ok((file, Position { segment: number, bytes: line.len() as u64 }))
}

/// A journal whose gateway is gone; nobody else takes it meanwhile.
#[derive(Debug)]
pub(super) struct Abandoned {
    /// Its folder.
    pub(super) folder: PathBuf,
    _lock: File,
}

/// The journals in `base` that nobody writes any more.
pub(super) fn abandoned(base: &Path) -> io::Result<Vec<Abandoned>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(base)? {
        let entry = entry?;
        let is_ours = entry.file_type()?.is_dir() && !entry.file_name().to_string_lossy().starts_with('.');
        // Without a lock file it is half removed, or nothing of ours.
        let Some(lock) = is_ours.then(|| File::open(entry.path().join("lock")).ok()).flatten() else {
            continue;
        };
        match lock.try_lock() {
            Ok(()) => found.push(Abandoned { folder: entry.path(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

/// Reads a journal from its beginning.
#[derive(Debug)]
pub(super) struct Reader {
    folder: PathBuf,
    boot: Boot,
    at: Position,
    /// Bytes of entries until there, over all files.
    read_bytes: u64,
    file: Option<BufReader<File>>,
}

/// A place in a journal to go back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// The place.
    pub(super) at: Position,
    /// Bytes of entries before it.
    pub(super) read_bytes: u64,
}

impl Reader {
    /// Starts at the first file that is still there.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let first = segments(folder)?.into_iter().min().unwrap_or(1);
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Each file says whose it is; this stands in for a first line that a kill has cut.
        let boot = Boot { boot: name, node: "unknown".to_owned(), started_ms: 0 };
        Ok(Self {
            folder: folder.to_owned(),
            boot,
            at: Position { segment: first, bytes: 0 },
            read_bytes: 0,
            file: None,
        })
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whose journal it is, as far as it has been read.
    pub(super) fn boot(&self) -> &Boot {
        &self.boot
    }

    /// How far it has been read.
    pub(super) fn mark(&self) -> Mark {
        Mark { at: self.at, read_bytes: self.read_bytes }
    }

    /// Goes back to where it was before a batch that could not be stored.
    pub(super) fn rewind(&mut self, to: Mark) {
        (self.at, self.read_bytes) = (to.at, to.read_bytes);
        self.file = None;
    }

    /// The next entries, at most `most`, up to `end` or, of an abandoned journal, to its very end.
    pub(super) fn read(&mut self, most: usize, end: Option<Position>) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut line = Vec::new();
        while entries.len() < most && end.is_none_or(|end| self.at < end) {
            let file = match &mut self.file {
                Some(file) => file,
                none => match open_at(&self.folder, self.at)? {
                    Some(file) => none.insert(file),
                    None => return Ok(entries),
                },
            };
            line.clear();
            file.read_until(b'\n', &mut line)?;
            let Some(content) = line.strip_suffix(b"\n") else {
                if !self.next_segment(line.len())? {
                    return Ok(entries);
                }
                continue;
            };
            if self.at.bytes == 0 {
                match read_line(content) {
                    Some(boot) => self.boot = boot,
                    None => self.complain("the first line cannot be read"),
                }
            } else {
                self.read_bytes += line.len() as u64;
                match read_line(content) {
                    Some(entry) => entries.push(entry),
                    // Its number will be missing, which the store then notes as lost.
                    None => self.complain("a row cannot be read"),
                }
            }
            self.at.bytes += line.len() as u64;
        }
        Ok(entries)
    }

    /// Goes on with the file after this one, if there is one. `left` bytes at the end are no line.
    fn next_segment(&mut self, left: usize) -> io::Result<bool> {
        let next = segments(&self.folder)?.into_iter().filter(|number| *number > self.at.segment).min();
        if left > 0 && next.is_none() {
            let path = segment_path(&self.folder, self.at.segment);
            log::info!("ledger: {}: {left} bytes at the end were not committed", path.display());
        } else if left > 0 {
            self.complain("it ends in the middle of a row");
        }
        self.file = None;
        let Some(next) = next else { return Ok(false) };
        self.at = Position { segment: next, bytes: 0 };
        Ok(true)
    }

    fn complain(&self, what: &str) {
        let path = segment_path(&self.folder, self.at.segment);
        log::error!("ledger: {} is damaged near byte {}: {what}", path.display(), self.at.bytes);
    }

    /// Removes the files before the one that is being read.
    pub(super) fn remove_read(&self) -> io::Result<()> {
        for number in segments(&self.folder)?.into_iter().filter(|number| *number < self.at.segment) {
            std::fs::remove_file(segment_path(&self.folder, number))?;
        }
        Ok(())
    }
}

fn open_at(folder: &Path, at: Position) -> io::Result<Option<BufReader<File>>> {
    match File::open(segment_path(folder, at.segment)) {
        Ok(mut file) => {
            file.seek(SeekFrom::Start(at.bytes))?;
            Ok(Some(BufReader::with_capacity(64 * 1024, file)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers
            .extend(name.to_string_lossy().strip_suffix(".jsonl").and_then(|stem| stem.parse::<u64>().ok()));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::What;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("tollgate-journal-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        path
    }

    fn boot(name: &str) -> Boot {
        Boot { boot: name.to_owned(), node: "n".to_owned(), started_ms: 5 }
    }

    fn lines(seqs: std::ops::Range<i64>) -> Vec<u8> {
        let mut lines = Vec::new();
        for seq in seqs {
            write_line(&mut lines, &Entry { seq, what: What::Lost { count: 1, cost_peur: 0 } });
        }
        lines
    }

    fn seqs(reader: &mut Reader, end: Option<Position>) -> Vec<i64> {
        reader.read(1000, end).expect("it can be read").iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn a_journal_is_read_as_far_as_it_was_committed() {
        let base = folder("committed");
        let mut journal = Journal::create(&base, &boot("a")).expect("a folder");
        let mut reader = Reader::open(journal.folder()).expect("it is there");
        assert_eq!(seqs(&mut reader, Some(journal.end())), [0; 0]);
        assert_eq!(reader.boot(), &boot("a"));
        journal.append(&lines(0..3)).expect("room");
        let end = journal.end();
        journal.append(&lines(3..5)).expect("room");
        assert_eq!(seqs(&mut reader, Some(end)), [0, 1, 2]);
        let before = reader.mark();
        assert_eq!(seqs(&mut reader, Some(journal.end())), [3, 4]);
        reader.rewind(before);
        assert_eq!(seqs(&mut reader, Some(journal.end())), [3, 4]);
        drop(std::fs::remove_dir_all(base));
    }

    #[test]
    fn a_journal_is_abandoned_when_its_gateway_is_gone_and_ends_where_the_kill_came() {
        let base = folder("abandoned");
        let mut journal = Journal::create(&base, &boot("a")).expect("a folder");
        let whole = lines(0..3);
        journal.append(&whole).expect("room");
        let committed = journal.end().bytes;
        assert!(abandoned(&base).expect("a folder").is_empty(), "its gateway lives");
        let path = segment_path(journal.folder(), 1);
        drop(journal);
        let last = lines(3..4);
        let all = std::fs::read(&path).expect("the file");
        // Wherever a kill cuts the last row, the rows before it stand.
        for cut in 0..last.len() {
            std::fs::write(&path, [&all[..], &last[..cut]].concat()).expect("a file");
            let found = abandoned(&base).expect("a folder");
            let mut reader = Reader::open(&found[0].folder).expect("it is there");
            assert_eq!(seqs(&mut reader, None), [0, 1, 2], "cut at {cut}");
            assert!(abandoned(&base).expect("a folder").is_empty(), "it is taken");
        }
        // A row that has rotted is left out, those after it are not.
        let mut rotten = all.clone();
        let second = committed as usize - whole.len() + whole.len() / 2;
        rotten[second] ^= 1;
        std::fs::write(&path, rotten).expect("a file");
        let found = abandoned(&base).expect("a folder");
        let read = seqs(&mut Reader::open(&found[0].folder).expect("it is there"), None);
        assert_eq!(read, [0, 2]);
        drop(std::fs::remove_dir_all(base));
    }

    #[test]
    fn files_follow_each_other_and_go_when_they_have_been_read() {
        let base = folder("segments");
        let mut journal = Journal::create(&base, &boot("a")).expect("a folder");
        journal.append(&lines(0..2)).expect("room");
        // As if it had grown.
        journal.end.bytes = SEGMENT_BYTES;
        journal.append(&lines(2..4)).expect("room");
        let mut reader = Reader::open(journal.folder()).expect("it is there");
        assert_eq!(seqs(&mut reader, Some(journal.end())), [0, 1, 2, 3]);
        reader.remove_read().expect("it can be removed");
        assert_eq!(segments(journal.folder()).expect("a folder"), [2]);
        journal.append(&lines(4..5)).expect("room");
        assert_eq!(seqs(&mut reader, Some(journal.end())), [4]);
        drop(std::fs::remove_dir_all(base));
    }
}
