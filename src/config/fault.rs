//! Faults in the configuration, each with file, line and key path. They are collected, not thrown: an
//! operator who fixes one fault per attempt loses an evening, so reading goes on after each and the
//! whole list is shown at once, in the order of the files and lines.

use std::fmt;
use std::path::{Path, PathBuf};

/// One of the configuration files, as its position in `file_names()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) usize);

/// Where a value stands, or would stand if it had been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: FileId,
    /// Line, from 1; 0 is the file as a whole.
    pub(crate) line: usize,
    /// Key path, e.g. `pools[0].servers[1].weight`; empty for the file as a whole.
    pub(crate) path: String,
}

impl Place {
    /// The top of a file.
    pub(crate) fn top(file: FileId, line: usize) -> Self {
        Self { file, line, path: String::new() }
    }

    /// A key of the mapping at this place.
    pub(crate) fn key(&self, name: &str, line: usize) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { file: self.file, line, path: format!("{}{dot}{name}", self.path) }
    }

    /// An item of the list at this place.
    pub(crate) fn item(&self, index: usize, line: usize) -> Self {
        Self { file: self.file, line, path: format!("{}[{index}]", self.path) }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Its place; for a default, the line of the mapping that could have held it.
    pub(crate) place: Place,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    place: Place,
    message: String,
}

/// Everything that is wrong with a configuration. `Display` prints one line for each fault, then how many
/// there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    dir: PathBuf,
    list: Vec<Fault>,
    /// Files beside those of `file_names()`: rule packs.
    others: Vec<PathBuf>,
}

impl Faults {
    /// An empty collection for the files of `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), list: Vec::new(), others: Vec::new() }
    }

    /// How many faults there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is wrong. Never so for what `load` returns as an error.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Each fault as file, line (0 is the file as a whole), key path and message, in the order of files and
    /// lines.
    pub fn iter(&self) -> impl Iterator<Item = (PathBuf, usize, &str, &str)> {
        self.list.iter().map(|fault| {
            (self.path_of(fault), fault.place.line, fault.place.path.as_str(), fault.message.as_str())
        })
    }

    /// A file that is none of `file_names()`.
    pub(crate) fn file(&mut self, path: &str) -> FileId {
        let known = super::file_names().len();
        let at = self.others.iter().position(|other| other.as_os_str() == path).unwrap_or_else(|| {
            self.others.push(PathBuf::from(path));
            self.others.len() - 1
        });
        FileId(known + at)
    }

    /// Adds a fault.
    pub(crate) fn push(&mut self, place: &Place, message: impl Into<String>) {
        self.list.push(Fault { place: place.clone(), message: message.into() });
    }

    /// Whether anything at this place or below it has been reported.
    pub(crate) fn has_below(&self, place: &Place) -> bool {
        self.list.iter().any(|fault| {
            let rest = fault.place.path.strip_prefix(&place.path);
            fault.place.file == place.file
                && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Adds the fault of a failed step and goes on without its value.
    pub(crate) fn keep<T>(&mut self, place: &Place, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.push(place, message)).ok()
    }

    /// The value if nothing at all is wrong, otherwise the faults in order.
    pub(crate) fn none_or<T>(mut self, value: Option<T>) -> Result<T, Self> {
        // Sorted by place only: several faults of one line keep the order in which they were found.
        self.list.sort_by_key(|fault| (fault.place.file, fault.place.line));
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => {
                debug_assert!(!self.list.is_empty(), "a value is only missing where a fault was pushed");
                Err(self)
            }
        }
    }

    fn path_of(&self, fault: &Fault) -> PathBuf {
        let names = super::file_names();
        match names.get(fault.place.file.0) {
            Some(name) => self.dir.join(name),
            // Named as it was found, which is below the directory already.
            None => self.others.get(fault.place.file.0 - names.len()).cloned().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.list {
            write!(f, "{}", self.path_of(fault).display())?;
            if fault.place.line > 0 {
                write!(f, ":{}", fault.place.line)?;
            }
            if !fault.place.path.is_empty() {
                write!(f, ": {}", fault.place.path)?;
            }
            writeln!(f, ": {}", fault.message)?;
        }
        write!(f, "{} fault{}", self.list.len(), if self.list.len() == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Faults {}
