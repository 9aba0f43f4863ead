//! `tollgate.yaml`: sockets that can be opened together, certificates that can be served.

use std::net::SocketAddr;
use std::time::Duration;

use super::{pem, size, small};
use crate::config::fault::{At, Faults};
use crate::config::kind::Listed;
use crate::config::schema::gateway as schema;
use crate::config::secret::Sources;
use crate::config::settings::{
    AccessLog, Admin, Auth, Cors, Keys, Ledger, Limits, Listener, Log, Queue, Reload, Scan, Server, Storage,
    Stream, Telemetry, Timeouts, TlsFiles, Tokens,
};

/// What `tollgate.yaml` means; `None` for what was refused.
pub(super) struct Gateway {
    pub(super) server: Server,
    pub(super) listeners: Option<Vec<Listener>>,
    pub(super) admin: Option<Admin>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) auth: Option<Auth>,
    pub(super) keys: Keys,
    pub(super) queue: Queue,
    pub(super) tokens: Tokens,
    pub(super) stream: Stream,
    pub(super) cors: Cors,
    pub(super) log: Log,
    pub(super) storage: Option<Storage>,
    pub(super) ledger: Option<Ledger>,
    pub(super) access_log: AccessLog,
    pub(super) telemetry: Telemetry,
    pub(super) reload: Reload,
    pub(super) scan: Scan,
}

/// Checks the whole file.
pub(super) fn settings(file: schema::GatewayFile, sources: &Sources<'_>, faults: &mut Faults) -> Gateway {
    addresses(&file, faults);
    let place = file.listeners.place;
    let listeners = file.listeners.value.map(|value| listeners(At { value, place }, sources, faults));
    let auth = file.auth.value.and_then(|written| auth(written, sources, faults));
    let stream = file.stream.value;
    let access_log = file.access_log.value;
    let storage = super::storage::storage(file.storage.value, sources, faults);
    let reload = file.reload.value;
    Gateway {
        server: server(&file.server.value),
        listeners,
        admin: file.admin.value.map(|admin| super::keys::admin(admin, sources, faults)),
        limits: limits(file.limits.value, sources, faults),
        timeouts: timeouts(&file.timeouts.value),
        auth,
        keys: super::keys::keys(file.keys.value, sources, faults),
        queue: Queue { length: size(file.queue.value.length.value), wait: millis(&file.queue.value.wait_ms) },
        tokens: Tokens { exact_bytes: size(file.tokens.value.exact_bytes.value) },
        stream: Stream {
            keepalive_comment: Some(millis(&stream.keepalive_comment_ms))
                .filter(|silence| !silence.is_zero()),
            keepalive_before_first_byte: stream.keepalive_before_first_byte.value,
        },
        cors: Cors { allow_origins: values(file.cors.value.allow_origins.value) },
        log: Log { level: file.log.value.level.value },
        storage,
        ledger: file.ledger.value.map(|ledger| super::ledger::ledger(ledger, faults)),
        access_log: AccessLog {
            target: access_log.target.value,
            rotate_bytes: access_log.rotate_bytes.value,
            rotate_age: Duration::from_secs(access_log.rotate_age_s.value),
            keep_files: size(access_log.keep_files.value),
        },
        telemetry: Telemetry { server_timing: file.telemetry.value.server_timing.value },
        scan: super::scan::scan(&file.scan.value, sources, faults),
        reload: Reload { watch_interval: reload.watch.value.then(|| millis(&reload.interval_ms)) },
    }
}

/// A key in milliseconds.
pub(super) fn millis(from: &At<u64>) -> Duration {
    Duration::from_millis(from.value)
}

/// The values of a list without their places.
pub(super) fn values<T>(list: Listed<T>) -> Vec<T> {
    list.items.into_iter().map(|item| item.value).collect()
}

fn server(server: &schema::Server) -> Server {
    let workers = match server.workers.value {
        // A machine that does not tell its cores still gets one worker.
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => size(workers),
    };
    Server {
        workers,
        drain_timeout: millis(&server.drain_timeout_ms),
        drain_delay: millis(&server.drain_delay_ms),
        upgrade_socket: server.upgrade_socket.value.clone(),
        upstream_keepalive: size(server.upstream_keepalive.value),
    }
}

fn limits(limits: schema::Limits, sources: &Sources<'_>, faults: &mut Faults) -> Limits {
    Limits {
        request_body_bytes: size(limits.request_body_bytes.value),
        request_header_bytes: size(limits.request_header_bytes.value),
        json_depth: small(limits.json_depth.value),
        connections: size(limits.connections.value),
        connections_per_address: size(limits.connections_per_address.value),
        answer_buffer_bytes: size(limits.answer_buffer_bytes.value),
        event_bytes: size(limits.event_bytes.value),
        shared: super::shared::shared(limits, sources, faults),
    }
}

fn timeouts(timeouts: &schema::Timeouts) -> Timeouts {
    Timeouts {
        request_header: millis(&timeouts.request_header_ms),
        request_body: millis(&timeouts.request_body_ms),
        keepalive: millis(&timeouts.keepalive_ms),
        client_write: millis(&timeouts.client_write_ms),
    }
}

fn auth(auth: schema::Auth, sources: &Sources<'_>, faults: &mut Faults) -> Option<Auth> {
    Some(Auth {
        pepper: sources.secret(&auth.pepper, faults)?,
        failures_per_minute: small(auth.failures_per_minute.value),
        failure_delay_max: millis(&auth.failure_delay_max_ms),
    })
}

/// Two sockets that cannot both be opened.
fn addresses(file: &schema::GatewayFile, faults: &mut Faults) {
    let listeners = file.listeners.value.iter().flat_map(|list| &list.items).map(|item| &item.value.address);
    let admin = file.admin.value.iter().map(|admin| &admin.address);
    let mut taken: Vec<&At<SocketAddr>> = Vec::new();
    for address in listeners.chain(admin) {
        if let Some(other) = taken.iter().find(|other| collide(other.value, address.value)) {
            // The one of a pair that was written last is at fault; the default of `admin` stands nowhere.
            let words =
                format!("{} is already taken by {} ({})", address.value, other.place.path, other.value);
            faults.push(&address.place, words);
        }
        taken.push(address);
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    // Port 0 takes a free port each time. A wildcard address covers all others of its family.
    let covers = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && covers
}

fn listeners(
    list: At<Listed<schema::Listener>>,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> Vec<Listener> {
    // Lost items were written, only not well: they are reported already.
    if list.value.items.is_empty() && !faults.has_below(&list.place) {
        faults.push(&list.place, "expected at least one listener, found none");
    }
    let mut checked = Vec::new();
    for At { value: listener, place } in list.value.items {
        match (&listener.tls.value, listener.cleartext.value) {
            // Not where one of the two was tried: that is reported already.
            (None, false)
                if faults.has_below(&listener.tls.place) || faults.has_below(&listener.cleartext.place) => {}
            (None, false) => faults.push(
                &place,
                "expected `tls` with certificate and key, or `cleartext: true` to say that there is none",
            ),
            (Some(_), true) => {
                faults.push(
                    &listener.cleartext.place,
                    "expected either `tls` or `cleartext: true`, found both",
                );
            }
            _ => {}
        }
        let tls = listener.tls.value.map(|tls| tls_files(&tls, sources, faults));
        checked.push(Listener { address: listener.address.value, tls, http2: listener.http2.value });
    }
    checked
}

fn tls_files(tls: &schema::Tls, sources: &Sources<'_>, faults: &mut Faults) -> TlsFiles {
    let certificate = sources.dir.join(&tls.certificate.value);
    let key = sources.dir.join(&tls.key.value);
    let chain = faults.keep(&tls.certificate.place, pem::certificates(&certificate));
    let private = faults.keep(&tls.key.place, pem::private_key(&key));
    if let (Some(chain), Some(private)) = (chain, private) {
        faults.keep(&tls.key.place, pem::belong_together(chain, private));
    }
    TlsFiles { certificate, key }
}
