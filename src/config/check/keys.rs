//! `admin` and `keys` of `tollgate.yaml`: tokens that can be told apart, a webhook that can be reached.

use std::time::Duration;

use super::gateway::millis;
use super::{Unique, pem, small};
use crate::config::fault::{At, Faults};
use crate::config::schema::keys as schema;
use crate::config::secret::Sources;
use crate::config::settings::{Admin, AdminToken, Keys, Secret, Webhook};

/// Shorter tokens can be guessed.
const SHORTEST_TOKEN: usize = 16;

/// Checks and converts `admin`.
pub(super) fn admin(admin: schema::Admin, sources: &Sources<'_>, faults: &mut Faults) -> Admin {
    let mut names = Unique::default();
    let mut tokens: Vec<AdminToken> = Vec::new();
    for At { value: written, .. } in admin.tokens.value.into_iter().flat_map(|list| list.items) {
        names.take("the token name", &written.name, faults);
        let Some(token) = sources.secret(&written.token, faults) else { continue };
        if token.expose().len() < SHORTEST_TOKEN {
            let words =
                format!("expected a token of at least {SHORTEST_TOKEN} characters, found a shorter one");
            faults.push(&written.token.place, words);
        }
        if let Some(other) = tokens.iter().find(|other| other.token == token) {
            faults.push(
                &written.token.place,
                format!("the same token as that of {:?}: it could not be told who used it", other.name),
            );
        }
        tokens.push(AdminToken { name: written.name.value, role: written.role.value, token });
    }
    Admin { address: admin.address.value, tokens }
}

/// Checks and converts `keys`.
pub(super) fn keys(keys: schema::Keys, sources: &Sources<'_>, faults: &mut Faults) -> Keys {
    Keys {
        rotation_grace: Duration::from_secs(keys.rotation_grace_s.value),
        rotation_folder: keys.rotation_folder.value,
        poll: millis(&keys.poll_ms),
        snapshot: keys.snapshot.value,
        webhook: keys.webhook.value.and_then(|written| webhook(written, sources, faults)),
    }
}

fn webhook(webhook: schema::Webhook, sources: &Sources<'_>, faults: &mut Faults) -> Option<Webhook> {
    let secret: Option<Secret> = sources.secret(&webhook.secret, faults);
    let ca = webhook.ca.value.map(|ca| sources.dir.join(ca));
    if let Some(ca) = &ca {
        faults.keep(&webhook.ca.place, pem::certificates(ca));
    }
    Some(Webhook {
        url: webhook.url.value,
        secret: secret?,
        ca,
        timeout: millis(&webhook.timeout_ms),
        attempts: small(webhook.attempts.value),
    })
}
