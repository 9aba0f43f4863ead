//! Refusal or failure → status and body. Nothing else in the gateway writes an error.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use pingora_error::{ErrorType, OrErr, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::refusal::{Answer, Refusal};
use tollgate_filters::response::error::{Fault, may_pass};

use super::ctx::RequestCtx;
use super::relay::{BUSY_MAX, BUSY_RETRY, UpstreamAnswer};
use super::{cors, down, headers};
use crate::record::Outcome;

/// A refused body that is no larger than this is read to its end, so that the connection can be used again.
const DRAIN_BYTES: usize = 256 * 1024;
/// How long a refused client may go on sending before the connection is closed under it.
const LINGER: Duration = Duration::from_secs(3);

/// What stopped a request before any byte of an answer went to the client.
#[derive(Debug)]
pub(super) enum Stop {
    /// A stage said no, or no server could answer.
    Refused(Refusal),
    /// A server gave an error that is the client's to read.
    Upstream(Box<UpstreamAnswer>),
    /// The client went away.
    Gone,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Answers `stop` and notes it in the record.
pub(super) async fn answer(
    session: &mut Session,
    ctx: &mut RequestCtx,
    endpoint: Option<Endpoint>,
    stop: Stop,
) {
    match stop {
        Stop::Gone => {
            ctx.record.outcome = Outcome::ClientGone;
            // Nothing may follow on this connection: a byte of the next request may have been read already.
            ctx.is_cut = true;
        }
        Stop::Refused(refusal) => refuse(session, ctx, endpoint, &refusal).await,
        Stop::Upstream(answer) => pass_error(session, ctx, endpoint, *answer).await,
    }
}

async fn refuse(session: &mut Session, ctx: &mut RequestCtx, endpoint: Option<Endpoint>, refusal: &Refusal) {
    let answer = refusal.answer();
    ctx.record.outcome = match refusal {
        Refusal::UpstreamTimeout => Outcome::TimedOut,
        refusal if refusal.is_failure() => Outcome::UpstreamFailed,
        _ => Outcome::Refused,
    };
    ctx.record.code = Some(answer.code.to_owned());
    ctx.state.metrics.observe_refusal(answer.code);
    let is_malformed = matches!(refusal, Refusal::MalformedRequest(_) | Refusal::HeadersTooLarge(_));
    if is_malformed {
        session.set_keepalive(None);
    }
    let body = Bytes::from(to_body(&answer, endpoint));
    let built = build(ctx, body.len()).and_then(|mut fields| {
        decorate(&mut fields, &answer);
        cors::decorate(&mut fields, session.req_header(), &ctx.stages.settings.cors);
        finish(answer.status, fields)
    });
    deliver(session, ctx, built, answer.status, body).await;
}

/// Passes a server's error on: as it is where it has the right shape and is the client's to read, else in that
/// shape.
async fn pass_error(
    session: &mut Session,
    ctx: &mut RequestCtx,
    endpoint: Option<Endpoint>,
    answer: UpstreamAnswer,
) {
    let UpstreamAnswer { error, retry_after, body } = answer;
    let is_clients = error.status < 500;
    ctx.record.outcome = if is_clients { Outcome::Refused } else { Outcome::UpstreamFailed };
    ctx.record.code.clone_from(&error.code);
    ctx.state.metrics.observe_refusal(if is_clients { "upstream_refused" } else { "upstream_error" });
    let body = match endpoint {
        Some(Endpoint::Messages) => Bytes::from(error.to_messages_json()),
        _ if may_pass(&body, &error) => body,
        _ => Bytes::from(error.to_json()),
    };
    let retry_after = (error.fault == Fault::Busy).then(|| retry_after.unwrap_or(BUSY_RETRY).min(BUSY_MAX));
    let built = build(ctx, body.len()).and_then(|mut fields| {
        decorate_retry(&mut fields, retry_after);
        cors::decorate(&mut fields, session.req_header(), &ctx.stages.settings.cors);
        finish(error.status, fields)
    });
    deliver(session, ctx, built, error.status, body).await;
}

fn to_body(answer: &Answer, endpoint: Option<Endpoint>) -> String {
    if endpoint == Some(Endpoint::Messages) { answer.to_anthropic_json() } else { answer.to_json() }
}

/// The event that ends a stream whose headers have gone out.
#[must_use]
pub(super) fn event(refusal: &Refusal, endpoint: Endpoint) -> Bytes {
    let body = to_body(&refusal.answer(), Some(endpoint));
    // Clients of the Messages API go by the event's name.
    let name = if endpoint == Endpoint::Messages { "event: error\n" } else { "" };
    Bytes::from(format!("{name}data: {body}\n\n"))
}

fn build(ctx: &RequestCtx, length: usize) -> Result<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(headers::FIELDS);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CONTENT_LENGTH, length.into());
    headers::common(&mut fields, ctx)?;
    Ok(fields)
}

fn finish(status: u16, fields: HeaderMap) -> Result<ResponseHeader> {
    let status = StatusCode::from_u16(status).or_err(ErrorType::InternalError, "an error's status")?;
    Ok(headers::answer(status, fields))
}

fn decorate_retry(fields: &mut HeaderMap, retry_after: Option<Duration>) {
    if let Some(after) = retry_after {
        // Small and true: SDKs sleep for as long as they are told.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        fields.insert(header::RETRY_AFTER, seconds.max(1).into());
        fields.insert("retry-after-ms", (after.as_millis().max(1) as u64).into());
    }
}

fn decorate(fields: &mut HeaderMap, answer: &Answer) {
    decorate_retry(fields, answer.retry_after);
    if answer.must_not_retry {
        fields.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    if let Some(allow) = answer.allow {
        fields.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
}

async fn deliver(
    session: &mut Session,
    ctx: &mut RequestCtx,
    header: Result<ResponseHeader>,
    status: u16,
    body: Bytes,
) {
    let unread = prepare_unread_body(session);
    ctx.record.status = status;
    ctx.record.answer_bytes += body.len() as u64;
    ctx.close();
    let written = match header {
        Ok(header) => write(session, header, body, ctx.stages.settings.timeouts.client_write).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        // The refusal stands; only the client did not wait for it.
        log::debug!("request {}: the client left before its error answer: {error}", ctx.record.request_id);
        ctx.is_cut = true;
        return;
    }
    if unread == Unread::Nothing {
        return;
    }
    // The request is over; what follows is for the connection's sake.
    ctx.settle();
    if !linger(session).await && unread == Unread::Little {
        ctx.is_cut = true;
    }
}

async fn write(session: &mut Session, header: ResponseHeader, body: Bytes, limit: Duration) -> Result<()> {
    let is_head = session.req_header().method == http::Method::HEAD;
    let downstream = &mut session.downstream_session;
    down::head(downstream, Box::new(header), limit).await?;
    if is_head { Ok(()) } else { down::body(downstream, body, true, limit).await }
}

/// What a refused client has not sent yet, or we not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// Nothing, or a client that waits to be told to go on.
    Nothing,
    /// A small body: it is read after the answer, and the connection lives.
    Little,
    /// A large one, or of unknown size: the connection closes after the answer.
    Much,
}

fn prepare_unread_body(session: &mut Session) -> Unread {
    if session.downstream_session.is_body_done() {
        return Unread::Nothing;
    }
    let length =
        session.get_header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let expects_continue = session.get_header(header::EXPECT).is_some();
    if length.is_some_and(|length: usize| length <= DRAIN_BYTES) && !expects_continue {
        session.downstream_session.set_close_on_response_before_downstream_finish(false);
        return Unread::Little;
    }
    session.set_keepalive(None);
    if expects_continue { Unread::Nothing } else { Unread::Much }
}

/// Reads on for a while after an answer that the client may not have seen yet: closing a socket with unread
/// bytes resets it, and the reset can overtake the answer. Whether the body came to its end.
async fn linger(session: &mut Session) -> bool {
    let read = async {
        loop {
            match session.downstream_session.read_request_body().await {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(LINGER, read).await.unwrap_or(false)
}
