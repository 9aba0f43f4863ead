//! What can be done to a key, on a connection to the store: the same for `/admin/v1/keys` and for `tollgate key`. The
//! caller has checked names against the configuration; what is decided here holds whatever another process does at
//! the same time.

use std::fmt;

use tollgate_filters::units::Moment;

use super::record::{KeySpec, Life, Previous, Record};
use super::spec::SpecFault;
use super::{agenda, secret};
use crate::calendar::show;
use crate::config::hash_key;
use crate::config::settings::Secret;
use crate::store::{Connection, StoreError, keys as store};

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// There is no such key.
    Unknown(String),
    /// It cannot be done to this key as it is; in words.
    Conflict(String),
    /// A field is wrong.
    Field(SpecFault),
    /// The system gives no random numbers.
    NoRandom,
    /// The store did not do it.
    Store(StoreError),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "there is no key {id:?} in the store"),
            Self::Conflict(why) => f.write_str(why),
            Self::Field(fault) => fault.fmt(f),
            Self::NoRandom => f.write_str("the system gives no random numbers; no secret was made"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeyError {}

impl From<StoreError> for KeyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SpecFault> for KeyError {
    fn from(fault: SpecFault) -> Self {
        Self::Field(fault)
    }
}

impl From<ring::error::Unspecified> for KeyError {
    fn from(_: ring::error::Unspecified) -> Self {
        Self::NoRandom
    }
}

/// Makes a key: its record and the whole key, which nobody can show again.
///
/// # Errors
/// [`KeyError`]; nothing has changed.
pub fn create(
    connection: &mut Connection,
    id: Option<&str>,
    spec: &KeySpec,
    pepper: &Secret,
    now: Moment,
) -> Result<(Record, String), KeyError> {
    let id = match id {
        Some(id) if secret::is_id(id) => id.to_owned(),
        Some(id) => {
            let message = format!("expected 4 to 32 of a-z and 0-9, found {id:?}");
            return Err(SpecFault { field: "id".to_owned(), message }.into());
        }
        None => secret::new_id()?,
    };
    let key = secret::new_key(&id)?;
    let mut record = Record::new(id, spec.clone(), hash_key(pepper, &key), now);
    record.notice = agenda::next(&record, now).map(|(at, _)| at);
    if store::insert(connection, &mut record)? {
        Ok((record, key))
    } else {
        Err(KeyError::Conflict(format!(
            "the id {:?} is taken, or was by a key that is deleted; choose another",
            record.id
        )))
    }
}

/// A key.
///
/// # Errors
/// [`KeyError`].
pub fn get(connection: &mut Connection, id: &str) -> Result<Record, KeyError> {
    store::get(connection, id)?.ok_or_else(|| KeyError::Unknown(id.to_owned()))
}

/// Gives a key a new secret; the old one works for `grace_s` seconds more.
///
/// # Errors
/// [`KeyError::Conflict`] for a key that does not work any more, and, unless `force`, for one whose last rotation is
/// still under way: the secret before last would end at once.
pub fn rotate(
    connection: &mut Connection,
    id: &str,
    grace_s: u64,
    force: bool,
    pepper: &Secret,
    now: Moment,
) -> Result<(Record, String), KeyError> {
    let key = secret::new_key(id)?;
    let hash = hash_key(pepper, &key);
    let record = change(connection, id, now, |record| {
        let life = record.life(now);
        match (life, &record.previous) {
            (Life::Revoked | Life::Expired, _) => {
                return Err(KeyError::Conflict(format!("the key is {}; make a new one", life.label())));
            }
            (Life::Rotating, Some(previous)) if !force => {
                return Err(KeyError::Conflict(format!(
                    "the last rotation is under way: the secret before works until {}; with `force` it ends at once",
                    show(previous.until)
                )));
            }
            _ => {}
        }
        replace_secret(record, hash, grace_s, now);
        Ok(())
    })?;
    Ok((record, key))
}

/// Puts a new secret in the place of the one that works.
pub(super) fn replace_secret(record: &mut Record, hash: [u8; 32], grace_s: u64, now: Moment) {
    let until = Moment(now.0.saturating_add(grace_s));
    record.previous = Some(Previous { hash: record.hash, until, used: record.used });
    record.hash = hash;
    record.rotated = Some(now);
    record.told = 0;
}

/// Ends a key for good. Ending it twice is no fault.
///
/// # Errors
/// [`KeyError`].
pub fn revoke(connection: &mut Connection, id: &str, now: Moment) -> Result<Record, KeyError> {
    change(connection, id, now, |record| {
        record.revoked = record.revoked.or(Some(now));
        Ok(())
    })
}

/// Sets the end of a key; `None` is no end.
///
/// # Errors
/// [`KeyError`].
pub fn expire(
    connection: &mut Connection,
    id: &str,
    at: Option<Moment>,
    now: Moment,
) -> Result<Record, KeyError> {
    change(connection, id, now, |record| {
        record.spec.expires = at;
        Ok(())
    })
}

/// Takes a key out of every list. Its id is not given again.
///
/// # Errors
/// [`KeyError`].
pub fn delete(connection: &mut Connection, id: &str, now: Moment) -> Result<Record, KeyError> {
    change(connection, id, now, |record| {
        record.revoked = record.revoked.or(Some(now));
        record.deleted = Some(now);
        // Nothing can be proven with it any more.
        record.hash = [0; 32];
        record.previous = None;
        Ok(())
    })
}

/// Changes what is said about a key.
///
/// # Errors
/// [`KeyError`].
pub fn change(
    connection: &mut Connection,
    id: &str,
    now: Moment,
    work: impl FnOnce(&mut Record) -> Result<(), KeyError>,
) -> Result<Record, KeyError> {
    let changed = store::update(connection, id, |record| {
        work(record)?;
        record.notice = agenda::next(record, now).map(|(at, _)| at);
        Ok(())
    })?;
    changed.ok_or_else(|| KeyError::Unknown(id.to_owned()))?
}
