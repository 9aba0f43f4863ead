//! Proves the ledger: every life's numbers are all there, each once, and the sums are those of the rows.

use std::collections::BTreeMap;

use crate::store::{Connection, StoreError, Value};

/// What the proof found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Lives of gateways.
    pub boots: u64,
    /// Rows that are there.
    pub rows: u64,
    /// Rows that are gone because of their age.
    pub purged: u64,
    /// Rows that gateways said they could not keep.
    pub lost: u64,
    /// Rows that were put aside because their numbers cannot be true or the store refused them.
    pub rejected: u64,
    /// Requests that have no row because their gateway was killed; see [`super::unsettled`].
    pub unsettled: u64,
    /// What is wrong; empty if the ledger holds.
    pub faults: Vec<String>,
}

/// Looks at one moment of everything.
///
/// # Errors
/// [`StoreError`].
pub fn verify(connection: &mut Connection) -> Result<Verdict, StoreError> {
    connection.snapshot(|connection| {
        let mut verdict = Verdict::default();
        numbers(connection, &mut verdict)?;
        sums(connection, &mut verdict)?;
        lives(connection, &mut verdict)?;
        let unsettled = connection.query("SELECT COUNT(*) FROM usage_unsettled", &[])?;
        verdict.unsettled = unsettled.first().map_or(Ok(0), |row| row.int(0))?.unsigned_abs();
        Ok(verdict)
    })
}

/// That a number is there once is held by the table's key; that none is missing follows from count and bounds.
fn numbers(connection: &mut Connection, verdict: &mut Verdict) -> Result<(), StoreError> {
    let found =
        connection.query("SELECT boot, COUNT(*), MIN(seq), MAX(seq) FROM usage_rows GROUP BY boot", &[])?;
    let mut rows = BTreeMap::new();
    for row in &found {
        rows.insert(row.text(0)?.to_owned(), (row.int(1)?, row.int(2)?, row.int(3)?));
    }
    let boots = "SELECT boot, first_seq, next_seq, purged, rejected, notes, lost FROM usage_boots ORDER BY started_ms";
    for boot in connection.query(boots, &[])? {
        let id = boot.text(0)?;
        let (first, next) = (boot.int(1)?, boot.int(2)?);
        let (purged, rejected, notes, lost) = (boot.int(3)?, boot.int(4)?, boot.int(5)?, boot.int(6)?);
        let (count, lowest, highest) = rows.remove(id).unwrap_or((0, first, next - 1));
        let expected = next - first - purged - rejected - notes;
        if count != expected {
            verdict.faults.push(format!("{id}: expected {expected} rows, found {count}"));
        }
        if lowest < first || highest >= next {
            verdict.faults.push(format!("{id}: rows {lowest} to {highest} are not within {first} to {next}"));
        }
        verdict.boots += 1;
        for (sum, more) in [
            (&mut verdict.rows, count),
            (&mut verdict.purged, purged),
            (&mut verdict.lost, lost),
            (&mut verdict.rejected, rejected),
        ] {
            *sum += more.unsigned_abs();
        }
    }
    let strays =
        rows.into_iter().map(|(id, (count, ..))| format!("{id}: {count} rows of a life that is not known"));
    verdict.faults.extend(strays);
    Ok(())
}

/// Hours whose rows are all still there, and days whose hours are, must agree.
fn sums(connection: &mut Connection, verdict: &mut Verdict) -> Result<(), StoreError> {
    let of_rows =
        "COUNT(*), CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(output_tokens + reasoning_tokens) AS BIGINT),
         CAST(SUM(cost_peur) AS BIGINT), CAST(SUM(COALESCE(energy_nwh, 0)) AS BIGINT)";
    let of_sums = "CAST(SUM(requests) AS BIGINT), CAST(SUM(input_tokens) AS BIGINT),
         CAST(SUM(output_tokens + reasoning_tokens) AS BIGINT), CAST(SUM(cost_peur) AS BIGINT),
         CAST(SUM(energy_nwh) AS BIGINT)";
    // Where rows have been removed, the oldest hour may have lost some of its own.
    let first_hour =
        match (verdict.purged, first(connection, "SELECT MIN(time_ms / 3600000) FROM usage_rows")?) {
            (_, None) => return Ok(()),
            (0, Some(hour)) => hour,
            (_, Some(hour)) => hour + 1,
        };
    compare(
        connection,
        verdict,
        "hour",
        &format!(
            "SELECT time_ms / 3600000, {of_rows} FROM usage_rows WHERE time_ms / 3600000 >= $1 GROUP BY 1"
        ),
        &format!("SELECT hour, {of_sums} FROM usage_hours WHERE hour >= $1 GROUP BY hour"),
        first_hour,
    )?;
    let Some(oldest) = first(connection, "SELECT MIN(hour) FROM usage_hours")? else { return Ok(()) };
    compare(
        connection,
        verdict,
        "day",
        &format!("SELECT hour / 24, {of_sums} FROM usage_hours WHERE hour / 24 >= $1 GROUP BY 1"),
        &format!("SELECT day, {of_sums} FROM usage_days WHERE day >= $1 GROUP BY day"),
        // Hours of the oldest day may be gone.
        if verdict.purged == 0 { oldest / 24 } else { oldest / 24 + 1 },
    )
}

/// All lives together have used what the days say, or less: what was stored before they were told apart is of none.
fn lives(connection: &mut Connection, verdict: &mut Verdict) -> Result<(), StoreError> {
    let of_days = connection.query(
        "SELECT day, CAST(SUM(input_tokens + output_tokens + reasoning_tokens) AS BIGINT),
         CAST(SUM(cost_peur) AS BIGINT) FROM usage_days GROUP BY day",
        &[],
    )?;
    let of_days: BTreeMap<i64, (i64, i64)> = of_days
        .iter()
        .map(|row| Ok((row.int(0)?, (row.int(1)?, row.int(2)?))))
        .collect::<Result<_, StoreError>>()?;
    let of_lives = connection.query(
        "SELECT day, CAST(SUM(tokens) AS BIGINT), CAST(SUM(cost_peur) AS BIGINT) FROM usage_lives GROUP BY day
         ORDER BY day",
        &[],
    )?;
    for row in &of_lives {
        let (day, found) = (row.int(0)?, (row.int(1)?, row.int(2)?));
        // Days may be kept for less long.
        let Some(most) = of_days.get(&day) else { continue };
        if found.0 > most.0 || found.1 > most.1 {
            verdict
                .faults
                .push(format!("day {day}: expected lives to have used {most:?} at most, found {found:?}"));
        }
    }
    Ok(())
}

fn first(connection: &mut Connection, sql: &str) -> Result<Option<i64>, StoreError> {
    connection.query(sql, &[])?.first().map_or(Ok(None), |row| row.maybe_int(0))
}

fn compare(
    connection: &mut Connection,
    verdict: &mut Verdict,
    what: &str,
    parts: &str,
    wholes: &str,
    from: i64,
) -> Result<(), StoreError> {
    let mut read = |sql: &str| -> Result<BTreeMap<i64, Vec<Value>>, StoreError> {
        let rows = connection.query(sql, &[from.into()])?;
        rows.into_iter().map(|row| Ok((row.int(0)?, row.0))).collect()
    };
    let (parts, wholes) = (read(parts)?, read(wholes)?);
    for time in parts.keys().chain(wholes.keys()).collect::<std::collections::BTreeSet<_>>() {
        if parts.get(time) != wholes.get(time) {
            verdict.faults.push(format!(
                "{what} {time}: expected the sums {:?}, found {:?}",
                parts.get(time),
                wholes.get(time)
            ));
        }
    }
    Ok(())
}
