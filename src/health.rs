//! Active health checks, and the resolution of host names. One task looks every little while which servers are
//! due; checks run side by side, so that a hanging server delays no other's.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::connectors::http::Connector;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use pingora_http::RequestHeader;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::config::settings::Probe;
use crate::servers::Server;
use crate::state::State;

/// How often is looked which checks are due.
const TICK: Duration = Duration::from_millis(50);
/// How often a host name is resolved again.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
/// How long one resolution may take. It holds up the server's own checks only.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);

/// The task.
pub struct HealthChecks {
    state: Arc<State>,
    connector: Arc<Connector>,
}

impl HealthChecks {
    /// Checks for the servers of whatever configuration is in force.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        // No idle connections: every check proves that the server still takes new ones.
        Self { state, connector: Arc::new(Connector::new(None)) }
    }
}

#[async_trait]
impl BackgroundService for HealthChecks {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut due: HashMap<String, Instant> = HashMap::new();
        let mut resolve_at: HashMap<String, Instant> = HashMap::new();
        let mut running: JoinSet<String> = JoinSet::new();
        let mut in_work: std::collections::HashSet<String> = std::collections::HashSet::new();
        loop {
            let servers = self.state.stages.load().servers.clone();
            due.retain(|name, _| servers.iter().any(|server| server.key() == *name));
            resolve_at.retain(|name, _| due.contains_key(name));
            let now = Instant::now();
            for server in servers {
                let name = server.key();
                let is_due = due.get(&name).is_none_or(|at| *at <= now);
                if !is_due || !in_work.insert(name.clone()) {
                    continue;
                }
                due.insert(name.clone(), now + server.pool.health.interval);
                let must_resolve = resolve_at.get(&name).is_none_or(|at| *at <= now);
                if must_resolve {
                    resolve_at.insert(name.clone(), now + RESOLVE_EVERY);
                }
                let connector = Arc::clone(&self.connector);
                running.spawn(async move {
                    Box::pin(check(&connector, &server, must_resolve)).await;
                    name
                });
            }
            tokio::select! {
                _ = shutdown.changed() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            while let Some(done) = running.try_join_next() {
                match done {
                    Ok(name) => _ = in_work.remove(&name),
                    Err(error) => {
                        log::error!("a health check failed to run: {error}");
                        in_work.clear();
                    }
                }
            }
        }
    }
}

async fn check(connector: &Connector, server: &Server, must_resolve: bool) {
    let upstream = &server.upstream;
    if must_resolve {
        resolve(server).await;
    }
    let health = &server.pool.health;
    let is_good = match &health.probe {
        Probe::Off => return,
        Probe::Tcp => within(health.timeout, open(server)).await,
        Probe::Http(_) => Box::pin(within(health.timeout, get(connector, server))).await,
    };
    if let Err(reason) = &is_good {
        log::debug!("server {}: check: {reason}", upstream.name);
    }
    if server.load.health.observe_probe(is_good.is_ok(), server.probe_rules()) {
        match is_good {
            Ok(()) => log::info!("server {} is up", upstream.name),
            Err(reason) => log::warn!("server {} is down: {reason}", upstream.name),
        }
    }
}

async fn within(limit: Duration, work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
    }
}

async fn resolve(server: &Server) {
    let upstream = &server.upstream;
    if upstream.host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok() {
        return;
    }
    let look_up = tokio::net::lookup_host((upstream.host.as_str(), upstream.port));
    let Ok(found) = tokio::time::timeout(RESOLVE_LIMIT, look_up).await else {
        log::warn!("server {}: {} is not resolved within {RESOLVE_LIMIT:?}", upstream.name, upstream.host);
        return;
    };
    match found {
        Ok(found) => {
            let found: Vec<SocketAddr> = found.collect();
            let known = server.address();
            // Staying with an address that is still good keeps its connections.
            if !known.is_some_and(|known| found.contains(&known))
                && let Some(address) = found.first()
            {
                log::info!("server {} is at {address}", upstream.name);
                server.set_address(*address);
            }
        }
        Err(error) => log::warn!("server {}: cannot resolve {}: {error}", upstream.name, upstream.host),
    }
}

async fn open(server: &Server) -> Result<(), String> {
    let address = server.address().ok_or("its name does not resolve")?;
    TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
}

async fn get(connector: &Connector, server: &Server) -> Result<(), String> {
    let peer = server.peer().ok_or("its name does not resolve")?;
    let path = server.health_path();
    let text = |error: pingora_error::BError| error.to_string();
    let (mut session, _) = connector.get_http_session(&*peer).await.map_err(text)?;
    let mut header = RequestHeader::build("GET", path.as_bytes(), Some(3)).map_err(text)?;
    if server.upstream.http2 {
        let scheme = if server.upstream.tls.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{}{path}", server.host).parse().map_err(|_| "a bad path".to_owned())?;
        header.set_uri(uri);
        header.set_version(http::Version::HTTP_2);
    } else {
        header.insert_header(http::header::HOST, server.host.as_str()).map_err(text)?;
        header.insert_header(http::header::CONNECTION, "close").map_err(text)?;
    }
    if let Some(authorization) = &server.authorization {
        header.insert_header(http::header::AUTHORIZATION, authorization.clone()).map_err(text)?;
    }
    session.write_request_header(Box::new(header)).await.map_err(text)?;
    session.finish_request_body().await.map_err(text)?;
    session.read_response_header().await.map_err(text)?;
    let status = session.response_header().map(|header| header.status);
    session.shutdown().await;
    match status {
        Some(http::StatusCode::OK) => Ok(()),
        Some(status) => Err(format!("GET {path} answered {status}")),
        None => Err("no answer".to_owned()),
    }
}
