//! `limits.store` and `limits.shared` of `tollgate.yaml`.

use serde_json::Value as Json;
use tollgate_filters::request::quota::WhenDown;

use super::{Tree, hidden, millis, path, value};
use crate::config::settings::{Secret, SharedLimits};

pub(super) fn of_shared(shared: &SharedLimits) -> Tree {
    let SharedLimits {
        servers,
        database,
        is_tls,
        ca,
        user,
        password,
        sentinel_master,
        sentinel_password,
        slice_percent,
        timeout,
        when_down: down,
        gateways,
    } = shared;
    let secret = |secret: &Option<Secret>| secret.as_ref().map_or(value(Json::Null), hidden);
    let servers: Vec<_> = servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    map! {
        servers: value(servers),
        database: value(database),
        tls: value(is_tls),
        ca: ca.as_deref().map_or(value(Json::Null), path),
        user: secret(user),
        password: secret(password),
        sentinel_master: value(sentinel_master),
        sentinel_password: secret(sentinel_password),
        slice_percent: value(slice_percent),
        timeout_ms: millis(*timeout),
        when_down: value(when_down(*down)),
        gateways: value(gateways),
    }
}

/// Its name in the files.
pub(super) fn when_down(when_down: WhenDown) -> &'static str {
    match when_down {
        WhenDown::Open => "open",
        WhenDown::Closed => "closed",
    }
}
