//! `tollgate.yaml: ledger`.

use std::path::PathBuf;
use std::time::Duration;

/// How the usage of each request is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// This gateway's name in it.
    pub node: String,
    /// Folder of the journals.
    pub journal: PathBuf,
    /// How long rows are collected before they are committed together.
    pub commit_window: Duration,
    /// Rows that may wait for the journal.
    pub queue_rows: usize,
    /// The journal takes no more while the store does not have this much of it.
    pub journal_max_bytes: u64,
    /// What happens when queue and journal are full.
    pub when_full: WhenFull,
    /// How long things are kept.
    pub retention: Retention,
}

/// What happens when queue and journal are full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Requests go on; their rows are lost and counted.
    Open,
    /// Requests are refused, so that no row can be lost.
    Closed,
}

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rows, one for each request.
    pub rows: Duration,
    /// Sums by the hour.
    pub hours: Duration,
    /// Sums by the day.
    pub days: Duration,
}
