//! `ledger` of tollgate.yaml: sums outlive what they sum up.

use std::time::Duration;

use super::gateway::millis;
use super::size;
use crate::config::fault::Faults;
use crate::config::schema::ledger as schema;
use crate::config::settings::{Ledger, Retention};

/// A budget is of a calendar month.
const MONTH_DAYS: u64 = 31;

/// Checks the section.
pub(super) fn ledger(written: schema::Ledger, faults: &mut Faults) -> Ledger {
    let keep = written.retention.value;
    let (rows, hours, days) = (&keep.rows_days, &keep.hours_days, &keep.days_days);
    if hours.value < rows.value {
        let least = rows.value;
        faults.push(&hours.place, format!("expected at least rows_days ({least}), found {}", hours.value));
    }
    if days.value < hours.value.max(MONTH_DAYS) {
        let least = hours.value.max(MONTH_DAYS);
        let words = format!("expected at least {least} (hours_days and a month), found {}", days.value);
        faults.push(&days.place, words);
    }
    let time = |days: u64| Duration::from_secs(days * 86_400);
    Ledger {
        node: written.node.value.unwrap_or_else(host_name),
        journal: written.journal.value,
        commit_window: millis(&written.commit_window_ms),
        queue_rows: size(written.queue_rows.value),
        journal_max_bytes: written.journal_max_bytes.value,
        when_full: written.when_full.value,
        retention: Retention { rows: time(rows.value), hours: time(hours.value), days: time(days.value) },
    }
}

fn host_name() -> String {
    // <https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html>
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}
