//! The usage ledger in the store: rows are written exactly once, with the sums that follow from them, in one
//! transaction. The numbers of a gateway's rows have no gap, so the highest one that was stored tells what a journal
//! still has to give; that is all it takes after a kill, a lost connection or a commit of unknown ending.

mod report;
mod retention;
mod unsettled;
mod verify;

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Utc};

pub use report::{Column, Filter, Line, NUMBERS, Number, Sums, report, to_json, total};
pub use retention::purge;
pub use unsettled::{Unsettled, note_unsettled, unsettled};
pub use verify::{Verdict, verify};

use super::{Connection, Row, StoreError, Value};
use crate::ledger::{Boot, Entry, UsageRow, What};
use crate::record::PicoEur;

const INSERT: &str = "INSERT INTO usage_rows (boot, seq, time_ms, request_id, tenant, key_id, model, server, endpoint,
    status, outcome, is_streaming, attempts, input_tokens, cached_input_tokens, system_tokens, output_tokens,
    reasoning_tokens, input_source, output_source, reasoning_source, cost_peur, energy_nwh, ttft_us, duration_us)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
    $24, $25)";

/// The statement that adds to a table of sums.
macro_rules! add_to {
    ($table:literal, $time:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (",
            $time,
            ", tenant, key_id, model, requests, input_tokens,
             cached_input_tokens, system_tokens, output_tokens, reasoning_tokens, cost_peur, energy_nwh)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT (",
            $time,
            ", tenant, key_id, model) DO UPDATE SET
             requests = ",
            $table,
            ".requests + excluded.requests,
             input_tokens = ",
            $table,
            ".input_tokens + excluded.input_tokens,
             cached_input_tokens = ",
            $table,
            ".cached_input_tokens + excluded.cached_input_tokens,
             system_tokens = ",
            $table,
            ".system_tokens + excluded.system_tokens,
             output_tokens = ",
            $table,
            ".output_tokens + excluded.output_tokens,
             reasoning_tokens = ",
            $table,
            ".reasoning_tokens + excluded.reasoning_tokens,
             cost_peur = ",
            $table,
            ".cost_peur + excluded.cost_peur,
             energy_nwh = ",
            $table,
            ".energy_nwh + excluded.energy_nwh"
        )
    };
}

const ADD_HOUR: &str = add_to!("usage_hours", "hour");
const ADD_DAY: &str = add_to!("usage_days", "day");

const ADD_LIFE: &str = "INSERT INTO usage_lives (boot, day, tenant, key_id, model, tokens, cost_peur)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (boot, day, tenant, key_id, model) DO UPDATE SET
    tokens = usage_lives.tokens + excluded.tokens, cost_peur = usage_lives.cost_peur + excluded.cost_peur";

/// What rows of one hour or day, tenant, key and model add up to.
type Added = BTreeMap<(i64, String, String, String), [i64; 8]>;

/// Stores entries of a life, in order; those that are stored already are passed over.
///
/// # Errors
/// [`StoreError`]; after [`StoreError::Away`] they may be stored all the same, and storing them again does no harm.
pub fn record(connection: &mut Connection, boot: &Boot, entries: &[Entry]) -> Result<(), StoreError> {
    let Some(first) = entries.first() else { return Ok(()) };
    connection.transaction(|connection| {
        let next = next_seq(connection, boot, first.seq)?;
        let fresh: Vec<&Entry> = entries.iter().filter(|entry| entry.seq >= next).collect();
        let Some(last) = fresh.last() else { return Ok(()) };
        let mut sets = Vec::with_capacity(fresh.len());
        let (mut hours, mut days) = (Added::new(), Added::new());
        let (mut lost, mut lost_peur, mut notes) = (0_i64, 0_i64, 0_i64);
        for entry in &fresh {
            match &entry.what {
                What::Row(row) => {
                    sets.push(values(boot, entry.seq, row));
                    add(&mut hours, row.hour(), row);
                    add(&mut days, row.hour() / 24, row);
                }
                What::Lost { count, cost_peur } => {
                    notes += 1;
                    lost = lost.saturating_add(*count);
                    lost_peur = lost_peur.saturating_add(*cost_peur);
                }
            }
        }
        // A number that never came is a row that a damaged disk has taken.
        let missing = last.seq + 1 - next - i64::try_from(fresh.len()).unwrap_or(i64::MAX);
        connection.execute_each(INSERT, &sets)?;
        // In the order of their keys, so that two gateways never wait for each other in a circle.
        connection.execute_each(ADD_LIFE, &lives(boot, &days))?;
        connection.execute_each(ADD_HOUR, &sums(hours))?;
        connection.execute_each(ADD_DAY, &sums(days))?;
        connection.execute(
            "UPDATE usage_boots SET next_seq = $2, notes = notes + $3, lost = lost + $4, lost_peur = lost_peur + $5
             WHERE boot = $1",
            &[
                boot.boot.as_str().into(),
                (last.seq + 1).into(),
                (notes + missing).into(),
                lost.saturating_add(missing).into(),
                lost_peur.into(),
            ],
        )?;
        Ok(())
    })
}

/// Notes that a row was put aside instead of being stored.
///
/// # Errors
/// [`StoreError`].
pub fn reject(connection: &mut Connection, boot: &Boot, seq: i64) -> Result<(), StoreError> {
    connection.transaction(|connection| {
        if next_seq(connection, boot, seq)? <= seq {
            connection.execute(
                "UPDATE usage_boots SET next_seq = $2, rejected = rejected + 1 WHERE boot = $1",
                &[boot.boot.as_str().into(), (seq + 1).into()],
            )?;
        }
        Ok(())
    })
}

/// The first number of a life that is not stored; keeps others from storing for it until the transaction ends.
fn next_seq(connection: &mut Connection, boot: &Boot, first: i64) -> Result<i64, StoreError> {
    let id = Value::from(boot.boot.as_str());
    // An update, because it locks the row in both databases.
    let lock = "UPDATE usage_boots SET next_seq = next_seq WHERE boot = $1 RETURNING next_seq";
    if let Some(row) = connection.query(lock, std::slice::from_ref(&id))?.first() {
        return row.int(0);
    }
    connection.execute(
        "INSERT INTO usage_boots (boot, node, started_ms, first_seq, next_seq) VALUES ($1, $2, $3, $4, $4)",
        &[id, boot.node.as_str().into(), boot.started_ms.into(), first.into()],
    )?;
    Ok(first)
}

fn values(boot: &Boot, seq: i64, row: &UsageRow) -> Vec<Value> {
    vec![
        boot.boot.as_str().into(),
        seq.into(),
        row.time_ms.into(),
        row.request_id.as_str().into(),
        row.tenant.as_str().into(),
        row.key_id.as_str().into(),
        row.model.as_str().into(),
        row.server.as_str().into(),
        row.endpoint.as_str().into(),
        row.status.into(),
        row.outcome.as_str().into(),
        row.is_streaming.into(),
        row.attempts.into(),
        row.input_tokens.into(),
        row.cached_input_tokens.into(),
        row.system_tokens.into(),
        row.output_tokens.into(),
        row.reasoning_tokens.into(),
        row.input_source.as_str().into(),
        row.output_source.as_str().into(),
        row.reasoning_source.as_str().into(),
        row.cost_peur.into(),
        row.energy_nwh.into(),
        row.ttft_us.into(),
        row.duration_us.into(),
    ]
}

fn add(sums: &mut Added, time: i64, row: &UsageRow) {
    let key = (time, row.tenant.clone(), row.key_id.clone(), row.model.clone());
    let more = [
        1,
        row.input_tokens,
        row.cached_input_tokens,
        row.system_tokens,
        row.output_tokens,
        row.reasoning_tokens,
        row.cost_peur,
        row.energy_nwh.unwrap_or(0),
    ];
    let sum = sums.entry(key).or_default();
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

fn sums(added: Added) -> Vec<Vec<Value>> {
    let set = |((time, tenant, key_id, model), sums): ((i64, String, String, String), [i64; 8])| {
        let mut values = vec![time.into(), tenant.into(), key_id.into(), model.into()];
        values.extend(sums.map(Value::Int));
        values
    };
    added.into_iter().map(set).collect()
}

/// The part of one life in the sums of days.
fn lives(boot: &Boot, days: &Added) -> Vec<Vec<Value>> {
    let set = |((day, tenant, key_id, model), sums): (&(i64, String, String, String), &[i64; 8])| {
        let [_, input, _, _, output, reasoning, cost_peur, _] = *sums;
        vec![
            boot.boot.as_str().into(),
            (*day).into(),
            tenant.as_str().into(),
            key_id.as_str().into(),
            model.as_str().into(),
            (input + output + reasoning).into(),
            cost_peur.into(),
        ]
    };
    days.iter().map(set).collect()
}

/// What a tenant's key has used of a model in one life of a gateway, as far as limits reach back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// The life. What was stored before lives were told apart is of one that never was.
    pub life: String,
    /// Who pays.
    pub tenant: String,
    /// With which key.
    pub key_id: String,
    /// For which model, by its catalogue name.
    pub model: String,
    /// Input and output tokens of all kinds on the day, UTC.
    pub tokens_today: u64,
    /// Cost in the calendar month, UTC.
    pub cost_this_month: PicoEur,
}

/// What was used, by all gateways of the same store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// The moment whose day and month they are of.
    pub at: DateTime<Utc>,
    /// One for each life, tenant, key and model that used anything.
    pub totals: Vec<Total>,
}

/// Whose use it was: tenant, key and model.
type User = (String, String, String);

/// Sums up the day and the month of `at`.
///
/// # Errors
/// [`StoreError`].
pub fn totals(connection: &mut Connection, at: DateTime<Utc>) -> Result<Totals, StoreError> {
    let today = at.timestamp().div_euclid(86_400);
    let first = today - i64::from(at.day0());
    connection.snapshot(|connection| {
        let of_lives = connection.query(
            "SELECT tenant, key_id, model, CAST(SUM(CASE WHEN day = $1 THEN tokens ELSE 0 END) AS BIGINT),
             CAST(SUM(CASE WHEN day >= $2 THEN cost_peur ELSE 0 END) AS BIGINT), boot
             FROM usage_lives WHERE day >= $2 GROUP BY tenant, key_id, model, boot ORDER BY boot, tenant, key_id, model",
            &[today.into(), first.into()],
        )?;
        let of_all = connection.query(
            "SELECT tenant, key_id, model,
             CAST(SUM(CASE WHEN day = $1 THEN input_tokens + output_tokens + reasoning_tokens ELSE 0 END) AS BIGINT),
             CAST(SUM(CASE WHEN day >= $2 THEN cost_peur ELSE 0 END) AS BIGINT)
             FROM usage_days WHERE day >= $2 GROUP BY tenant, key_id, model ORDER BY tenant, key_id, model",
            &[today.into(), first.into()],
        )?;
        let mut totals = Vec::with_capacity(of_lives.len());
        let mut known = BTreeMap::<User, (i64, i64)>::new();
        for row in &of_lives {
            let (user, tokens, cost) = (user_of(row)?, row.int(3)?, row.int(4)?);
            totals.push(of_life(row.text(5)?, user.clone(), tokens, cost));
            let sums = known.entry(user).or_default();
            (sums.0, sums.1) = (sums.0 + tokens, sums.1 + cost);
        }
        // Named after the first life here, so that everybody who reads this ledger, and nobody who reads another one,
        // means the same by it.
        let oldest = connection.query("SELECT boot FROM usage_boots ORDER BY started_ms, boot LIMIT 1", &[])?;
        let rest = format!("before-{}", oldest.first().map_or(Ok(""), |row| row.text(0))?);
        for row in &of_all {
            let user = user_of(row)?;
            let (tokens, cost) = known.get(&user).copied().unwrap_or_default();
            let (tokens, cost) = ((row.int(3)? - tokens).max(0), (row.int(4)? - cost).max(0));
            if tokens > 0 || cost > 0 {
                totals.push(of_life(&rest, user, tokens, cost));
            }
        }
        Ok(Totals { at, totals })
    })
}

fn user_of(row: &Row) -> Result<User, StoreError> {
    Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.text(2)?.to_owned()))
}

fn of_life(life: &str, (tenant, key_id, model): User, tokens: i64, cost: i64) -> Total {
    Total {
        life: life.to_owned(),
        tenant,
        key_id,
        model,
        tokens_today: tokens.unsigned_abs(),
        cost_this_month: PicoEur(cost.unsigned_abs().into()),
    }
}
