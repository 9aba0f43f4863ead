//! `tenants.yaml`: tenants that belong to a tier, keys that belong to one tenant.

use super::catalogue::Names;
use super::gateway::values;
use super::{Unique, scan};
use crate::config::fault::{At, Faults, Place};
use crate::config::kind::Listed;
use crate::config::schema::catalogue as schema;
use crate::config::secret::{Sources, hash_key};
use crate::config::settings::{ApiKey, Secret, Tenant};

/// What tenants refer to. Each part may be missing, which is a fault of its own: what needs it is then not
/// checked.
pub(super) struct Known<'a> {
    /// Names of tiers.
    pub(super) tiers: Option<&'a [String]>,
    /// Names of models.
    pub(super) catalogue: Option<&'a Names>,
    /// What keys are hashed under.
    pub(super) pepper: Option<&'a Secret>,
    /// Where secrets are.
    pub(super) sources: &'a Sources<'a>,
}

/// Checks and converts the tenants.
pub(super) fn tenants(
    list: Listed<schema::Tenant>,
    known: &Known<'_>,
    faults: &mut Faults,
) -> Option<Vec<Tenant>> {
    let (mut names, mut ids) = (Unique::default(), Unique::default());
    let mut tenants = Vec::new();
    for At { value: tenant, .. } in list.items {
        names.take("the tenant name", &tenant.name, faults);
        tier(&tenant.tier.value, &tenant.tier.place, known, faults);
        patterns(&tenant.models, known, faults);
        let mut keys = Vec::new();
        for At { value: key, place } in tenant.keys.value.items {
            ids.take("the key id", &key.id, faults);
            keys.push(api_key(At { value: key, place }, known, faults));
        }
        let keys: Option<Vec<_>> = keys.into_iter().collect();
        let change = scan::change(tenant.scan.value, faults);
        tenants.push(keys.map(|keys| Tenant {
            scan: change,
            scan_exemptions: tenant.scan_exemptions.value.map(scan::exemptions).unwrap_or_default(),
            name: tenant.name.value,
            tier: tenant.tier.value,
            models: values(tenant.models.value),
            source_networks: values(tenant.source_networks.value),
            keys,
        }));
    }
    tenants.into_iter().collect()
}

fn tier(name: &str, place: &Place, known: &Known<'_>, faults: &mut Faults) {
    if known.tiers.is_some_and(|tiers| !tiers.iter().any(|known| known == name)) {
        faults.push(place, format!("no tier of tiers.yaml is called {name:?}"));
    }
}

fn patterns(list: &At<Listed<String>>, known: &Known<'_>, faults: &mut Faults) {
    if list.value.items.is_empty() && !faults.has_below(&list.place) {
        faults.push(&list.place, "expected at least one model or `*`, found none");
    }
    let Some(catalogue) = known.catalogue else { return };
    for pattern in &list.value.items {
        catalogue.expect_match(pattern, faults);
    }
}

fn api_key(
    At { value: key, place }: At<schema::ApiKey>,
    known: &Known<'_>,
    faults: &mut Faults,
) -> Option<ApiKey> {
    let At { value: models, place: models_place } = key.models;
    let models = models.map(|value| At { value, place: models_place });
    if let Some(models) = &models {
        patterns(models, known, faults);
    }
    if let Some(name) = &key.tier.value {
        tier(name, &key.tier.place, known, faults);
    }
    let At { value: endpoints, place: endpoints_place } = key.endpoints;
    let endpoints = endpoints.map(values);
    if endpoints.as_ref().is_some_and(Vec::is_empty) && !faults.has_below(&endpoints_place) {
        faults.push(&endpoints_place, "expected at least one endpoint (`null` is all), found none");
    }
    let hash = match (key.hash.value, key.secret.value) {
        (Some(hash), None) => Some(hash),
        (None, Some(secret)) => {
            let secret = At { value: secret, place: key.secret.place };
            let whole = known.sources.secret(&secret, faults);
            let whole = whole.filter(|whole| {
                let starts = format!("tg_{}_", key.id.value);
                let is_ours = whole.expose().strip_prefix(&starts).is_some_and(|rest| !rest.is_empty());
                if !is_ours {
                    faults
                        .push(&secret.place, format!("expected a key that begins with {starts} and goes on"));
                }
                is_ours
            });
            whole.zip(known.pepper).map(|(whole, pepper)| hash_key(pepper, whole.expose()))
        }
        (Some(_), Some(_)) => {
            faults.push(&place, "expected either `hash` or `secret`, found both");
            None
        }
        (None, None) => {
            // A hash that could not be read is reported already.
            if !faults.has_below(&place) {
                faults.push(&place, "expected `hash` or `secret`, found neither");
            }
            None
        }
    };
    Some(ApiKey {
        id: key.id.value,
        hash: hash?,
        tier: key.tier.value,
        models: models.map(|models| values(models.value)),
        endpoints,
        source_networks: values(key.source_networks.value),
        expires: key.expires.value,
    })
}
