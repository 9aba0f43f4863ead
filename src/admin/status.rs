//! How the gateway is doing, for people and programs: `/readyz` without a token, `/admin/v1/status` with one.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::{Value as Json, json};
use tollgate_filters::request::upstream::health::Standing;
use tollgate_filters::units::Moment;

use super::api::{Answer, Call};
use crate::calendar::show;
use crate::state::State;

/// Whether it is ready, and what that rests on.
pub(super) fn readiness(state: &State) -> Json {
    let stages = state.stages.load();
    let now = state.now();
    let up = stages.servers.iter().filter(|server| server.load.health.standing(now) != Standing::Down);
    let keys = state.keys.status();
    json!({
        "ready": state.is_ready(),
        "draining": state.is_draining.load(Ordering::Relaxed),
        // Not a reason to send traffic elsewhere: requests are served without it.
        "store": {"up": state.store.status().is_up(), "kind": stages.settings.storage.place.kind()},
        // Nor is this: known keys go on working.
        "keys": {
            "store_up": state.keys.is_store_up(),
            "stored": keys.stored.load(Ordering::Relaxed),
            "from_snapshot": keys.is_from_snapshot.load(Ordering::Relaxed),
            "age_ms": age_ms(state),
        },
        // Nor this: while it is away limits say themselves whether requests go on. Absent where none are shared.
        "limits": state.shared.as_ref().map(|shared| {
            json!({"store_up": shared.is_up(), "gateways": shared.gateways()})
        }),
        // Rows that the store does not have wait in the journal.
        "ledger": state.ledger.as_ref().map(|ledger| {
            let figures = ledger.figures();
            json!({"pending_bytes": figures.pending_bytes, "lost_rows": figures.lost})
        }),
        "servers": {"up": up.count(), "total": stages.servers.len()},
    })
}

/// How long ago the keys were compared with the store; `None` if they never were.
fn age_ms(state: &State) -> Option<u64> {
    let fresh = state.keys.status().fresh_ms.load(Ordering::Relaxed);
    let now = u64::try_from(state.now().as_millis()).unwrap_or(u64::MAX);
    (fresh > 0).then(|| now.saturating_sub(fresh))
}

/// `GET /admin/v1/status`
pub(super) fn status(call: &Call) -> Answer {
    let state = &call.state;
    let keys = state.keys.status();
    let count = |count: &std::sync::atomic::AtomicI64| count.load(Ordering::Relaxed);
    let end = keys.next_end.load(Ordering::Relaxed);
    let written = keys.snapshot_written.load(Ordering::Relaxed);
    let mut status = readiness(state);
    status["version"] = env!("CARGO_PKG_VERSION").into();
    status["uptime_s"] = state.now().as_secs().into();
    status["requests_in_flight"] = state.in_flight.load(Ordering::Relaxed).into();
    status["keys"]["declared"] = call.stages.keyring.declared().count().into();
    status["keys"]["rotating"] = count(&keys.rotating).into();
    status["keys"]["rotation_overdue"] = count(&keys.overdue).into();
    status["keys"]["without_tenant_or_tier"] = count(&keys.homeless).into();
    status["keys"]["clashing"] = count(&keys.clashing).into();
    status["keys"]["next_previous_secret_ends"] = (end > 0).then(|| show(Moment(end))).into();
    status["keys"]["snapshot_written"] = (written > 0).then(|| show(Moment(written))).into();
    Ok((StatusCode::OK, status))
}
