//! Finds a server that answers. Until the first byte has gone to the client, a server that fails is left for
//! another, whatever the method: the client cannot tell, and the answer of a dead server is lost anyway. After
//! that never: two answers would be spliced into one.
//!
//! What counts against a server: that it refuses or breaks connections, misses deadlines, or answers 5xx. A 500
//! counts only once another server has answered the same request: one that makes every server fail is a poison,
//! and must not take the pool down. 429 and 503 only let it cool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_core::protocols::http::server::Session as Downstream;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::body::{Prompt, UsageRequest, splice};
use tollgate_filters::request::upstream::balance::NoServer;
use tollgate_filters::response::error::{Fault, UpstreamError, normalise};

use super::answer::{self, Answered};
use super::ctx::RequestCtx;
use super::leg::{Gone, Late, Leg, or_gone, within};
use super::refuse::Stop;
use super::seat::seat;
use super::{Gate, headers};
use crate::queue::Seat;
use crate::servers::Server;
use crate::state::WireName;

/// What a client is told to wait when a server is busy and does not say how long.
pub(super) const BUSY_RETRY: Duration = Duration::from_secs(1);
/// The longest that a server can put itself out of turn.
pub(super) const BUSY_MAX: Duration = Duration::from_secs(10);
/// Idle connections that may turn out to be dead for one request; the next is then a new one.
const MAX_STALE: u32 = 2;
/// A connection that the server had closed while it idled breaks as soon as it is written to. What breaks later
/// broke over the request.
const STALE_LIMIT: Duration = Duration::from_millis(250);
/// How long a server that stopped reading a request may take to have said why.
const EARLY_ANSWER: Duration = Duration::from_secs(1);

/// Work for a server: a request that every stage has let through.
pub(super) struct Job {
    /// What was addressed.
    pub endpoint: Endpoint,
    /// The client's bytes.
    pub body: Bytes,
    /// What they ask for.
    pub prompt: Prompt,
    /// Position of the model in the catalogue.
    pub model: usize,
    /// What larger caps on output tokens are lowered to.
    pub max_tokens: Option<u64>,
}

/// Why an attempt gave the client nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection, or it broke.
    Broken(&'static str),
    /// The request could not be sent to its end, or there is no address to send it to.
    Unsent(&'static str),
    /// An idle connection turned out to be dead before a byte of an answer.
    Stale,
    /// A deadline passed.
    Late,
    /// An error answer.
    Status(Box<UpstreamAnswer>),
}

/// A server's error answer.
#[derive(Debug)]
pub(super) struct UpstreamAnswer {
    /// What it means.
    pub(super) error: UpstreamError,
    /// When the server says a retry can succeed.
    pub(super) retry_after: Option<Duration>,
    /// Its body, as far as it was read.
    pub(super) body: Bytes,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client has an answer, or as much of one as could be had; the record says which.
    Answered(Answered),
    /// The client went away.
    Gone,
    /// Nothing has gone to the client.
    Failed(Failure),
    /// The server has answered, and none of it must go out.
    Withheld(Refusal),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Late> for Ended {
    fn from(_: Late) -> Self {
        Self::Failed(Failure::Late)
    }
}

/// Has `job` done by a server and its answer relayed.
///
/// # Errors
/// What the client is to be told instead of an answer.
pub(super) async fn relay(
    gate: &Gate,
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: Job,
) -> Result<(), Stop> {
    let stages = Arc::clone(&ctx.stages);
    let model = &stages.models[job.model];
    let mut tried: Vec<usize> = Vec::new();
    let mut suspects: Vec<usize> = Vec::new();
    let mut last: Option<Failure> = None;
    let (mut stale, mut is_stale) = (0, false);
    // Servers that answered this request with an error of their own.
    let mut rejections = 0;
    loop {
        let seat = match seat(session, ctx, &stages, job.model, &tried).await? {
            Ok(seat) => seat,
            Err(none) => return Err(exhausted(none, last, rejections, &stages.servers, &job)),
        };
        let (candidate, index) = seat.position();
        let server = Arc::clone(&stages.servers[index]);
        let is_repeat = std::mem::take(&mut is_stale);
        if tried.is_empty() && !is_repeat {
            gate.budget.earn(server.pool.retry.budget_percent);
        } else if !is_repeat {
            let is_allowed =
                tried.len() < server.pool.retry.attempts as usize && gate.budget.spend(ctx.state.now());
            if !is_allowed {
                return Err(exhausted(NoServer::NoneUp, last, rejections, &stages.servers, &job));
            }
            ctx.state.metrics.retries.inc();
        }
        ctx.record.attempts += 1;
        ctx.record.server.clone_from(&server.upstream.name);
        let served_as = &model.served_as[candidate];
        let ended = Box::pin(attempt(gate, session, ctx, &job, &server, seat, served_as)).await;
        count(ctx, &server, &ended);
        match ended {
            Ended::Answered(answered) => {
                // If it was answered whole, this request was no poison: those that failed it are to blame.
                for suspect in suspects.into_iter().filter(|_| answered == Answered::Whole) {
                    blame(ctx, &stages.servers[suspect]);
                }
                return Ok(());
            }
            Ended::Gone => return Err(Stop::Gone),
            Ended::Withheld(refusal) => return Err(Stop::Refused(refusal)),
            Ended::Failed(Failure::Stale) if stale < MAX_STALE => {
                stale += 1;
                is_stale = true;
            }
            Ended::Failed(failure) => {
                judge(ctx, &server, &failure, index, &mut suspects);
                match failure {
                    Failure::Status(answer) if is_clients_fault(&answer.error, &job) => {
                        return Err(clients_mistake(answer, &job));
                    }
                    failure => last = Some(failure),
                }
                tried.push(index);
                rejections += u32::from(is_rejection(last.as_ref()));
            }
        }
    }
}

/// Tries one server.
async fn attempt(
    gate: &Gate,
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Arc<Server>,
    seat: Seat,
    served_as: &WireName,
) -> Ended {
    // What it needs until the head must not stay for as long as the stream.
    match Box::pin(attempt_until_head(gate, session, ctx, job, server, served_as)).await {
        Ok((leg, head)) => {
            // The place on the server is held until the last byte.
            let ended = answer::relay(session, ctx, job, server, leg, head).await;
            drop(seat);
            ended
        }
        Err(ended) => ended,
    }
}

async fn attempt_until_head(
    gate: &Gate,
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Server,
    served_as: &WireName,
) -> Result<(Leg, ResponseHeader), Ended> {
    let timeouts = &server.pool.timeouts;
    let broken = |what| Ended::Failed(Failure::Broken(what));
    let peer = server.peer().ok_or(Ended::Failed(Failure::Unsent("its name does not resolve")))?;
    let downstream = &mut session.downstream_session;
    // Connecting takes a future of many KB, which must not stay for as long as the stream.
    let connected = or_gone(downstream, Box::pin(Leg::connect(&gate.connector, peer))).await?;
    let mut leg = connected.map_err(|error| {
        log::debug!("server {}: connect: {error}", server.upstream.name);
        broken("no connection")
    })?;
    let pieces = pieces(job, served_as);
    let length = pieces.iter().map(Bytes::len).sum();
    let header = headers::to_upstream(downstream.req_header(), server, &ctx.record.request_id, length)
        .map_err(|error| {
            log::error!("server {}: request headers: {error}", server.upstream.name);
            broken("no header")
        })?;
    let (is_reused, began) = (leg.is_reused, Instant::now());
    let fails = |error: pingora_error::BError, failure: Failure| {
        log::debug!("server {}: {failure:?}: {error}", server.upstream.name);
        // A connection that idled and breaks at once says nothing about the server.
        let is_stale = is_reused && began.elapsed() < STALE_LIMIT && !is_timeout(&error);
        Ended::Failed(if is_stale { Failure::Stale } else { failure })
    };
    if let Err(error) = or_gone(downstream, leg.send(header, &pieces)).await? {
        // A server may have refused the request before it read all of it, and have said why.
        let early = or_gone(downstream, within(EARLY_ANSWER, leg.head())).await?;
        let Ok(Ok(head)) = early else { return Err(fails(error, Failure::Unsent("it stopped reading"))) };
        leg.must_close();
        ctx.answered = Some(Instant::now());
        return judge_head(downstream, leg, head).await;
    }
    ctx.sent = Some(Instant::now());
    let limit =
        if job.prompt.is_streaming { timeouts.headers + prefill(server, job) } else { timeouts.answer };
    let head = or_gone(downstream, within(limit, leg.head())).await??;
    let head = head.map_err(|error| fails(error, Failure::Broken("it broke off before its answer")))?;
    ctx.answered = Some(Instant::now());
    judge_head(downstream, leg, head).await
}

/// Goes on with an answer, or reads what an error says.
async fn judge_head(
    downstream: &mut Downstream,
    mut leg: Leg,
    head: ResponseHeader,
) -> Result<(Leg, ResponseHeader), Ended> {
    if head.status.is_success() {
        return Ok((leg, head));
    }
    let error = or_gone(downstream, within(ERROR_BODY_LIMIT, read_error(&mut leg))).await?;
    let (body, is_whole) = error.unwrap_or_default();
    if is_whole {
        leg.release().await;
    }
    let retry_after =
        head.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let answer = UpstreamAnswer {
        error: normalise(head.status.as_u16(), &body),
        retry_after: retry_after.map(Duration::from_secs),
        body: Bytes::from(body),
    };
    Err(Ended::Failed(Failure::Status(Box::new(answer))))
}

fn is_timeout(error: &pingora_error::Error) -> bool {
    use pingora_error::ErrorType::{ReadTimedout, WriteTimedout};
    matches!(error.etype(), ReadTimedout | WriteTimedout)
}

/// The most of an error's body that is looked at, and for how long it may take.
const ERROR_BODY_BYTES: usize = 64 * 1024;
const ERROR_BODY_LIMIT: Duration = Duration::from_secs(5);

/// The body of an error answer, and whether that was all of it.
async fn read_error(leg: &mut Leg) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        match leg.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ERROR_BODY_BYTES => body.extend_from_slice(&chunk),
            Ok(None) => return (body, true),
            Ok(Some(_)) | Err(_) => return (body, false),
        }
    }
}

/// More time for longer prompts: a server reads the prompt before it gives the first token.
pub(super) fn prefill(server: &Server, job: &Job) -> Duration {
    let thousands = job.prompt.estimated_input() as f64 / 1000.0;
    server.pool.timeouts.prefill_per_1k_tokens.mul_f64(thousands.min(10_000.0))
}

/// The body as this server gets it: the client's bytes with the declared splices.
fn pieces(job: &Job, served_as: &WireName) -> Vec<Bytes> {
    let mut splices = Vec::new();
    if job.prompt.model != *served_as.plain {
        splices.extend(job.prompt.model_spans.iter().map(|span| (span.clone(), served_as.json.clone())));
    }
    if let UsageRequest::Splice(spans) = &job.prompt.usage {
        let texts = spans.iter().map(|(span, text)| (span.clone(), Bytes::from_static(text.as_bytes())));
        splices.extend(texts);
    }
    if let Some(cap) = job.max_tokens {
        let too_large = job.prompt.max_output_spans.iter().filter(|(_, asked)| *asked > cap);
        splices.extend(too_large.map(|(span, _)| (span.clone(), Bytes::from(cap.to_string()))));
    }
    splice(&job.body, splices)
}

/// Notes what a failure says about the server.
fn judge(ctx: &RequestCtx, server: &Server, failure: &Failure, index: usize, suspects: &mut Vec<usize>) {
    match failure {
        Failure::Broken(_) | Failure::Stale => blame(ctx, server),
        Failure::Unsent(what) => {
            log::debug!("server {}: {what}", server.upstream.name);
            suspects.push(index);
        }
        Failure::Late => suspects.push(index),
        Failure::Status(answer) => match answer.error.fault {
            Fault::Client => server.load.health.observe_success(),
            Fault::Ours | Fault::Server => suspects.push(index),
            Fault::Busy => {
                let span = answer.retry_after.unwrap_or(BUSY_RETRY).min(BUSY_MAX);
                server.load.health.observe_busy(span, ctx.state.now());
            }
        },
    }
}

fn blame(ctx: &RequestCtx, server: &Server) {
    if server.load.health.observe_failure(server.eject_rules(), ctx.state.now()) {
        log::warn!("server {} is ejected: too many failures in a row", server.upstream.name);
    }
}

fn count(ctx: &RequestCtx, server: &Server, ended: &Ended) {
    let result = match ended {
        Ended::Answered(Answered::Whole | Answered::Withheld) | Ended::Withheld(_) => {
            server.load.health.observe_success();
            "ok"
        }
        Ended::Answered(Answered::Refused) => {
            server.load.health.observe_success();
            "client_fault"
        }
        Ended::Answered(Answered::Stopped) => {
            server.load.health.observe_success();
            "stopped"
        }
        Ended::Answered(Answered::Cut) => {
            blame(ctx, server);
            "cut"
        }
        Ended::Answered(Answered::ClientGone) | Ended::Gone => "client_gone",
        Ended::Failed(Failure::Broken(what)) => {
            log::debug!("server {}: {what}", server.upstream.name);
            "broken"
        }
        Ended::Failed(Failure::Unsent(_)) => "unsent",
        Ended::Failed(Failure::Stale) => "stale",
        Ended::Failed(Failure::Late) => "late",
        Ended::Failed(Failure::Status(answer)) => match answer.error.fault {
            Fault::Client => "client_fault",
            Fault::Ours => "credential",
            Fault::Server => "error",
            Fault::Busy => "busy",
        },
    };
    ctx.state.metrics.attempts.with_label_values(&[&server.upstream.name, result]).inc();
}

/// What a client is told when no server is left to try.
fn exhausted(
    none: NoServer,
    last: Option<Failure>,
    rejections: u32,
    servers: &[Arc<Server>],
    job: &Job,
) -> Stop {
    let refusal = match last {
        // A server that came up again would be seen by the next round of checks.
        None if none == NoServer::NoneUp => {
            let interval = servers.iter().map(|server| server.pool.health.interval).min();
            Refusal::NoUpstreamAvailable { retry_after: interval.unwrap_or(BUSY_RETRY).min(BUSY_MAX) }
        }
        None => Refusal::Overloaded { retry_after: BUSY_RETRY },
        Some(Failure::Late) => Refusal::UpstreamTimeout,
        Some(Failure::Broken(_) | Failure::Unsent(_) | Failure::Stale) => Refusal::UpstreamError,
        Some(Failure::Status(answer)) => match answer.error.fault {
            Fault::Busy if answer.error.status == 429 => return Stop::Upstream(answer),
            Fault::Busy => {
                Refusal::Overloaded { retry_after: answer.retry_after.unwrap_or(BUSY_RETRY).min(BUSY_MAX) }
            }
            Fault::Client => return clients_mistake(answer, job),
            Fault::Server if rejections > 1 => Refusal::UpstreamRejects,
            Fault::Ours | Fault::Server => Refusal::UpstreamError,
        },
    };
    Stop::Refused(refusal)
}

fn is_rejection(failure: Option<&Failure>) -> bool {
    matches!(failure, Some(Failure::Status(answer)) if answer.error.fault == Fault::Server)
}

/// Whether an error is the client's to mend: the server says so, or it failed over a request that lacks what
/// the endpoint is for.
fn is_clients_fault(error: &UpstreamError, job: &Job) -> bool {
    error.fault == Fault::Client || (error.fault == Fault::Server && !job.prompt.has_required_key)
}

fn clients_mistake(answer: Box<UpstreamAnswer>, job: &Job) -> Stop {
    match job.endpoint.required_keys().first() {
        Some(param) if answer.error.fault == Fault::Server => Stop::Refused(Refusal::UnsupportedValue {
            param,
            message: format!("The request lacks \"{param}\", which this endpoint reads."),
        }),
        _ => Stop::Upstream(answer),
    }
}
