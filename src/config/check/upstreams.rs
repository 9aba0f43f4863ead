//! `upstreams.yaml`: pools that serve something, servers that can be told apart and reached.

use rustls::pki_types::ServerName;

use super::catalogue::Names;
use super::gateway::millis;
use super::{Unique, pem, size, small};
use crate::config::fault::{At, Faults};
use crate::config::kind::Listed;
use crate::config::schema::upstreams as schema;
use crate::config::secret::Sources;
use crate::config::settings::{
    Health, Passive, Pool, Probe, Retry, ServedModel, Upstream, UpstreamTimeouts, UpstreamTls,
};
use crate::config::words::ProbeKind;

/// Checks and converts the pools; without a catalogue (a fault of its own), only what can be said.
pub(super) fn pools(
    list: Listed<schema::Pool>,
    catalogue: Option<&Names>,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> Option<Vec<Pool>> {
    let (mut pool_names, mut server_names) = (Unique::default(), Unique::default());
    let mut pools = Vec::new();
    for At { value: pool, .. } in list.items {
        pool_names.take("the pool name", &pool.name, faults);
        for server in &pool.servers.value.items {
            server_names.take("the server name", &server.value.name, faults);
        }
        pools.push(one(pool, catalogue, sources, faults));
    }
    pools.into_iter().collect()
}

fn one(
    pool: schema::Pool,
    catalogue: Option<&Names>,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> Option<Pool> {
    expect_some("model", &pool.models, faults);
    expect_some("server", &pool.servers, faults);
    let models = models(pool.models.value, catalogue, faults);
    let servers: Vec<_> =
        pool.servers.value.items.into_iter().map(|item| server(item.value, sources, faults)).collect();
    Some(Pool {
        name: pool.name.value,
        models,
        servers: servers.into_iter().collect::<Option<_>>()?,
        health: health(pool.health.value, faults),
        passive: passive(&pool.passive.value, faults),
        timeouts: timeouts(&pool.timeouts.value),
        retry: Retry {
            attempts: small(pool.retry.value.attempts.value),
            budget_percent: small(pool.retry.value.budget_percent.value),
        },
    })
}

fn expect_some<T>(what: &str, list: &At<Listed<T>>, faults: &mut Faults) {
    if list.value.items.is_empty() && !faults.has_below(&list.place) {
        faults.push(&list.place, format!("expected at least one {what}, found none"));
    }
}

fn models(
    list: Listed<schema::ServedModel>,
    catalogue: Option<&Names>,
    faults: &mut Faults,
) -> Vec<ServedModel> {
    let mut unique = Unique::default();
    let mut models = Vec::new();
    for At { value: served, .. } in list.items {
        unique.take("the model", &served.model, faults);
        if let Some(catalogue) = catalogue {
            catalogue.expect_match(&served.model, faults);
        }
        if served.served_as.value.is_some() && served.model.value.contains('*') {
            faults.push(&served.served_as.place, "expected one model for this name, found a pattern");
        }
        models.push(ServedModel { model: served.model.value, served_as: served.served_as.value });
    }
    models
}

fn server(server: schema::Server, sources: &Sources<'_>, faults: &mut Faults) -> Option<Upstream> {
    let (host, port) = server.address.value;
    let tls = server.tls.value.map(|tls| upstream_tls(tls, &host, sources, faults));
    let credential = match server.credential {
        At { value: Some(secret), place } => Some(sources.secret(&At { value: secret, place }, faults)?),
        At { value: None, .. } => None,
    };
    Some(Upstream {
        name: server.name.value,
        host,
        port,
        weight: small(server.weight.value),
        engine: server.engine.value,
        http2: server.http2.value,
        tls,
        credential,
        max_in_flight: size(server.max_in_flight.value),
    })
}

fn upstream_tls(tls: schema::Tls, host: &str, sources: &Sources<'_>, faults: &mut Faults) -> UpstreamTls {
    let server_name = tls.server_name.value.unwrap_or_else(|| host.to_owned());
    // The TLS library takes an empty or broken name for "do not check", so it must not get that far.
    if ServerName::try_from(server_name.as_str()).is_err() {
        faults.push(
            &tls.server_name.place,
            format!("expected a host name or IP address that a certificate can hold, found {server_name:?}"),
        );
    }
    let ca = tls.ca.value.map(|ca| sources.dir.join(ca));
    if let Some(ca) = &ca {
        faults.keep(&tls.ca.place, pem::certificates(ca));
    }
    UpstreamTls { server_name, ca, verify: tls.verify.value }
}

fn health(health: schema::Health, faults: &mut Faults) -> Health {
    let probe = match health.probe.value {
        ProbeKind::Http => Probe::Http(health.path.value.clone()),
        ProbeKind::Tcp => Probe::Tcp,
        ProbeKind::Off => Probe::Off,
    };
    if health.path.value.is_some() && health.probe.value != ProbeKind::Http {
        faults.push(&health.path.place, "only a probe of kind http has a path");
    }
    Health {
        probe,
        interval: millis(&health.interval_ms),
        timeout: millis(&health.timeout_ms),
        healthy_after: small(health.healthy_after.value),
        unhealthy_after: small(health.unhealthy_after.value),
    }
}

fn passive(passive: &schema::Passive, faults: &mut Faults) -> Passive {
    if passive.eject_max_ms.value < passive.eject_ms.value {
        faults.push(
            &passive.eject_max_ms.place,
            format!(
                "expected at least eject_ms ({}), found {}",
                passive.eject_ms.value, passive.eject_max_ms.value
            ),
        );
    }
    Passive {
        failures: small(passive.failures.value),
        eject: millis(&passive.eject_ms),
        eject_max: millis(&passive.eject_max_ms),
    }
}

fn timeouts(timeouts: &schema::Timeouts) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: millis(&timeouts.connect_ms),
        write: millis(&timeouts.write_ms),
        headers: millis(&timeouts.headers_ms),
        first_token: millis(&timeouts.first_token_ms),
        prefill_per_1k_tokens: millis(&timeouts.prefill_ms_per_1k_tokens),
        between_tokens: millis(&timeouts.between_tokens_ms),
        answer: millis(&timeouts.answer_ms),
    }
}
