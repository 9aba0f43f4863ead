//! `ledger` of tollgate.yaml: how the usage of each request is kept.

use crate::config::kind::{Maybe, choice, section};
use crate::config::settings::WhenFull;
use crate::config::words::{Name, OutputFile, Whole};

/// A hundred years.
type Days = Whole<1, 36_500>;

section! {
    /// How the usage of each request is kept. Taken when the gateway starts, but for `when_full`.
    Ledger {
        /// Name of this gateway in the ledger.
        node: Maybe<Name> = absent "the name of the machine";
        /// Directory where rows wait for the store, relative to the working directory; on a disk that outlives the
        /// gateway.
        journal: OutputFile = "var/ledger";
        /// How long rows are collected before they are committed together; what `kill -9` can lose.
        commit_window_ms: Whole<1, 50> = "20";
        /// Rows that may wait for the journal.
        queue_rows: Whole<16, 10_000_000> = "65536";
        /// The journal takes no more rows while the store does not have this much of it; a row takes some 700 bytes.
        journal_max_bytes: Whole<4096, { 1 << 44 }> = "1073741824";
        /// What happens when queue and journal are full: `open` lets requests go on, and their rows are lost and
        /// counted; `closed` refuses requests with 503, so that none is lost.
        when_full: WhenFullName = "open";
        /// How long things are kept in the store.
        retention: Retention = "{}";
    }
}

section! {
    /// How long things are kept in the store.
    Retention {
        /// Rows, one for each request.
        rows_days: Days = "90";
        /// Sums by the hour; at least as long as rows.
        hours_days: Days = "400";
        /// Sums by the day; at least as long as those by the hour, and 31 days, which budgets need.
        days_days: Days = "3650";
    }
}

choice! {
    /// What happens when queue and journal are full.
    WhenFullName -> WhenFull { "open" => WhenFull::Open, "closed" => WhenFull::Closed }
}
