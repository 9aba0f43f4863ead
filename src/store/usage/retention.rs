//! What is old goes: rows first, then sums by the hour, then sums by the day. In small steps, so that nobody who
//! writes meanwhile waits long. How many rows of each life have gone is kept, so that the numbers still add up.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::settings::Retention;
use crate::store::{Connection, StoreError};

/// Rows of this much time go in one transaction.
const STEP_MS: i64 = 60_000;
/// What lives used is asked for the day and the month only.
const LIVES: Duration = Duration::from_secs(62 * 86_400);

/// Removes what is older at `now` than it is kept. Gives the number of rows removed.
///
/// # Errors
/// [`StoreError`]; what was removed until then stays removed.
pub fn purge(connection: &mut Connection, keep: &Retention, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let before = |age: Duration| now.timestamp_millis() - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    let mut removed = 0;
    loop {
        let oldest = connection.query("SELECT MIN(time_ms) FROM usage_rows", &[])?;
        let oldest = oldest.first().map_or(Ok(None), |row| row.maybe_int(0))?;
        let Some(oldest) = oldest.filter(|oldest| *oldest < before(keep.rows)) else { break };
        removed += purge_rows(connection, (oldest + STEP_MS).min(before(keep.rows)))?;
    }
    connection.execute("DELETE FROM usage_unsettled WHERE time_ms < $1", &[before(keep.rows).into()])?;
    let hour = before(keep.hours).div_euclid(3_600_000);
    connection.execute("DELETE FROM usage_hours WHERE hour < $1", &[hour.into()])?;
    let day = before(keep.days).div_euclid(86_400_000);
    connection.execute("DELETE FROM usage_days WHERE day < $1", &[day.into()])?;
    let day = before(LIVES).div_euclid(86_400_000);
    connection.execute("DELETE FROM usage_lives WHERE day < $1", &[day.into()])?;
    Ok(removed)
}

fn purge_rows(connection: &mut Connection, before_ms: i64) -> Result<u64, StoreError> {
    connection.transaction(|connection| {
        // Not counted and then removed: a row could come in between.
        let gone = connection
            .query("DELETE FROM usage_rows WHERE time_ms < $1 RETURNING boot", &[before_ms.into()])?;
        let mut by_boot = BTreeMap::<&str, i64>::new();
        for row in &gone {
            *by_boot.entry(row.text(0)?).or_default() += 1;
        }
        for (boot, count) in by_boot {
            connection.execute(
                "UPDATE usage_boots SET purged = purged + $2 WHERE boot = $1",
                &[boot.into(), count.into()],
            )?;
        }
        Ok(gone.len() as u64)
    })
}
