//! `/admin/v1`: who asks, may they, what do they ask. JSON in and out; every fault has one shape:
//! `{"error":{"code","message","field"}}`. A body is bounded in size and time, a token compared in constant time, wrong
//! tokens slowed like wrong keys, and each change leaves a line in the log: who, from where, what, never a secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value as Json, json};
use tollgate_filters::request::auth::bearer;

use super::{keys, status, usage};
use crate::config::settings::{AdminToken, Role};
use crate::state::{Stages, State};

/// Where it begins.
pub(super) const ROOT: &str = "/admin/v1";
/// Largest body of a request, bytes.
const MAX_BODY: usize = 64 * 1024;
/// How long a body may take.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    /// HTTP status.
    pub(super) status: StatusCode,
    /// For programs.
    pub(super) code: &'static str,
    /// For people.
    pub(super) message: String,
    /// The field that is wrong, if one is.
    pub(super) field: Option<String>,
    /// Value of the `allow` header.
    pub(super) allow: Option<&'static str>,
}

impl ApiError {
    /// An error of this kind.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, allow: None }
    }

    /// A field of the request is wrong.
    pub(super) fn field(field: &str, message: impl Into<String>) -> Self {
        let field = Some(field.to_owned());
        Self { field, ..Self::new(StatusCode::BAD_REQUEST, "invalid_field", message) }
    }

    /// There is no such thing.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    fn method(allow: &'static str) -> Self {
        let message = format!("this path answers to {allow}");
        let error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        Self { allow: Some(allow), ..error }
    }
}

/// Status and JSON of an answer.
pub(super) type Answer = Result<(StatusCode, Json), ApiError>;

/// A request of somebody who may make it.
pub(super) struct Call {
    /// The process.
    pub(super) state: Arc<State>,
    /// The configuration in force.
    pub(super) stages: Arc<Stages>,
    /// Who asks, for the log.
    pub(super) who: String,
    /// Parameters, decoded.
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// The parameters, of which only these are known.
    pub(super) fn query(&self, known: &[&str]) -> Result<&[(String, String)], ApiError> {
        match self.query.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                Err(ApiError::field(name, format!("unknown parameter; known are {}", known.join(", "))))
            }
            None => Ok(&self.query),
        }
    }

    /// The body as a JSON object; an empty one has no fields.
    pub(super) fn object(&self) -> Result<Map<String, Json>, ApiError> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Map::new());
        }
        let invalid = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message);
        match serde_json::from_slice(&self.body) {
            Ok(Json::Object(object)) => Ok(object),
            Ok(_) => Err(invalid("expected a JSON object, found another value".to_owned())),
            Err(error) => Err(invalid(format!("the body is not JSON: {error}"))),
        }
    }

    /// Leaves a line about a change.
    pub(super) fn log(&self, what: &str) {
        log::info!("admin: {} {what}", self.who);
    }
}

/// Whether a path belongs here.
pub(super) fn is_at(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request below [`ROOT`].
pub(super) async fn answer(state: &Arc<State>, session: &mut ServerSession) -> Answer {
    let stages = state.stages.load_full();
    let request = session.req_header();
    let source = session.client_addr().and_then(|at| at.as_inet()).map(|inet| inet.ip().to_canonical());
    let path: Vec<String> = request
        .uri
        .path()
        .strip_prefix(ROOT)
        .unwrap_or_default()
        .split('/')
        .filter(|part| !part.is_empty())
        .map(decoded)
        .collect::<Option<_>>()
        .ok_or_else(|| ApiError::not_found("the path is not valid"))?;
    let method = request.method.clone();
    let query = parameters(request.uri.query().unwrap_or_default())?;
    let authorization = request.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes().to_vec());
    let token = authorize(state, &stages, authorization.as_deref(), source).await?;
    if method != Method::GET && token.role != Role::Operator {
        let message =
            format!("the token {:?} has the role {}; this needs operator", token.name, token.role.label());
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    let from = source.map_or_else(|| "an unknown address".to_owned(), |source| source.to_string());
    let who = format!("{} ({from})", token.name);
    let body = read_body(session).await?;
    let call = Call { state: Arc::clone(state), stages, who, query, body };
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    route(&call, &method, &path).await
}

/// The table of what there is.
async fn route(call: &Call, method: &Method, path: &[&str]) -> Answer {
    match (path, method) {
        (["status"], &Method::GET) => status::status(call),
        (["status"], _) => Err(ApiError::method("GET")),
        (["usage"], &Method::GET) => usage::usage(call).await,
        (["usage"], _) => Err(ApiError::method("GET")),
        (["keys"], &Method::GET) => keys::list(call).await,
        (["keys"], &Method::POST) => keys::create(call).await,
        (["keys"], _) => Err(ApiError::method("GET, POST")),
        (["keys", id], &Method::GET) => keys::show(call, id).await,
        (["keys", id], &Method::PATCH) => keys::change(call, id).await,
        (["keys", id], &Method::DELETE) => keys::delete(call, id).await,
        (["keys", _], _) => Err(ApiError::method("GET, PATCH, DELETE")),
        (["keys", id, "rotate"], &Method::POST) => keys::rotate(call, id).await,
        (["keys", id, "revoke"], &Method::POST) => keys::revoke(call, id).await,
        (["keys", id, "expire"], &Method::POST) => keys::expire(call, id).await,
        (["keys", _, "rotate" | "revoke" | "expire"], _) => Err(ApiError::method("POST")),
        _ => Err(ApiError::not_found("there is nothing here; docs/keys.md lists what /admin/v1 has")),
    }
}

/// Who holds the token that was sent.
async fn authorize<'a>(
    state: &State,
    stages: &'a Stages,
    authorization: Option<&[u8]>,
    source: Option<IpAddr>,
) -> Result<&'a AdminToken, ApiError> {
    let tokens = stages.settings.admin.as_ref().map(|admin| admin.tokens.as_slice()).unwrap_or_default();
    if tokens.is_empty() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "admin_api_disabled",
            "no token is configured for /admin/v1: add one to admin.tokens in tollgate.yaml, for example \
             {name: ops, role: operator, token: file:../var/admin.token}",
        ));
    }
    let presented = authorization.and_then(bearer).unwrap_or_default();
    if let Some(token) = holder(tokens, presented) {
        return Ok(token);
    }
    if let Some(source) = source {
        let rules = &stages.settings.auth;
        let (free, longest) = (rules.failures_per_minute, rules.failure_delay_max);
        let delay = state.guessing.observe(source, state.now(), free, longest);
        tokio::time::sleep(delay).await;
    }
    let message = "missing or wrong token; send one of admin.tokens as \"Authorization: Bearer <token>\"";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message))
}

/// The token that was presented. All are compared, by their digests, so that the time tells nothing.
fn holder<'a>(tokens: &'a [AdminToken], presented: &[u8]) -> Option<&'a AdminToken> {
    let presented = digest(&SHA256, presented);
    let mut found = None;
    for token in tokens {
        let own = digest(&SHA256, token.token.expose().as_bytes());
        let pairs = own.as_ref().iter().zip(presented.as_ref());
        let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
        if std::hint::black_box(difference) == 0 {
            found = Some(token);
        }
    }
    found
}

async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, ApiError> {
    let read = async {
        let mut body = Vec::new();
        loop {
            match session.read_request_body().await {
                Ok(Some(part)) if body.len() + part.len() > MAX_BODY => {
                    let message = format!("the body is larger than {MAX_BODY} bytes");
                    return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message));
                }
                Ok(Some(part)) => body.extend_from_slice(&part),
                Ok(None) => return Ok(body),
                Err(_) => {
                    return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", "the body is cut"));
                }
            }
        }
    };
    let late =
        |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not come in time");
    tokio::time::timeout(BODY_DEADLINE, read).await.map_err(late)?
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((decoded(name)?, decoded(&value.replace('+', " "))?))
    });
    let pairs: Option<Vec<_>> = pairs.collect();
    pairs.ok_or_else(|| ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", "the query is not valid"))
}

/// Text without percent-encoding; `None` if it is not valid.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// An error as it is sent.
pub(super) fn error_json(error: &ApiError) -> Json {
    json!({"error": {"code": error.code, "message": error.message, "field": error.field}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Secret;

    #[test]
    fn parameters_are_decoded() {
        let pairs = |query| parameters(query).ok();
        let expected = vec![("a".to_owned(), "b c/d".to_owned()), ("e".to_owned(), String::new())];
        assert_eq!(pairs("a=b+c%2Fd&&e"), Some(expected));
        assert_eq!(pairs(""), Some(vec![]));
        for bad in ["a=%", "a=%2", "a=%zz", "a=%ff"] {
            assert_eq!(pairs(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_whole_token_is_a_holders() {
        let token = |name: &str, token| AdminToken {
            name: name.to_owned(),
            role: Role::ReadOnly,
            token: Secret::new(token),
        };
        let tokens = [token("a", "0123456789abcdef"), token("b", "fedcba9876543210")];
        for (presented, expected) in [
            ("0123456789abcdef", Some("a")),
            ("fedcba9876543210", Some("b")),
            ("0123456789abcde", None),
            ("0123456789abcdef0", None),
            ("", None),
        ] {
            let found = holder(&tokens, presented.as_bytes()).map(|token| token.name.as_str());
            assert_eq!(found, expected, "{presented}");
        }
    }
}
