//! `limits.store` and `limits.shared` of tollgate.yaml: servers that one connection can be made to.

use super::gateway::millis;
use super::pem;
use crate::config::fault::{At, Faults};
use crate::config::kind::Listed;
use crate::config::schema::gateway::Limits;
use crate::config::schema::shared::{Shared, Store, StoreUrl};
use crate::config::secret::{SecretRef, Sources};
use crate::config::settings::{Secret, SharedLimits};

/// Where servers listen.
const PORT: u16 = 6379;
/// Where Sentinels do.
const SENTINEL_PORT: u16 = 26_379;

/// Checks both; `None` for limits that each gateway counts by itself.
pub(super) fn shared(written: Limits, sources: &Sources<'_>, faults: &mut Faults) -> Option<SharedLimits> {
    let (store, at) = (written.store.value, written.store.place);
    let shared: Shared = written.shared.value;
    let ca = shared.ca.value.as_ref().map(|ca| sources.dir.join(ca));
    if let Some(path) = &ca {
        faults.keep(&shared.ca.place, pem::certificates(path));
    }
    let mut secret = |from: At<Option<SecretRef>>| -> Option<Secret> {
        let At { value, place } = from;
        sources.secret(&At { value: value?, place }, faults)
    };
    let (has_user, user_place) = (shared.user.value.is_some(), shared.user.place.clone());
    let has_password = shared.password.value.is_some();
    let (user, password) = (secret(shared.user), secret(shared.password));
    let sentinel_password = secret(shared.sentinel_password);
    if has_user && !has_password {
        faults.push(&user_place, "expected `password` beside it, found none");
    }
    let Some(Store::Servers(list)) = store else { return None };
    if list.items.is_empty() && !faults.has_below(&at) {
        faults.push(&at, "expected at least one server, found none");
    }
    let sentinel_master = shared.sentinel_master.value;
    let port = if sentinel_master.is_some() { SENTINEL_PORT } else { PORT };
    alike(&list, faults);
    let first = list.items.first()?.value.clone();
    Some(SharedLimits {
        servers: list
            .items
            .into_iter()
            .map(|item| (item.value.host, item.value.port.unwrap_or(port)))
            .collect(),
        database: first.database,
        is_tls: first.is_tls,
        ca,
        user,
        password,
        sentinel_master,
        sentinel_password,
        slice_percent: shared.slice_percent.value,
        timeout: millis(&shared.timeout_ms),
        when_down: shared.when_down.value,
        gateways: shared.gateways.value,
    })
}

/// Whichever of them is in charge, it is spoken to in the same way.
fn alike(list: &Listed<StoreUrl>, faults: &mut Faults) {
    let Some(first) = list.items.first() else { return };
    for other in &list.items[1..] {
        if (other.value.is_tls, other.value.database) != (first.value.is_tls, first.value.database) {
            faults
                .push(&other.place, "expected the scheme and the database of the first server, found others");
        }
    }
}
