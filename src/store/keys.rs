//! API keys in the store. Every change takes a number from one counter; a gateway that knows the keys up to a number
//! asks for what came after it. See `migrations/` for the table.

use std::collections::BTreeMap;

use serde_json::json;
use tollgate_filters::request::auth::KeyHash;
use tollgate_filters::units::Moment;

use super::{Connection, Row, StoreError, Value};
use crate::keys::record::{KeySpec, Life, Previous, Record};

const COLUMNS: &str = "id, tenant, tier, models, endpoints, networks, labels, hash, previous_hash, previous_until_ms, \
    previous_used_ms, created_ms, rotated_ms, expires_ms, revoked_ms, deleted_ms, used_ms, rotate_every_s, \
    rotation_grace_s, told, notice_ms, change";

/// Which keys are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this tenant only.
    pub tenant: Option<String>,
    /// In this part of their life only.
    pub life: Option<Life>,
    /// After this id.
    pub after: String,
}

/// The number of the last change.
///
/// # Errors
/// [`StoreError`].
pub fn last_change(store: &mut Connection) -> Result<i64, StoreError> {
    let rows = store.query("SELECT change FROM api_key_changes WHERE one = 1", &[])?;
    rows.first()
        .map_or_else(|| Err(StoreError::Broken("api_key_changes is empty".to_owned())), |row| row.int(0))
}

/// Keys with a later change than this one, deleted ones included, in order of their changes.
///
/// # Errors
/// [`StoreError`].
pub fn changed_since(store: &mut Connection, change: i64, limit: i64) -> Result<Vec<Record>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE change > $1 ORDER BY change LIMIT $2");
    store.query(&sql, &[change.into(), limit.into()])?.iter().map(read).collect()
}

/// A key that is not deleted.
///
/// # Errors
/// [`StoreError`].
pub fn get(store: &mut Connection, id: &str) -> Result<Option<Record>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE id = $1 AND deleted_ms IS NULL");
    store.query(&sql, &[id.into()])?.first().map(read).transpose()
}

/// Keys in order of their ids, without those that are deleted.
///
/// # Errors
/// [`StoreError`].
pub fn list(
    store: &mut Connection,
    filter: &Filter,
    now: Moment,
    limit: i64,
) -> Result<Vec<Record>, StoreError> {
    let mut values: Vec<Value> = vec![filter.after.as_str().into(), limit.into()];
    let mut parts = vec!["id > $1".to_owned(), "deleted_ms IS NULL".to_owned()];
    if let Some(tenant) = &filter.tenant {
        values.push(tenant.as_str().into());
        parts.push(format!("tenant = ${}", values.len()));
    }
    if let Some(life) = filter.life {
        // Every parameter that is given has to occur.
        if life != Life::Revoked {
            values.push(ms(now).into());
        }
        let now = format!("${}", values.len());
        let is_alive = format!("revoked_ms IS NULL AND (expires_ms IS NULL OR expires_ms > {now})");
        let is_rotating = format!("(previous_until_ms IS NOT NULL AND previous_until_ms > {now})");
        parts.push(match life {
            Life::Active => format!("{is_alive} AND NOT {is_rotating}"),
            Life::Rotating => format!("{is_alive} AND {is_rotating}"),
            Life::Expired => format!("revoked_ms IS NULL AND expires_ms <= {now}"),
            Life::Revoked => "revoked_ms IS NOT NULL".to_owned(),
        });
    }
    let parts = parts.join(" AND ");
    let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE {parts} ORDER BY id LIMIT $2");
    store.query(&sql, &values)?.iter().map(read).collect()
}

/// Adds a key; `false` if there is or was one with its id.
///
/// # Errors
/// [`StoreError`].
pub fn insert(store: &mut Connection, record: &mut Record) -> Result<bool, StoreError> {
    store.transaction(|store| {
        record.change = take_number(store)?;
        let numbers = (1..=COLUMNS.split(',').count()).map(|number| format!("${number}"));
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT INTO api_keys ({COLUMNS}) VALUES ({numbers}) ON CONFLICT (id) DO NOTHING");
        Ok(store.execute(&sql, &write(record))? == 1)
    })
}

/// Changes a key that is not deleted, and gives it as it then is; `None` if there is none. With an error of `work` as
/// the inner result, nothing has changed.
///
/// # Errors
/// [`StoreError`].
pub fn update<E>(
    store: &mut Connection,
    id: &str,
    work: impl FnOnce(&mut Record) -> Result<(), E>,
) -> Result<Option<Result<Record, E>>, StoreError> {
    store.transaction(|store| {
        // First, since it makes all who change keys wait for each other.
        let change = take_number(store)?;
        let Some(mut record) = get(store, id)? else { return Ok(None) };
        if let Err(error) = work(&mut record) {
            // The number is lost, which only means that others look for a change that is not there.
            return Ok(Some(Err(error)));
        }
        record.change = change;
        save(store, &record)?;
        Ok(Some(Ok(record)))
    })
}

/// Keys for which there is something to do or to tell by `now`.
///
/// # Errors
/// [`StoreError`].
pub fn due(store: &mut Connection, now: Moment, limit: i64) -> Result<Vec<Record>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM api_keys WHERE notice_ms <= $1 AND deleted_ms IS NULL ORDER BY notice_ms LIMIT $2"
    );
    store.query(&sql, &[ms(now).into(), limit.into()])?.iter().map(read).collect()
}

/// Puts off what is due for a key until `until`; `false` if another gateway has done so before.
///
/// # Errors
/// [`StoreError`].
pub fn claim(store: &mut Connection, record: &Record, until: Moment) -> Result<bool, StoreError> {
    let notice = record.notice.map_or(0, ms);
    let sql = "UPDATE api_keys SET notice_ms = $1 WHERE id = $2 AND notice_ms = $3";
    Ok(store.execute(sql, &[ms(until).into(), record.id.as_str().into(), notice.into()])? == 1)
}

/// Notes what has been told about a key and when there is next something to tell, unless it was changed meanwhile: then
/// that is known from the change. No gateway has to hear of it.
///
/// # Errors
/// [`StoreError`].
pub fn note_told(
    store: &mut Connection,
    record: &Record,
    told: i64,
    notice: Option<Moment>,
) -> Result<bool, StoreError> {
    let sql = "UPDATE api_keys SET told = $1, notice_ms = $2 WHERE id = $3 AND change = $4";
    let values = [told.into(), notice.map(ms).into(), record.id.as_str().into(), record.change.into()];
    Ok(store.execute(sql, &values)? == 1)
}

/// Keys whose new secret is overdue, and has been announced as such.
///
/// # Errors
/// [`StoreError`].
pub fn count_overdue(store: &mut Connection, told_due: i64, now: Moment) -> Result<i64, StoreError> {
    let sql = "SELECT COUNT(*) FROM api_keys WHERE notice_ms IS NOT NULL AND told >= $1 AND revoked_ms IS NULL \
               AND deleted_ms IS NULL AND (expires_ms IS NULL OR expires_ms > $2)";
    store.query(sql, &[told_due.into(), ms(now).into()])?.first().map_or(Ok(0), |row| row.int(0))
}

/// A use of a key: its id, when it was last used, and when by the secret that was replaced.
pub type Use = (String, Moment, Moment);

/// Notes when keys were last used. A later use that is known already stays.
///
/// # Errors
/// [`StoreError`].
pub fn note_uses(store: &mut Connection, mut uses: Vec<Use>) -> Result<(), StoreError> {
    // Always in this order, so that two gateways do not wait for each other.
    uses.sort();
    let later = |column: &str, number: &str| {
        format!("{column} = CASE WHEN COALESCE({column}, 0) < {number} THEN {number} ELSE {column} END")
    };
    let sql = format!(
        "UPDATE api_keys SET {}, {} WHERE id = $3",
        later("used_ms", "$1"),
        later("previous_used_ms", "$2")
    );
    let sets: Vec<Vec<Value>> = uses
        .iter()
        .map(|(id, used, previous)| vec![ms(*used).into(), ms(*previous).into(), id.as_str().into()])
        .collect();
    store.transaction(|store| store.execute_each(&sql, &sets)).map(drop)
}

fn take_number(store: &mut Connection) -> Result<i64, StoreError> {
    store.execute("UPDATE api_key_changes SET change = change + 1 WHERE one = 1", &[])?;
    last_change(store)
}

fn save(store: &mut Connection, record: &Record) -> Result<(), StoreError> {
    let assignments: Vec<String> = COLUMNS
        .split(',')
        .enumerate()
        .map(|(index, name)| format!("{} = ${}", name.trim(), index + 1))
        .collect();
    let sql = format!("UPDATE api_keys SET {} WHERE id = $1", assignments.join(", "));
    store.execute(&sql, &write(record)).map(drop)
}

/// The values of [`COLUMNS`].
fn write(record: &Record) -> Vec<Value> {
    let spec = &record.spec;
    let list = |list: &Vec<String>| Value::Text(json!(list).to_string());
    let networks: Vec<String> = spec.source_networks.iter().map(ToString::to_string).collect();
    let moment = |moment: Option<Moment>| Value::from(moment.map(ms));
    let number =
        |number: Option<u64>| Value::from(number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)));
    let previous = record.previous.as_ref();
    vec![
        record.id.as_str().into(),
        spec.tenant.as_str().into(),
        spec.tier.as_deref().into(),
        spec.models.as_ref().map_or(Value::Null, list),
        spec.endpoints.as_ref().map_or(Value::Null, list),
        list(&networks),
        Value::Text(json!(spec.labels).to_string()),
        record.hash.to_vec().into(),
        previous.map(|previous| previous.hash.to_vec()).into(),
        moment(previous.map(|previous| previous.until)),
        moment(previous.and_then(|previous| previous.used)),
        ms(record.created).into(),
        moment(record.rotated),
        moment(spec.expires),
        moment(record.revoked),
        moment(record.deleted),
        moment(record.used),
        number(spec.rotate_every_s),
        number(spec.rotation_grace_s),
        record.told.into(),
        moment(record.notice),
        record.change.into(),
    ]
}

/// A record from a row of [`COLUMNS`].
fn read(row: &Row) -> Result<Record, StoreError> {
    let moment = |column| row.maybe_int(column).map(|ms| ms.map(from_ms));
    let number =
        |column| row.maybe_int(column).map(|number| number.and_then(|number| u64::try_from(number).ok()));
    let list = |column| row.maybe_text(column)?.map(parse::<Vec<String>>).transpose();
    let networks = parse::<Vec<String>>(row.text(5)?)?;
    let networks =
        networks.iter().map(|network| network.parse().map_err(broken)).collect::<Result<_, _>>()?;
    let previous = match (row.is_null(8), moment(9)?) {
        (false, Some(until)) => Some(Previous { hash: hash(row.bytes(8)?)?, until, used: moment(10)? }),
        _ => None,
    };
    Ok(Record {
        id: row.text(0)?.to_owned(),
        spec: KeySpec {
            tenant: row.text(1)?.to_owned(),
            tier: row.maybe_text(2)?.map(str::to_owned),
            models: list(3)?,
            endpoints: list(4)?,
            source_networks: networks,
            labels: parse::<BTreeMap<String, String>>(row.text(6)?)?,
            expires: moment(13)?,
            rotate_every_s: number(17)?,
            rotation_grace_s: number(18)?,
        },
        hash: hash(row.bytes(7)?)?,
        previous,
        created: from_ms(row.int(11)?),
        rotated: moment(12)?,
        revoked: moment(14)?,
        deleted: moment(15)?,
        used: moment(16)?.filter(|used| used.0 > 0),
        told: row.int(19)?,
        notice: moment(20)?,
        change: row.int(21)?,
    })
}

fn hash(bytes: &[u8]) -> Result<KeyHash, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Broken("a key's hash is not 32 bytes long".to_owned()))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> StoreError {
    StoreError::Broken(format!("a key in the store cannot be read: {error}"))
}

fn ms(moment: Moment) -> i64 {
    i64::try_from(moment.0.saturating_mul(1000)).unwrap_or(i64::MAX)
}

fn from_ms(ms: i64) -> Moment {
    Moment(u64::try_from(ms / 1000).unwrap_or(0))
}
