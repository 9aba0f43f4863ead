//! Puts the process together: listeners, workers, background tasks, and the way out.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use async_trait::async_trait;
use pingora_core::apps::http_app::HttpServer;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::Connector;
use pingora_core::listeners::ListenerConfig;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::{Opt, ServerConf};
use pingora_core::server::{ListenFds, RunArgs, Server, ShutdownWatch};
use pingora_core::services::background::background_service;
use pingora_core::services::listening::Service;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::mpsc;
use tollgate_filters::request::scan::policy::Mode;

use crate::access_log::AccessLog;
use crate::admin::Admin;
use crate::config::settings::{Listener, Settings};
use crate::control::{Control, Leave, StopSignal, say, seconds_since_1970};
use crate::health::HealthChecks;
use crate::histories::shared::SharedHistories;
use crate::keys::Keys;
use crate::keys::rotation::Rotations;
use crate::keys::sync::KeySync;
use crate::ledger::Ledger;
use crate::limits::{self, Housekeeping, SharedLimits};
use crate::metrics::Metrics;
use crate::proxy::Gate;
use crate::proxy::guard::Guarded;
use crate::state::{Kept, Stages, State};
use crate::store::Store;
use crate::tls::{self, Certificate};

/// Read and write buffer of a client connection, bytes. Pingora's own 64 KiB are mostly empty for requests of a
/// few KB and events of a few hundred bytes; larger transfers take a few more system calls.
const CLIENT_BUFFER: usize = 8 * 1024;

/// How long requests that were cut may take to settle.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(1);

/// Why the gateway could not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

impl StartError {
    fn new(what: &str, error: &dyn fmt::Display) -> Self {
        Self(format!("{what}: {error}"))
    }
}

/// Serves until told to stop. With `upgrade` the sockets of the running process are taken over.
///
/// # Errors
/// [`StartError`] if the gateway cannot start.
pub fn run(settings: Settings, folder: &Path, upgrade: bool) -> Result<Leave, StartError> {
    tls::install_tls13_only();
    raise_descriptor_limit(settings.limits.connections);
    let access_log = AccessLog::start(&settings.access_log)
        .map_err(|error| StartError::new("the access log cannot be opened", &error))?;
    let metrics = Metrics::new().map_err(|error| StartError::new("metrics", &error))?;
    metrics.reloaded_at.set(seconds_since_1970());
    let kept = start_store(&settings)?;
    let stages = Stages::build(settings.clone(), None);
    let state = Arc::new(State::new(stages, metrics, access_log, kept));
    state.keys.load(&state, settings.storage.start_timeout);
    if let Some(ledger) = &state.ledger {
        // The ledger is part of the state, which must not keep itself alive.
        let weak = Arc::downgrade(&state);
        ledger.on_totals(move |totals| {
            if let Some(state) = weak.upgrade() {
                limits::restore(&state, totals);
            }
        });
    }
    if let Some(shared) = &state.shared {
        let weak = Arc::downgrade(&state);
        shared.learn_from(move || {
            let for_answer = weak.clone();
            let Some(state) = weak.upgrade() else { return };
            let Some(ledger) = &state.ledger else { return };
            ledger.ask_totals(move |totals| {
                if let Some(state) = for_answer.upgrade() {
                    limits::tell_store(&state, totals);
                }
            });
        });
        let rest = settings.storage.start_timeout.saturating_sub(state.origin.elapsed());
        if !shared.wait_for_first_try(rest) {
            log::warn!("serving without the store of limits until it answers");
        }
    }
    let options = Opt { upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(options, server_conf(&settings));
    let conf = Arc::clone(&server.configuration);
    server.bootstrap();
    let certificates = add_listeners(&mut server, &conf, &state, &settings, upgrade)?;
    server.add_service(background_service("health checks", HealthChecks::new(Arc::clone(&state))));
    server.add_service(background_service("keys", KeySync::new(Arc::clone(&state))));
    server.add_service(background_service("key rotation", Rotations::new(Arc::clone(&state))));
    server.add_service(background_service("limits", Housekeeping::new(Arc::clone(&state))));

    // Each carries one message in a process's life.
    let (stop, stopped) = mpsc::channel(1);
    let (leave, left) = sync_channel(2);
    let control = Control {
        state: Arc::clone(&state),
        folder: folder.to_owned(),
        certificates,
        stop,
        leave: leave.clone(),
    };
    control.start().map_err(|error| StartError::new("the control thread cannot be started", &error))?;
    let run = move || {
        server.run(RunArgs { shutdown_signal: Box::new(StopSignal::new(stopped)) });
        // Returns by itself only when the whole grace period is over.
        let _ = leave.send(Leave::AtOnce);
    };
    std::thread::Builder::new()
        .name("server".to_owned())
        .spawn(run)
        .map_err(|error| StartError::new("the server thread cannot be started", &error))?;
    let why = left.recv().unwrap_or(Leave::AtOnce);
    // What was cut has been dropped by now or is just being; its records are still to be written.
    let deadline = std::time::Instant::now() + SETTLE;
    #[expect(clippy::disallowed_methods, reason = "the main thread serves nobody")]
    while state.in_flight.load(std::sync::atomic::Ordering::Relaxed) > 0
        && std::time::Instant::now() < deadline
    {
        std::thread::sleep(SETTLE / 50);
    }
    if let Some(shared) = &state.shared {
        shared.stop();
    }
    state.access_log.stop();
    if let Some(ledger) = &state.ledger {
        ledger.stop();
    }
    Ok(why)
}

/// Starts the store and the ledger, and gives them a moment to answer: keys, budgets and daily limits are then there
/// with the first request.
fn start_store(settings: &Settings) -> Result<Kept, StartError> {
    let patience = settings.storage.start_timeout;
    let start = std::time::Instant::now();
    let store = Store::start("store", &settings.storage)
        .map_err(|error| StartError::new("the store's thread cannot be started", &error))?;
    let ledger = settings.ledger.as_ref().map(|ledger| Ledger::start(ledger, &settings.storage)).transpose();
    let ledger = ledger.map_err(|error| StartError::new("the ledger's journal cannot be made", &error))?;
    let keys = Keys::start(&settings.storage)
        .map_err(|error| StartError::new("the thread of keys cannot be started", &error))?;
    let shared = settings.limits.shared.as_ref();
    let life = ledger.as_ref().map(Ledger::life);
    let shared = shared.map(|shared| SharedLimits::start(shared, life, start)).transpose();
    let shared = shared.map_err(|error| StartError::new("limits cannot be shared", &error))?;
    let behaviour = &settings.scan.behaviour;
    let histories =
        settings.limits.shared.as_ref().filter(|_| behaviour.is_shared && behaviour.mode > Mode::Off);
    let histories = histories.map(SharedHistories::new).transpose();
    let shared_histories = histories
        .map_err(|error| StartError::new("what is remembered of conversations cannot be shared", &error))?;
    // All of them connect meanwhile.
    let is_up = store.status().wait_for_first_try(patience);
    let rest = patience.saturating_sub(start.elapsed());
    if !is_up || ledger.as_ref().is_some_and(|ledger| !ledger.wait_for_totals(rest)) {
        log::warn!("serving without the store until it answers");
    }
    Ok(Kept { store, keys, ledger, shared, shared_histories, origin: start })
}

fn server_conf(settings: &Settings) -> ServerConf {
    ServerConf {
        threads: settings.server.workers,
        // In whole seconds; the control thread ends an earlier drain earlier.
        grace_period_seconds: Some(settings.server.drain_timeout.as_millis().div_ceil(1000) as u64),
        graceful_shutdown_timeout_seconds: Some(1),
        upgrade_sock: settings.server.upgrade_socket.to_string_lossy().into_owned(),
        upstream_keepalive_pool_size: settings.server.upstream_keepalive,
        // The pid is the service manager's business.
        pid_file: settings.server.upgrade_socket.with_extension("pid").to_string_lossy().into_owned(),
        ..ServerConf::default()
    }
}

/// Adds a service for each kind of client-facing listener, and the admin listener. Gives the certificates by
/// the address of their listener.
fn add_listeners(
    server: &mut Server,
    conf: &Arc<ServerConf>,
    state: &Arc<State>,
    settings: &Settings,
    upgrade: bool,
) -> Result<Vec<(SocketAddr, Arc<Certificate>)>, StartError> {
    let pool = settings.server.upstream_keepalive.saturating_mul(settings.server.workers);
    let connector = Arc::new(Connector::new(Some(ConnectorOptions::new(pool))));
    let budget = Arc::default();
    let mut certificates = Vec::new();
    let mut given = given_sockets();
    // HTTP/2 without TLS is an option of a whole service; over TLS the handshake decides.
    let is_plain = |listener: &Listener| listener.tls.is_none() && !listener.http2;
    for h2c in [true, false] {
        let members: Vec<&Listener> =
            settings.listeners.iter().filter(|listener| is_plain(listener) != h2c).collect();
        if members.is_empty() {
            continue;
        }
        let gate =
            Gate { state: Arc::clone(state), connector: Arc::clone(&connector), budget: Arc::clone(&budget) };
        let proxy = guarded(conf, gate, h2c);
        let mut service = Service::new("tollgate".to_owned(), proxy);
        let mut sockets = Vec::new();
        for listener in members {
            let socket = Socket::bind(listener.address, &mut given, upgrade)?;
            let mut endpoint = ListenerConfig::tcp(socket.key.clone())
                .l4_buffer(L4BufferSettings::new(CLIENT_BUFFER, CLIENT_BUFFER));
            if let Some(files) = &listener.tls {
                let certificate = Certificate::load(files)
                    .map_err(|error| StartError::new("a certificate cannot be used", &error))?;
                let certificate = Arc::new(certificate);
                let tls = tls::settings(Arc::clone(&certificate), listener.http2)
                    .map_err(|error| StartError::new("TLS cannot be set up", &error))?;
                endpoint = endpoint.tls(tls);
                certificates.push((listener.address, certificate));
            }
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            say(&format!("listening on {scheme}://{}", socket.key));
            service.add_listener(endpoint);
            sockets.push(socket);
        }
        server.add_service(Bound { service, sockets });
    }
    if let Some(admin) = &settings.admin {
        let socket = Socket::bind(admin.address, &mut given, upgrade)?;
        say(&format!("admin on http://{}", socket.key));
        let mut service =
            Service::new("admin".to_owned(), HttpServer::new_app(Admin::new(Arc::clone(state))));
        service.threads = Some(1);
        service.add_tcp(&socket.key);
        server.add_service(Bound { service, sockets: vec![socket] });
    }
    for unused in given {
        log::warn!("a socket was handed over that no listener is configured for: {:?}", unused.local_addr());
    }
    Ok(certificates)
}

fn guarded(conf: &Arc<ServerConf>, gate: Gate, h2c: bool) -> Guarded<HttpProxy<Gate>> {
    let state = Arc::clone(&gate.state);
    let idle = state.stages.load().settings.timeouts.keepalive;
    let mut proxy = http_proxy(conf, gate);
    let mut options = HttpServerOptions::default();
    options.h2c = h2c;
    options.h2_idle_timeout = Some(idle);
    proxy.server_options = Some(options);
    Guarded::new(proxy, state)
}

/// The listening sockets that the service manager has opened for us (systemd's socket activation).
fn given_sockets() -> Vec<TcpListener> {
    let mut given = listenfd::ListenFd::from_env();
    let count = given.len();
    let take = |index| match given.take_tcp_listener(index) {
        Ok(listener) => listener,
        Err(error) => {
            log::warn!("socket {index} of the service manager cannot be used: {error}");
            None
        }
    };
    (0..count).filter_map(take).collect()
}

/// A listening socket that is bound before the server runs, so that a port in use is told at once, and port 0
/// has a number that can be said.
struct Socket {
    /// The address under which Pingora knows it, and hands it over.
    key: String,
    descriptor: Option<RawFd>,
}

impl Socket {
    fn bind(address: SocketAddr, given: &mut Vec<TcpListener>, upgrade: bool) -> Result<Self, StartError> {
        if upgrade {
            // The running process hands it over.
            return Ok(Self { key: address.to_string(), descriptor: None });
        }
        let inherited = given.iter().position(|listener| listener.local_addr().is_ok_and(|at| at == address));
        let bound = match inherited {
            Some(index) => Ok(given.swap_remove(index)),
            None => TcpListener::bind(address),
        };
        let bound = bound.and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) =
            bound.map_err(|error| StartError::new(&format!("cannot listen on {address}"), &error))?;
        Ok(Self { key: address.to_string(), descriptor: Some(listener.into_raw_fd()) })
    }
}

/// A service whose sockets are bound already.
struct Bound<A> {
    service: Service<A>,
    sockets: Vec<Socket>,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> pingora_core::services::Service for Bound<A> {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, per_fd: usize) {
        if let Some(fds) = &fds {
            for socket in &mut self.sockets {
                if let Some(descriptor) = socket.descriptor.take() {
                    fds.lock().add(socket.key.clone(), descriptor);
                }
            }
        }
        self.service.start_service(fds, shutdown, per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(self.sockets.iter().map(|socket| socket.key.clone()).collect())
    }
}

/// Two descriptors for each client: its own and one to a server. Raises the soft limit as far as is needed and
/// allowed, and says so if that is not far enough.
fn raise_descriptor_limit(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = connections as u64 * 2 + 256;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft >= wanted {
        return;
    }
    let raised = wanted.min(hard);
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        log::warn!("cannot raise the limit of open files from {soft} to {raised}: {error}");
    } else if raised < wanted {
        log::warn!(
            "{connections} connections need {wanted} open files, but only {raised} are allowed; \
             raise LimitNOFILE or lower limits.connections"
        );
    }
}
