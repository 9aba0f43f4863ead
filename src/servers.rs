//! The inference servers: how to reach each, how it stands. The address of a server named by a host name is
//! resolved in the background, so that no request ever waits for the name service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora_core::protocols::ALPN;
use pingora_core::protocols::tls::CaType;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use tollgate_filters::request::upstream::balance::Load;
use tollgate_filters::request::upstream::health::{EjectRules, ProbeRules};

use crate::config::settings::{Pool, Probe, Upstream};

/// One inference server.
#[derive(Debug)]
pub struct Server {
    /// What was configured for it.
    pub upstream: Upstream,
    /// What was configured for its pool.
    pub pool: Pool,
    /// Outstanding requests and health; shared with the routes, kept across reloads.
    pub load: Arc<Load>,
    /// The `authorization` header for it.
    pub authorization: Option<http::HeaderValue>,
    /// The `host` header for it.
    pub host: String,
    peer: ArcSwapOption<HttpPeer>,
}

/// Idle connections to a server are closed by us before the server does it under a request: uvicorn, which
/// vLLM and SGLang run on, closes after 5 s.
const UPSTREAM_IDLE: Duration = Duration::from_secs(4);

/// How often an HTTP/2 connection to a server is asked whether it is still there: a flow that a middlebox has
/// dropped must not hold request after request.
const H2_PING: Duration = Duration::from_secs(10);
/// Streams on one HTTP/2 connection to a server, before another is opened.
const H2_STREAMS: usize = 64;

impl Server {
    /// A server of `pool`. `before` is the same server in the configuration before.
    #[must_use]
    pub fn new(upstream: &Upstream, pool: &Pool, before: Option<&Arc<Self>>) -> Self {
        let bearer = |secret: &crate::config::settings::Secret| {
            let mut value = http::HeaderValue::try_from(format!("Bearer {}", secret.expose())).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let server = Self {
            upstream: upstream.clone(),
            load: before.map_or_else(Arc::default, |before| Arc::clone(&before.load)),
            authorization: upstream.credential.as_ref().and_then(bearer),
            host: format!("{}:{}", upstream.host, upstream.port),
            pool: pool.clone(),
            peer: ArcSwapOption::empty(),
        };
        let literal = upstream.host.trim_matches(['[', ']']).parse().ok();
        let known = before.and_then(|before| before.address());
        if let Some(address) = literal.map(|ip| SocketAddr::new(ip, upstream.port)).or(known) {
            server.set_address(address);
        }
        server
    }

    /// Whether `upstream` is this server, so that its health and load are still true.
    #[must_use]
    pub fn is_same_place(&self, upstream: &Upstream) -> bool {
        (&self.upstream.name, &self.upstream.host, self.upstream.port)
            == (&upstream.name, &upstream.host, upstream.port)
    }

    /// What tells it from others: its name and where it is said to be.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{} {}:{}", self.upstream.name, self.upstream.host, self.upstream.port)
    }

    /// Whether enough is known of it to say that the gateway is ready.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.pool.health.probe == Probe::Off || self.load.health.was_probed()
    }

    /// How to connect to it; `None` until its name has been resolved.
    #[must_use]
    pub fn peer(&self) -> Option<Arc<HttpPeer>> {
        self.peer.load_full()
    }

    /// Where it is, once that is known.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let peer = self.peer.load();
        peer.as_ref().and_then(|peer| peer._address.as_inet().copied())
    }

    /// Notes where its name points to.
    pub fn set_address(&self, address: SocketAddr) {
        let tls = self.upstream.tls.as_ref();
        let sni = tls.map(|tls| tls.server_name.clone()).unwrap_or_default();
        debug_assert!(tls.is_none() || !sni.is_empty(), "an empty name would switch verification off");
        let mut peer = HttpPeer::new(address, tls.is_some(), sni);
        let timeouts = &self.pool.timeouts;
        peer.options.connection_timeout = Some(timeouts.connect);
        peer.options.total_connection_timeout = Some(timeouts.connect);
        peer.options.write_timeout = Some(timeouts.write);
        peer.options.idle_timeout = Some(UPSTREAM_IDLE);
        peer.options.h2_ping_interval = Some(H2_PING);
        peer.options.max_h2_streams = H2_STREAMS;
        peer.options.alpn = if self.upstream.http2 { ALPN::H2 } else { ALPN::H1 };
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        if let Some(tls) = tls {
            peer.options.verify_cert = tls.verify;
            peer.options.verify_hostname = tls.verify;
            peer.options.ca = tls.ca.as_ref().and_then(|path| read_authorities(path));
        }
        self.peer.store(Some(Arc::new(peer)));
    }

    /// When active checks change their mind.
    #[must_use]
    pub fn probe_rules(&self) -> ProbeRules {
        let health = &self.pool.health;
        ProbeRules { healthy_after: health.healthy_after, unhealthy_after: health.unhealthy_after }
    }

    /// When live traffic ejects.
    #[must_use]
    pub fn eject_rules(&self) -> EjectRules {
        let passive = &self.pool.passive;
        EjectRules { failures: passive.failures, eject: passive.eject, eject_max: passive.eject_max }
    }

    /// The path of its health check.
    #[must_use]
    pub fn health_path(&self) -> &str {
        use crate::config::settings::Engine;
        match (&self.pool.health.probe, self.upstream.engine) {
            (Probe::Http(Some(path)), _) => path,
            (_, Engine::Ollama) => "/",
            (_, Engine::OpenAi) => "/v1/models",
            (_, Engine::Vllm | Engine::Sglang | Engine::Tgi | Engine::LlamaCpp | Engine::Transformers) => {
                "/health"
            }
        }
    }
}

/// The authorities in a PEM file. The file was checked when the configuration was; should it have gone since,
/// no authority is trusted and connections fail, which is the safe side.
pub(crate) fn read_authorities(path: &std::path::Path) -> Option<Arc<CaType>> {
    use pingora_core::utils::tls::{WrappedX509, parse_x509};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let certificates = CertificateDer::pem_file_iter(path).ok()?.flatten();
    // `parse_x509` panics on what is no certificate; a root store does not.
    let sound = certificates.filter(|der| rustls::RootCertStore::empty().add(der.clone()).is_ok());
    let wrapped = sound.map(|der| WrappedX509::new(der.to_vec(), parse_x509));
    Some(Arc::from(wrapped.collect::<Vec<_>>()))
}
