//! The request stages, one call each, in order: strictness, endpoint, auth, body, catalogue, quota, then the
//! relay. Each may stop the request; what the client then reads is decided in `refuse.rs`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use pingora_proxy::Session;
use tollgate_filters::endpoint::{BodyKind, Endpoint, model_in_path};
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::auth::{Principal, bearer};
use tollgate_filters::request::body::{self as prompt_body, Prompt, Text};
use tollgate_filters::request::multipart;
use tollgate_filters::request::quota::Lease;

use super::ctx::RequestCtx;
use super::refuse::{self, Stop};
use super::relay::{Job, relay};
use super::scan::Scan;
use super::{Gate, body, cors, headers, models, quota, scan, strict};
use crate::calendar;
use crate::config::settings::WhenFull;
use crate::ledger::Begun;
use crate::record::Outcome;
use crate::state::today;

/// When a client may find room in the ledger again.
const LEDGER_RETRY: Duration = Duration::from_secs(1);

/// Takes a request whose headers have been read through every stage to its answer.
pub(super) async fn serve(gate: &Gate, session: &mut Session, ctx: &mut RequestCtx) {
    ctx.record.request_id = session
        .get_header("x-request-id")
        .and_then(headers::sane_request_id)
        .map_or_else(headers::new_request_id, str::to_owned);
    ctx.record.client = client_address(session);
    let endpoint = Endpoint::at(session.req_header().uri.path());
    ctx.record.endpoint = endpoint.map_or("", Endpoint::label);
    if let Err(stop) = stages(gate, session, ctx, endpoint).await {
        refuse::answer(session, ctx, endpoint, stop).await;
    }
}

async fn stages(
    gate: &Gate,
    session: &mut Session,
    ctx: &mut RequestCtx,
    endpoint: Option<Endpoint>,
) -> Result<(), Stop> {
    let stages = Arc::clone(&ctx.stages);
    let settings = &stages.settings;
    let is_http2 = session.is_http2();
    let raw = session.as_http1().map(|http1| http1.get_headers_raw_bytes());
    strict::check(session.req_header(), raw.as_deref(), is_http2, settings.limits.request_header_bytes)?;
    let endpoint = endpoint.ok_or(Refusal::NotFound)?;
    let method = session.req_header().method.clone();
    if method == Method::OPTIONS {
        return preflight(session, ctx, endpoint).await;
    }
    let is_get = endpoint.body_kind() == BodyKind::None;
    if is_get != matches!(method, Method::GET | Method::HEAD) || (!is_get && method != Method::POST) {
        return Err(Refusal::MethodNotAllowed { allow: endpoint.allow() }.into());
    }
    if endpoint == Endpoint::Health {
        return answer_json(session, ctx, Bytes::from_static(b"{\"status\":\"ok\"}")).await;
    }
    let principal = auth(session, ctx, endpoint).await?;
    ctx.record.tenant = Arc::clone(&principal.tenant);
    ctx.record.key_id = Arc::clone(&principal.key_id);
    ctx.principal = Some(Arc::clone(&principal));
    ledger_takes_it(ctx)?;
    match endpoint {
        Endpoint::Models => answer_json(session, ctx, models::list(&stages, &principal)).await,
        Endpoint::Model => {
            let id = model_in_path(session.req_header().uri.path()).ok_or(Refusal::NotFound)?;
            let card = models::card(&stages, &principal, &id)?;
            answer_json(session, ctx, card).await
        }
        _ => {
            let job = admit(session, ctx, endpoint, &principal).await?;
            relay(gate, session, ctx, job).await
        }
    }
}

/// Whether what the request uses can be recorded, where the operator wants nothing unrecorded. Every request in work
/// has its place in the queue, so that none that was let in can be lost.
fn ledger_takes_it(ctx: &mut RequestCtx) -> Result<(), Refusal> {
    let must = ctx.stages.settings.ledger.as_ref().is_some_and(|ledger| ledger.when_full == WhenFull::Closed);
    let in_work = ctx.state.in_flight.load(Ordering::Relaxed);
    match &ctx.state.ledger {
        Some(ledger) if must && !ledger.has_room_for(in_work) => {
            ctx.is_off_ledger = true;
            Err(Refusal::NoLedger { retry_after: LEDGER_RETRY })
        }
        _ => Ok(()),
    }
}

/// Reads the body and passes it through the stages that need it: what remains is work for a server.
async fn admit(
    session: &mut Session,
    ctx: &mut RequestCtx,
    endpoint: Endpoint,
    principal: &Principal,
) -> Result<Job, Stop> {
    let stages = Arc::clone(&ctx.stages);
    let limits = &stages.settings.limits;
    let content_type = session.get_header(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    if endpoint.body_kind() == BodyKind::Json && !is_json(&content_type) {
        return Err(Refusal::UnsupportedMediaType("content-type: application/json").into());
    }
    let body = body::read(session, limits, &stages.settings.timeouts).await?;
    ctx.record.request_bytes = body.len() as u64;
    let mut prompt = match endpoint.body_kind() {
        BodyKind::Multipart => from_form(multipart::parse(&content_type, &body)?, &body),
        BodyKind::Json | BodyKind::None => prompt_body::parse(endpoint, &body, limits.json_depth)?,
    };
    let today = today();
    let model = stages.catalogue.find(&prompt.model, principal, today)?;
    ctx.model = Some(model);
    ctx.record.model = Arc::clone(&stages.catalogue.entry(model).name);
    prompt.count(&stages.counters[model], &body);
    quota::admit(ctx, principal, endpoint, model, &prompt).await?;
    let recalled = scan::recall(ctx, principal, endpoint, model, &prompt).await;
    let job = Scan { principal, endpoint, model, prompt: &prompt, body: &body, recalled };
    scan::scan(session, ctx, job).await?;
    if let Some(ledger) = &ctx.state.ledger {
        let output = ctx.lease.as_ref().map_or(0, Lease::output);
        ctx.begun = Some(ledger.begin(Begun::of(&ctx.record, prompt.estimated_input(), output)));
    }
    let max_tokens = quota::clamp(stages.tier(principal));
    Ok(Job { endpoint, body, prompt, model, max_tokens })
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let ends_in_json = |kind: &str| kind.get(kind.len().saturating_sub(5)..) == Some("+json");
    kind.is_empty() || kind.eq_ignore_ascii_case("application/json") || ends_in_json(kind)
}

fn from_form(form: multipart::Form, body: &[u8]) -> Prompt {
    let spans = form.prompts.into_iter().filter(|span| !span.is_empty());
    let texts: Vec<Text> = spans.map(|span| Text::of_form(body, span)).collect();
    Prompt {
        model: form.model,
        model_spans: vec![form.model_span],
        is_streaming: form.is_streaming,
        choices: 1,
        text_chars: texts.iter().map(Text::chars).sum(),
        texts,
        has_required_key: true,
        ..Prompt::default()
    }
}

/// Who asks. A wrong key is counted against its address, and slowed when there are many.
async fn auth(session: &Session, ctx: &RequestCtx, endpoint: Endpoint) -> Result<Arc<Principal>, Stop> {
    let header = |name: &str| session.get_header(name).map(http::HeaderValue::as_bytes);
    let credential = match header("authorization") {
        Some(value) => bearer(value),
        None => header("api-key").or_else(|| header("x-api-key")),
    };
    let source = ctx.record.client;
    let found = ctx.stages.keyring.identify(credential, source, endpoint, calendar::now());
    if matches!(found, Err(Refusal::InvalidApiKey))
        && let Some(source) = source
    {
        let rules = &ctx.stages.settings.auth;
        let delay = ctx.state.guessing.observe(
            source,
            ctx.state.now(),
            rules.failures_per_minute,
            rules.failure_delay_max,
        );
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }
    let identity = found?;
    if identity.by_previous_secret {
        ctx.state.metrics.previous_secrets.with_label_values(&[&*identity.principal.tenant]).inc();
    }
    Ok(identity.principal)
}

fn client_address(session: &Session) -> Option<IpAddr> {
    session.client_addr().and_then(|address| address.as_inet().map(|inet| inet.ip().to_canonical()))
}

async fn preflight(session: &mut Session, ctx: &mut RequestCtx, endpoint: Endpoint) -> Result<(), Stop> {
    let mut fields = cors::preflight(session.req_header(), &ctx.stages.settings.cors, endpoint.allow());
    headers::common(&mut fields, ctx).map_err(internal)?;
    let header = headers::answer(StatusCode::NO_CONTENT, fields);
    ctx.record.status = 204;
    ctx.record.outcome = Outcome::Ok;
    session.downstream_session.write_response_header(Box::new(header)).await.map_err(|_| Stop::Gone)
}

/// Answers with JSON of our own.
async fn answer_json(session: &mut Session, ctx: &mut RequestCtx, body: Bytes) -> Result<(), Stop> {
    let mut fields = HeaderMap::with_capacity(headers::FIELDS);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(header::CONTENT_LENGTH, body.len().into());
    headers::common(&mut fields, ctx).map_err(internal)?;
    cors::decorate(&mut fields, session.req_header(), &ctx.stages.settings.cors);
    let header = headers::answer(StatusCode::OK, fields);
    ctx.record.status = 200;
    let is_head = session.req_header().method == Method::HEAD;
    let downstream = &mut session.downstream_session;
    downstream.write_response_header(Box::new(header)).await.map_err(|_| Stop::Gone)?;
    if !is_head {
        ctx.record.answer_bytes = body.len() as u64;
        downstream.write_response_body(body, true).await.map_err(|_| Stop::Gone)?;
    }
    ctx.record.outcome = Outcome::Ok;
    Ok(())
}

/// A header field of our own making that cannot be set: a fault of ours, told to the log and not to the client.
pub(super) fn internal(error: pingora_error::BError) -> Stop {
    log::error!("an answer's headers could not be made: {error}");
    Stop::Refused(Refusal::Unavailable)
}
