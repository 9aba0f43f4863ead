//! `admin` and `keys` of `tollgate.yaml`.

use serde_json::Value as Json;

use super::{Tree, hidden, list, millis, path, value};
use crate::config::settings::{Admin, AdminToken, Keys, Webhook};

pub(super) fn of_admin(admin: &Admin) -> Tree {
    let Admin { address, tokens } = admin;
    map! {
        address: value(address.to_string()),
        tokens: list(tokens, |token| token.name.clone(), |AdminToken { name, role, token }| {
            map! { name: value(name), role: value(role.label()), token: hidden(token) }
        }),
    }
}

pub(super) fn of_keys(keys: &Keys) -> Tree {
    let Keys { rotation_grace, rotation_folder, poll, snapshot, webhook } = keys;
    let of_webhook = |webhook: &Webhook| {
        let Webhook { url, secret, ca, timeout, attempts } = webhook;
        map! {
            url: value(url.to_string()),
            secret: hidden(secret),
            ca: ca.as_deref().map_or(value(Json::Null), path),
            timeout_ms: millis(*timeout),
            attempts: value(attempts),
        }
    };
    map! {
        rotation_grace_s: value(rotation_grace.as_secs()),
        rotation_folder: rotation_folder.as_deref().map_or(value(Json::Null), path),
        poll_ms: millis(*poll),
        snapshot: snapshot.as_deref().map_or(value(Json::Null), path),
        webhook: webhook.as_ref().map_or(value(Json::Null), of_webhook),
    }
}
