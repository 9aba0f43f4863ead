//! Health, readiness and metrics, on a listener of their own that clients cannot reach.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use http::{Method, Response, StatusCode, header};
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;

use crate::state::State;

/// The admin listener's application.
pub struct Admin {
    state: Arc<State>,
}

impl Admin {
    /// Tells about `state`.
    #[must_use]
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    fn answer(&self, path: &str) -> (StatusCode, &'static str, Vec<u8>) {
        const JSON: &str = "application/json";
        match path {
            "/healthz" => (StatusCode::OK, JSON, b"{\"status\":\"ok\"}".to_vec()),
            "/readyz" => self.readiness(),
            "/metrics" => match self.state.metrics.render(&self.state) {
                Ok(text) => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
                Err(error) => {
                    log::error!("metrics cannot be written: {error}");
                    (StatusCode::INTERNAL_SERVER_ERROR, JSON, b"{\"error\":\"metrics\"}".to_vec())
                }
            },
            _ => {
                let known = b"{\"error\":\"unknown path; known: /healthz, /readyz, /metrics\"}";
                (StatusCode::NOT_FOUND, JSON, known.to_vec())
            }
        }
    }

    fn readiness(&self) -> (StatusCode, &'static str, Vec<u8>) {
        use tollgate_filters::request::upstream::health::Standing;
        let stages = self.state.stages.load();
        let now = self.state.now();
        let up = stages.servers.iter().filter(|server| server.load.health.standing(now) != Standing::Down);
        let body = serde_json::json!({
            "ready": self.state.is_ready(),
            "draining": self.state.is_draining.load(Ordering::Relaxed),
            // Not a reason to send traffic elsewhere: requests are served without it.
            "store": {"up": self.state.store.status().is_up(), "kind": stages.settings.storage.place.kind()},
            "servers": {"up": up.count(), "total": stages.servers.len()},
        });
        let status = if self.state.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, "application/json", body.to_string().into_bytes())
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let (status, kind, body) = if matches!(request.method, Method::GET | Method::HEAD) {
            self.answer(request.uri.path())
        } else {
            (StatusCode::METHOD_NOT_ALLOWED, "application/json", b"{\"error\":\"only GET\"}".to_vec())
        };
        let is_head = request.method == Method::HEAD;
        let mut response = Response::new(if is_head { Vec::new() } else { body.clone() });
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from(body.len()));
        response
    }
}
