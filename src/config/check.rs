//! Schema → Settings: what no single key can know. References between files, names that must be unique,
//! files and secrets that must be readable. Every fault is reported, and one mistake only once: a tier that
//! could not be read is no reason to complain about the tenants that name it.

mod catalogue;
mod gateway;
mod keys;
mod ledger;
mod pem;
mod scan;
mod shared;
mod storage;
mod tenants;
mod tiers;
mod upstreams;

use std::collections::HashMap;

pub(crate) use scan::default_scan;

use super::fault::{At, Faults};
use super::kind::Listed;
use super::schema::Schema;
use super::secret::Sources;
use super::settings::Settings;

/// The settings that were meant. `None` only if a fault was pushed; a fault may also have been pushed when
/// there is a value.
pub(crate) fn settings(schema: Schema, sources: &Sources<'_>, faults: &mut Faults) -> Option<Settings> {
    let models = schema.models.and_then(|file| file.models.value);
    let catalogue = models.as_ref().map(|list| catalogue::Names::collect(list, faults));
    let models =
        models.zip(catalogue.as_ref()).map(|(list, names)| catalogue::models(list, names, sources, faults));
    let pools = schema
        .upstreams
        .and_then(|file| upstreams::pools(file.pools.value, catalogue.as_ref(), sources, faults));
    let tiers = schema.tiers.and_then(|file| file.tiers.value);
    let tier_names = tiers.as_ref().map(|list| names_of(list, |tier| &tier.name.value));
    let gateway = schema.gateway.map(|file| gateway::settings(file, sources, faults));
    let known = tenants::Known {
        tiers: tier_names.as_deref(),
        catalogue: catalogue.as_ref(),
        pepper: gateway.as_ref().and_then(|gateway| gateway.auth.as_ref()).map(|auth| &auth.pepper),
        sources,
    };
    let exempted =
        schema.tenants.as_ref().map(|file| scan::exempted(&file.tenants.value)).unwrap_or_default();
    let tenants = schema.tenants.and_then(|file| tenants::tenants(file.tenants.value, &known, faults));
    let tiers = tiers.map(|list| tiers::tiers(list, catalogue.as_ref(), faults));
    let gateway = gateway?;
    let changes = (models.iter().flatten().filter_map(|model| model.scan.as_ref()))
        .chain(tiers.iter().flatten().filter_map(|tier| tier.scan.as_ref()))
        .chain(tenants.iter().flatten().filter_map(|tenant| tenant.scan.as_ref()));
    let reads_output = scan::reads_output(&gateway.scan, changes);
    let rules = scan::rules(&gateway.scan, reads_output, faults);
    if let Some(rules) = &rules {
        scan::expect_known(&exempted, rules, faults);
    }
    Some(Settings {
        server: gateway.server,
        listeners: gateway.listeners?,
        admin: gateway.admin,
        limits: gateway.limits,
        timeouts: gateway.timeouts,
        auth: gateway.auth?,
        keys: gateway.keys,
        queue: gateway.queue,
        tokens: gateway.tokens,
        stream: gateway.stream,
        cors: gateway.cors,
        log: gateway.log,
        storage: gateway.storage?,
        ledger: gateway.ledger,
        access_log: gateway.access_log,
        telemetry: gateway.telemetry,
        reload: gateway.reload,
        scan: gateway.scan,
        rules: rules?,
        models: models?,
        pools: pools?,
        tiers: tiers?,
        tenants: tenants?,
    })
}

/// Names that must be unique, each with the place that has it.
#[derive(Default)]
struct Unique {
    seen: HashMap<String, (String, usize)>,
}

impl Unique {
    /// Takes a name, or reports who has it already.
    fn take(&mut self, what: &str, name: &At<String>, faults: &mut Faults) {
        match self.seen.get(&name.value) {
            Some((path, line)) => faults.push(
                &name.place,
                format!("{what} {:?} is already used by {path} (line {line})", name.value),
            ),
            None => {
                let place = (name.place.path.clone(), name.place.line);
                self.seen.insert(name.value.clone(), place);
            }
        }
    }
}

/// The names of a list, those of unreadable items included.
fn names_of<'a, T>(list: &'a Listed<T>, name: impl Fn(&'a T) -> &'a str) -> Vec<String> {
    list.items.iter().map(|item| name(&item.value).to_owned()).chain(list.lost.iter().cloned()).collect()
}

/// `usize` from a number that its kind has bounded; on the 64-bit machines we serve they are the same.
fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `u32` from a number that its kind has bounded.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
