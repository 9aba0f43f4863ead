//! `/admin/v1/keys`: the keys of the store, and those that the configuration declares beside them. A secret is in the
//! answer to `create` and `rotate` and nowhere else.

use http::StatusCode;
use serde_json::{Map, Value as Json, json};
use tollgate_filters::units::Moment;

use super::api::{Answer, ApiError, Call};
use crate::calendar;
use crate::keys::actions::{self, KeyError};
use crate::keys::record::{KeySpec, Life, Record, declared_json};
use crate::keys::spec::SpecFault;
use crate::store::keys::{self as store, Filter};

/// Keys in one answer, where nothing else is asked for.
const PAGE: usize = 100;
/// Keys in one answer at most.
const MAX_PAGE: usize = 1_000;

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        let message = error.to_string();
        match error {
            KeyError::Unknown(_) => Self::not_found(message),
            KeyError::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", message),
            KeyError::Field(SpecFault { field, message }) => Self::field(&field, message),
            KeyError::NoRandom => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "no_random_numbers", message),
            KeyError::Store(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", message),
        }
    }
}

impl From<SpecFault> for ApiError {
    fn from(fault: SpecFault) -> Self {
        Self::field(&fault.field, fault.message)
    }
}

/// `GET /admin/v1/keys?tenant=&state=&limit=&after=`
pub(super) async fn list(call: &Call) -> Answer {
    let now = calendar::now();
    let mut filter = Filter::default();
    let mut limit = PAGE;
    for (name, value) in call.query(&["tenant", "state", "limit", "after"])? {
        match name.as_str() {
            "tenant" => filter.tenant = Some(value.clone()),
            "after" => filter.after.clone_from(value),
            "state" => filter.life = Some(life(value)?),
            _ => {
                let number = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                limit = number.ok_or_else(|| {
                    ApiError::field(
                        "limit",
                        format!("expected a whole number from 1 to {MAX_PAGE}, found {value:?}"),
                    )
                })?;
            }
        }
    }
    let asked = filter.clone();
    // One more than is shown tells whether there is another page.
    let more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let stored =
        call.state.keys.run(move |connection| Ok(store::list(connection, &asked, now, more)?)).await?;
    let mut keys: Vec<(String, Json)> = Vec::new();
    for record in stored {
        keys.push((record.id.clone(), shown(call, &record, now)));
    }
    for entry in call.stages.keyring.declared() {
        let json = declared_json(entry, now);
        let is_asked = *entry.key.id > *filter.after
            && filter.tenant.as_deref().is_none_or(|tenant| tenant == &*entry.terms.tenant)
            && filter.life.is_none_or(|life| json["state"] == life.label());
        if is_asked {
            keys.push((entry.key.id.to_string(), json));
        }
    }
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    let next = keys.last().filter(|_| has_more).map(|(id, _)| id.clone());
    let keys: Vec<Json> = keys.into_iter().map(|(_, json)| json).collect();
    Ok((StatusCode::OK, json!({"keys": keys, "next": next})))
}

/// `POST /admin/v1/keys`
pub(super) async fn create(call: &Call) -> Answer {
    let now = calendar::now();
    let fields = call.object()?;
    let spec = KeySpec::read(&fields)?;
    let settings = &call.stages.settings;
    spec.check(settings, None, now)?;
    let id = match fields.get("id") {
        None | Some(Json::Null) => None,
        Some(Json::String(id)) => Some(id.clone()),
        Some(_) => return Err(ApiError::field("id", "expected a text")),
    };
    if let Some(id) = id.as_deref().filter(|id| call.stages.keyring.get_declared(id).is_some()) {
        return Err(
            KeyError::Conflict(format!("tenants.yaml declares a key {id:?}; choose another id")).into()
        );
    }
    let pepper = settings.auth.pepper.clone();
    let work = move |connection: &mut _| actions::create(connection, id.as_deref(), &spec, &pepper, now);
    let (record, key) = call.state.keys.run(work).await?;
    call.state.keys.took(&call.state, &record);
    call.log(&format!("made key {} for tenant {}", record.id, record.spec.tenant));
    Ok((StatusCode::CREATED, json!({"key": shown(call, &record, now), "secret": key})))
}

/// `GET /admin/v1/keys/{id}`
pub(super) async fn show(call: &Call, id: &str) -> Answer {
    let now = calendar::now();
    if let Some(entry) = call.stages.keyring.get_declared(id) {
        return Ok((StatusCode::OK, json!({"key": declared_json(entry, now)})));
    }
    let asked = id.to_owned();
    let record = call.state.keys.run(move |connection| actions::get(connection, &asked)).await?;
    Ok((StatusCode::OK, json!({"key": shown(call, &record, now)})))
}

/// `PATCH /admin/v1/keys/{id}`
pub(super) async fn change(call: &Call, id: &str) -> Answer {
    let now = calendar::now();
    let fields = call.object()?;
    if fields.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            "expected fields to change, found none",
        ));
    }
    // Checked against what is in the store, under the lock that keeps it so.
    let (names, stages) = (names(&fields), std::sync::Arc::clone(&call.stages));
    let work = move |connection: &mut _, id: &str| {
        actions::change(connection, id, now, |record| {
            let before = record.spec.clone();
            for (field, value) in &fields {
                record.spec.set(field, value)?;
            }
            Ok(record.spec.check(&stages.settings, Some(&before), now)?)
        })
    };
    done(call, id, &format!("changed {names} of"), work).await
}

/// `DELETE /admin/v1/keys/{id}`
pub(super) async fn delete(call: &Call, id: &str) -> Answer {
    let now = calendar::now();
    done(call, id, "deleted", move |connection, id| actions::delete(connection, id, now)).await?;
    Ok((StatusCode::OK, json!({"deleted": id})))
}

/// `POST /admin/v1/keys/{id}/rotate`
pub(super) async fn rotate(call: &Call, id: &str) -> Answer {
    let now = calendar::now();
    let (mut grace, mut force) = (None, false);
    for (field, value) in &call.object()? {
        match (field.as_str(), value) {
            ("grace_s", Json::Null) => {}
            ("grace_s", value) => {
                // The same bounds as those of the field.
                let mut spec = KeySpec::default();
                spec.set("rotation_grace_s", value)
                    .map_err(|fault| ApiError::field("grace_s", fault.message))?;
                grace = spec.rotation_grace_s;
            }
            ("force", Json::Bool(value)) => force = *value,
            ("force", _) => return Err(ApiError::field("force", "expected true or false")),
            _ => return Err(ApiError::field(field, "unknown field; known are grace_s, force")),
        }
    }
    not_declared(call, id)?;
    let (pepper, usual) = (call.stages.settings.auth.pepper.clone(), std::sync::Arc::clone(&call.stages));
    let asked = id.to_owned();
    let work = move |connection: &mut _| {
        let record = actions::get(connection, &asked)?;
        let grace = grace.unwrap_or_else(|| record.spec.grace_s(&usual.settings));
        actions::rotate(connection, &asked, grace, force, &pepper, now)
    };
    let (record, key) = call.state.keys.run(work).await?;
    call.state.keys.took(&call.state, &record);
    call.log(&format!("rotated key {} of tenant {}", record.id, record.spec.tenant));
    Ok((StatusCode::OK, json!({"key": shown(call, &record, now), "secret": key})))
}

/// `POST /admin/v1/keys/{id}/revoke`
pub(super) async fn revoke(call: &Call, id: &str) -> Answer {
    let now = calendar::now();
    done(call, id, "revoked", move |connection, id| actions::revoke(connection, id, now)).await
}

/// `POST /admin/v1/keys/{id}/expire`
pub(super) async fn expire(call: &Call, id: &str) -> Answer {
    let now = calendar::now();
    let mut at = Some(now);
    for (field, value) in &call.object()? {
        if field != "at" {
            return Err(ApiError::field(field, "unknown field; known is at"));
        }
        let mut spec = KeySpec::default();
        spec.set("expires", value).map_err(|fault| ApiError::field("at", fault.message))?;
        at = spec.expires;
    }
    let what = at.map_or_else(
        || "took the end from".to_owned(),
        |at| format!("set the end to {} of", calendar::show(at)),
    );
    done(call, id, &what, move |connection, id| actions::expire(connection, id, at, now)).await
}

/// Does something to a key of the store, takes it in force here at once, and leaves a line about it.
async fn done(
    call: &Call,
    id: &str,
    what: &str,
    work: impl FnOnce(&mut crate::store::Connection, &str) -> Result<Record, KeyError> + Send + 'static,
) -> Answer {
    not_declared(call, id)?;
    let asked = id.to_owned();
    let record = call.state.keys.run(move |connection| work(connection, &asked)).await?;
    call.state.keys.took(&call.state, &record);
    call.log(&format!("{what} key {} of tenant {}", record.id, record.spec.tenant));
    Ok((StatusCode::OK, json!({"key": shown(call, &record, calendar::now())})))
}

fn not_declared(call: &Call, id: &str) -> Result<(), ApiError> {
    match call.stages.keyring.get_declared(id) {
        Some(_) => {
            Err(KeyError::Conflict(format!("the key {id:?} is declared in tenants.yaml; change it there"))
                .into())
        }
        None => Ok(()),
    }
}

/// A record with the uses that this process knows of and has not written yet.
fn shown(call: &Call, record: &Record, now: Moment) -> Json {
    let mut record = record.clone();
    if let Some(entry) = call.stages.keyring.get_stored(&record.id) {
        let (used, previous_used) = entry.key.used();
        let later = |known: Option<Moment>, used: Moment| known.max(Some(used)).filter(|used| used.0 > 0);
        record.used = later(record.used, used);
        if let Some(previous) = &mut record.previous {
            previous.used = later(previous.used, previous_used);
        }
    }
    record.to_json(now)
}

fn life(label: &str) -> Result<Life, ApiError> {
    let all = [Life::Active, Life::Rotating, Life::Expired, Life::Revoked];
    all.into_iter().find(|life| life.label() == label).ok_or_else(|| {
        ApiError::field("state", format!("expected active, rotating, expired or revoked, found {label:?}"))
    })
}

fn names(fields: &Map<String, Json>) -> String {
    fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}
