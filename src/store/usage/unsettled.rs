//! Requests that were in work when their gateway was killed: nobody knows what they came to.

use std::collections::HashSet;

use super::Filter;
use crate::ledger::{Begun, Boot};
use crate::store::{Connection, Row, StoreError};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// The name of its gateway, and the life that was ended.
    pub node: String,
    /// That life.
    pub boot: String,
    /// What is known of it.
    pub request: Begun,
}

/// Stores those that have no row. Again and again does no harm. Gives how many there were.
///
/// # Errors
/// [`StoreError`].
pub fn note_unsettled(
    connection: &mut Connection,
    boot: &Boot,
    requests: &[Begun],
) -> Result<usize, StoreError> {
    let Some(first) = requests.iter().map(|request| request.time_ms).min() else { return Ok(0) };
    connection.transaction(|connection| {
        // The kill may have come between a row and the note that its request has ended.
        let rows = connection.query(
            "SELECT request_id, time_ms FROM usage_rows WHERE boot = $1 AND time_ms >= $2",
            &[boot.boot.as_str().into(), first.into()],
        )?;
        let settled: HashSet<(&str, i64)> =
            rows.iter().map(|row| Ok((row.text(0)?, row.int(1)?))).collect::<Result<_, StoreError>>()?;
        let without = |request: &&Begun| !settled.contains(&(request.request_id.as_str(), request.time_ms));
        let sets: Vec<_> = requests
            .iter()
            .filter(without)
            .map(|request| {
                vec![
                    boot.boot.as_str().into(),
                    request.time_ms.into(),
                    request.request_id.as_str().into(),
                    request.tenant.as_str().into(),
                    request.key_id.as_str().into(),
                    request.model.as_str().into(),
                    request.endpoint.as_str().into(),
                    request.input_tokens.into(),
                    request.output_tokens.into(),
                ]
            })
            .collect();
        connection.execute_each(
            "INSERT INTO usage_unsettled (boot, time_ms, request_id, tenant, key_id, model, endpoint, input_tokens,
             output_tokens) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            &sets,
        )?;
        Ok(sets.len())
    })
}

/// Those of the days, tenant, key and model of `filter`, in the order in which they came.
///
/// # Errors
/// [`StoreError`].
pub fn unsettled(connection: &mut Connection, filter: &Filter) -> Result<Vec<Unsettled>, StoreError> {
    let midnight =
        |date: chrono::NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    let end = filter.to.succ_opt().map_or(i64::MAX, midnight);
    let rows = connection.query(
        "SELECT u.boot, u.time_ms, u.request_id, u.tenant, u.key_id, u.model, u.endpoint, u.input_tokens,
         u.output_tokens, COALESCE(b.node, '') FROM usage_unsettled u LEFT JOIN usage_boots b ON b.boot = u.boot
         WHERE u.time_ms >= $1 AND u.time_ms < $2 ORDER BY u.time_ms, u.request_id",
        &[midnight(filter.from).into(), end.into()],
    )?;
    let found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    let fits = |found: &Unsettled| {
        let request = &found.request;
        is(&filter.tenant, &request.tenant)
            && is(&filter.key, &request.key_id)
            && is(&filter.model, &request.model)
    };
    Ok(found.into_iter().filter(fits).collect())
}

fn read(row: &Row) -> Result<Unsettled, StoreError> {
    Ok(Unsettled {
        boot: row.text(0)?.to_owned(),
        node: row.text(9)?.to_owned(),
        request: Begun {
            id: 0,
            time_ms: row.int(1)?,
            request_id: row.text(2)?.to_owned(),
            tenant: row.text(3)?.to_owned(),
            key_id: row.text(4)?.to_owned(),
            model: row.text(5)?.to_owned(),
            endpoint: row.text(6)?.to_owned(),
            input_tokens: row.int(7)?,
            output_tokens: row.int(8)?,
        },
    })
}
