//! The tables and how they came to be. Each step runs once, in order, in one transaction with all that are still to
//! run; other gateways that start meanwhile wait for it and then find nothing left to do.
//!
//! Rules: a step that has been released is never changed (its digest is kept and compared); a step only adds, so that
//! the gateway before it can go on with the tables after it, since that is what a rolling upgrade does. A gateway that
//! finds steps it does not know goes on.
//!
//! To add a table: a file in `migrations/`, a line in [`STEPS`] with the next number, the statements in a file of
//! their own beside this one (`keys.rs`), which take `&mut Connection`.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};

use super::{Connection, StoreError};

struct Step {
    number: i64,
    name: &'static str,
    sql: &'static str,
}

/// Every step, in order.
const STEPS: &[Step] = &[
    Step { number: 1, name: "usage", sql: include_str!("migrations/0001_usage.sql") },
    Step { number: 2, name: "keys", sql: include_str!("migrations/0002_keys.sql") },
    Step { number: 3, name: "lives", sql: include_str!("migrations/0003_lives.sql") },
    Step { number: 4, name: "unsettled", sql: include_str!("migrations/0004_unsettled.sql") },
];

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_steps (
    number BIGINT PRIMARY KEY, name TEXT NOT NULL, digest TEXT NOT NULL, applied_ms BIGINT NOT NULL)";

/// Brings the tables up to date.
pub(super) fn run(connection: &mut Connection) -> Result<(), StoreError> {
    // Without the lock first: that is all for every connection but the very first.
    if let Ok(applied) = applied(connection)
        && check(&applied)? == 0
    {
        return Ok(());
    }
    connection.transaction(|connection| {
        connection.lock_all()?;
        connection.batch(VERSIONS)?;
        let applied = applied(connection)?;
        let missing = check(&applied)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for step in &STEPS[STEPS.len() - missing..] {
            connection.batch(step.sql)?;
            connection.execute(
                "INSERT INTO schema_steps (number, name, digest, applied_ms) VALUES ($1, $2, $3, $4)",
                &[
                    step.number.into(),
                    step.name.into(),
                    digest_of(step).into(),
                    i64::try_from(now.as_millis()).unwrap_or(i64::MAX).into(),
                ],
            )?;
        }
        Ok(())
    })
}

/// Number and digest of the steps that have run.
fn applied(connection: &mut Connection) -> Result<Vec<(i64, String)>, StoreError> {
    let rows = connection.query("SELECT number, digest FROM schema_steps ORDER BY number", &[])?;
    rows.iter().map(|row| Ok((row.int(0)?, row.text(1)?.to_owned()))).collect()
}

/// How many steps are missing at the end.
fn check(applied: &[(i64, String)]) -> Result<usize, StoreError> {
    for (step, (number, digest)) in STEPS.iter().zip(applied) {
        if step.number != *number || digest_of(step) != *digest {
            return Err(StoreError::Broken(format!(
                "its tables were not made by this program: step {number} is not step {} ({}) as it is known here",
                step.number, step.name
            )));
        }
    }
    Ok(STEPS.len().saturating_sub(applied.len()))
}

fn digest_of(step: &Step) -> String {
    let digest = digest(&SHA256, step.sql.as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
