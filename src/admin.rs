//! Health, readiness, metrics and `/admin/v1`, on a listener of their own that clients cannot reach. The first three are
//! open to whoever reaches it; `/admin/v1` (`api.rs`) asks for a token.

mod api;
mod keys;
mod status;
mod usage;

use std::sync::Arc;

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
                let known = b"{\"error\":\"unknown path; known: /healthz, /readyz, /metrics, /admin/v1\"}";
                (StatusCode::NOT_FOUND, JSON, known.to_vec())
            }
        }
    }

    fn readiness(&self) -> (StatusCode, &'static str, Vec<u8>) {
        let status = if self.state.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, "application/json", status::readiness(&self.state).to_string().into_bytes())
    }
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        if api::is_at(request.uri.path()) {
            return made(Box::pin(api::answer(&self.state, session)).await);
        }
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

/// An answer of `/admin/v1`. Nothing on the way keeps it: some hold a secret.
fn made(answer: api::Answer) -> Response<Vec<u8>> {
    let (status, json, allow) = match answer {
        Ok((status, json)) => (status, json, None),
        Err(error) => (error.status, api::error_json(&error), error.allow),
    };
    let body = json.to_string().into_bytes();
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    fields.insert(header::CONTENT_LENGTH, header::HeaderValue::from(length));
    fields.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        fields.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    if let Some(allow) = allow {
        fields.insert(header::ALLOW, header::HeaderValue::from_static(allow));
    }
    response
}
