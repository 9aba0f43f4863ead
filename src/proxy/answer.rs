//! A server's answer → the client. The headers are held until the first body bytes are there, so that a server
//! that says 200 and dies can still be left for another. An event stream passes through the stream filter
//! chunk by chunk, each written as soon as it came; a JSON answer is held whole, so that it fails over as a
//! whole; anything else is passed on as it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header;
use pingora_core::protocols::http::server::Session as Downstream;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::json::{MAX_DEPTH, Reader};
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::body::{UsageRequest, escape, splice};
use tollgate_filters::response::Api;
use tollgate_filters::response::answer::read;
use tollgate_filters::response::error::Fault;
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};
use tollgate_filters::response::tokens::CHARS_PER_TOKEN;
use tollgate_filters::response::usage::{Estimate, charge};

use super::ctx::RequestCtx;
use super::leg::{Leg, gone, or_gone, within};
use super::relay::{Ended, Failure, Job, prefill};
use super::{cors, down, headers, refuse};
use crate::record::Outcome;
use crate::servers::Server;

/// Sent in a long silence. A comment: no client takes it for an event.
const KEEPALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// How long the end of a server's body may take after the event that ends its stream.
const AFTER_END: Duration = Duration::from_secs(1);

/// What the client has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// All of it.
    Whole,
    /// A part, and an error event or a cut connection.
    Cut,
    /// A part, and the server's own error event that says it is the client's fault.
    Refused,
    /// A part; it went away itself.
    ClientGone,
}

/// Relays the answer that begins with `head`.
pub(super) async fn relay(
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Arc<Server>,
    leg: Leg,
    head: ResponseHeader,
) -> Ended {
    let content_type = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    // A coded body cannot be read; it was not asked for, and is passed on as it is.
    let is_coded = head.headers.contains_key(header::CONTENT_ENCODING);
    ctx.record.status = head.status.as_u16();
    let ended = if is_coded {
        pass(session, ctx, job, server, leg, head, BytesMut::new()).await
    } else if kind.eq_ignore_ascii_case("text/event-stream") {
        stream(session, ctx, job, server, leg, head).await
    } else if kind.eq_ignore_ascii_case("application/json") {
        whole(session, ctx, job, server, leg, head).await
    } else {
        pass(session, ctx, job, server, leg, head, BytesMut::new()).await
    };
    match &ended {
        Ended::Answered(Answered::Whole) => ctx.record.outcome = Outcome::Ok,
        Ended::Answered(Answered::Refused) => ctx.record.outcome = Outcome::Refused,
        Ended::Answered(Answered::ClientGone) => {
            ctx.record.outcome = Outcome::ClientGone;
            // Should it be there after all, it must not take what it has for the whole.
            ctx.is_cut = true;
        }
        Ended::Answered(Answered::Cut) => {
            if ctx.record.outcome == Outcome::Aborted {
                ctx.record.outcome = Outcome::UpstreamCut;
            }
        }
        Ended::Gone | Ended::Failed(_) => {
            ctx.record.status = 0;
            ctx.stream = None;
            ctx.record.is_streaming = false;
        }
    }
    ended
}

fn api(endpoint: Endpoint) -> Api {
    match endpoint {
        Endpoint::ChatCompletions => Api::Chat,
        Endpoint::Completions => Api::Completions,
        Endpoint::Responses => Api::Responses,
        Endpoint::Messages => Api::Messages,
        _ => Api::Other,
    }
}

/// What happened while waiting for a server's next bytes.
enum Next {
    Chunk(Bytes),
    End,
    Broken,
    Late,
    Gone,
}

/// An event stream on its way to the client.
struct Relay<'a> {
    downstream: &'a mut Downstream,
    ctx: &'a mut RequestCtx,
    leg: Leg,
    api: Api,
    /// Not written yet.
    head: Option<Box<ResponseHeader>>,
    head_at: Instant,
    last_read: Instant,
    last_write: Instant,
    first_token: Duration,
    between: Duration,
    client_write: Duration,
    /// Whether the end of the server's body can be told from a cut.
    is_framed: bool,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
}

async fn stream(
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Arc<Server>,
    leg: Leg,
    head: ResponseHeader,
) -> Ended {
    let timeouts = &server.pool.timeouts;
    let plan = StreamPlan {
        api: api(job.endpoint),
        model: Arc::from(job.prompt.model.as_str()),
        withhold_usage: matches!(job.prompt.usage, UsageRequest::Splice(_)),
        max_event_bytes: ctx.stages.settings.limits.event_bytes,
    };
    let built = headers::to_client(&head, ctx, None, true).and_then(|mut header| {
        cors::decorate(&mut header, session.req_header(), &ctx.stages.settings.cors)?;
        Ok(header)
    });
    let Ok(mut header) = built else {
        return Ended::Failed(Failure::Broken("its headers cannot be passed on"));
    };
    if session.req_header().version == http::Version::HTTP_10 {
        header.remove_header(&header::TRANSFER_ENCODING);
    }
    ctx.record.is_streaming = true;
    ctx.stream = Some(super::ctx::Streaming {
        filter: StreamFilter::new(plan),
        input: job.prompt.estimated_input(),
        is_complete: false,
        has_delivered: false,
    });
    let client_write = ctx.stages.settings.timeouts.client_write;
    let now = Instant::now();
    let mut relay = Relay {
        downstream: &mut session.downstream_session,
        ctx,
        leg,
        api: api(job.endpoint),
        head: Some(Box::new(header)),
        head_at: now,
        last_read: now,
        last_write: now,
        first_token: timeouts.first_token + prefill(server, job),
        between: timeouts.between_tokens,
        client_write,
        is_framed: is_framed(&head),
        timer: Box::pin(tokio::time::sleep(timeouts.first_token + prefill(server, job))),
    };
    let ended = relay.run(job.endpoint).await;
    if matches!(ended, Ended::Answered(Answered::Whole)) {
        relay.leg.release().await;
    }
    ended
}

impl Relay<'_> {
    async fn run(&mut self, endpoint: Endpoint) -> Ended {
        loop {
            match self.next().await {
                Next::Chunk(chunk) => {
                    self.last_read = Instant::now();
                    let now = self.last_read.saturating_duration_since(self.ctx.started);
                    let out = self.streaming().filter.push(chunk, now);
                    if !out.is_empty() && !self.write(out, false).await {
                        return self.client_left();
                    }
                }
                Next::End => return self.end(endpoint).await,
                // What ends the stream for a client has come: how the connection ends no longer matters.
                Next::Broken | Next::Late if self.has_ended() => {
                    self.leg.must_close();
                    return self.end(endpoint).await;
                }
                Next::Broken if self.head.is_some() => {
                    return Ended::Failed(Failure::Broken("broke off before the first byte"));
                }
                Next::Late if self.head.is_some() => return Ended::Failed(Failure::Late),
                Next::Broken => return self.cut(&Refusal::UpstreamError, endpoint).await,
                Next::Late => {
                    self.ctx.record.outcome = Outcome::TimedOut;
                    return self.cut(&Refusal::UpstreamTimeout, endpoint).await;
                }
                Next::Gone => return self.client_left(),
            }
        }
    }

    fn streaming(&mut self) -> &mut super::ctx::Streaming {
        self.ctx.stream.as_mut().expect("set before the relay runs and taken only when the request settles")
    }

    fn has_ended(&self) -> bool {
        self.ctx.stream.as_ref().is_some_and(|streaming| streaming.filter.has_ended())
    }

    fn client_left(&self) -> Ended {
        if self.head.is_some() { Ended::Gone } else { Ended::Answered(Answered::ClientGone) }
    }

    /// The server's body has ended without an error of the transport.
    async fn end(&mut self, endpoint: Endpoint) -> Ended {
        let end = self.streaming().filter.finish();
        let is_error = self.streaming().filter.saw_error_event();
        let is_whole = end.is_clean && (self.is_framed || self.api != Api::Other || self.has_ended());
        if self.head.is_some() && (end.bytes.is_empty() || (!is_whole && !is_error)) {
            return Ended::Failed(Failure::Broken("an empty answer"));
        }
        if is_whole {
            self.streaming().is_complete = true;
            let is_written = self.write(end.bytes, true).await;
            return if is_written { Ended::Answered(Answered::Whole) } else { self.client_left() };
        }
        if self.streaming().filter.saw_error_event() {
            // The server has said itself what went wrong.
            self.ctx.record.code = Some("upstream_error".to_owned());
            let answered = match self.streaming().filter.error_fault() {
                Some(Fault::Client) => Answered::Refused,
                _ => Answered::Cut,
            };
            let is_written = self.write(end.bytes, true).await;
            return if is_written { Ended::Answered(answered) } else { self.client_left() };
        }
        if !end.bytes.is_empty() && !self.write(end.bytes, false).await {
            return self.client_left();
        }
        self.cut(&Refusal::UpstreamError, endpoint).await
    }

    /// Ends a stream that has begun with an error event: it must not look like a clean end.
    async fn cut(&mut self, refusal: &Refusal, endpoint: Endpoint) -> Ended {
        let code = refusal.answer().code;
        self.ctx.record.code = Some(code.to_owned());
        self.ctx.state.metrics.observe_refusal(code);
        let missing = self.streaming().filter.missing_end();
        let event = [missing, &refuse::event(refusal, endpoint)].concat();
        if self.write(Bytes::from(event), true).await {
            Ended::Answered(Answered::Cut)
        } else {
            self.client_left()
        }
    }

    /// Writes to the client, the headers first if they have not gone yet. `false` if the client is gone.
    async fn write(&mut self, bytes: Bytes, is_end: bool) -> bool {
        if let Some(head) = self.head.take()
            && let Err(error) = down::head(self.downstream, head, self.client_write).await
        {
            log::debug!("request {}: the client is gone: {error}", self.ctx.record.request_id);
            return false;
        }
        self.ctx.record.answer_bytes += bytes.len() as u64;
        let written = down::body(self.downstream, bytes, is_end, self.client_write).await;
        self.last_write = Instant::now();
        self.streaming().has_delivered = true;
        if let Err(error) = &written {
            log::debug!("request {}: the client is gone: {error}", self.ctx.record.request_id);
        }
        written.is_ok()
    }

    /// Waits for the server's next bytes, for the client's leaving and for the deadlines; keeps a silent stream
    /// alive meanwhile.
    ///
    /// # Cost
    /// One timer serves all deadlines. It is moved when it fires or when a nearer deadline comes up, not with every
    /// event.
    async fn next(&mut self) -> Next {
        let (deadline, comment_every) = (self.deadline(), self.comment_every());
        let wake = comment_every.map_or(deadline, |every| deadline.min(self.last_write + every));
        if self.timer.deadline() > wake.into() {
            self.timer.as_mut().reset(wake.into());
        }
        // The read is kept over wake-ups of the timer: dropping it half-way could lose bytes.
        let read = self.leg.chunk();
        tokio::pin!(read);
        loop {
            tokio::select! {
                biased;
                chunk = &mut read => return match chunk {
                    Ok(Some(chunk)) => Next::Chunk(chunk),
                    Ok(None) => Next::End,
                    Err(error) => {
                        log::debug!("request {}: the server broke off: {error}", self.ctx.record.request_id);
                        Next::Broken
                    }
                },
                () = gone(self.downstream) => return Next::Gone,
                () = &mut self.timer => {
                    let now = Instant::now();
                    if now >= deadline {
                        return Next::Late;
                    }
                    if let Some(every) = comment_every
                        && now >= self.last_write + every
                    {
                        if let Some(head) = self.head.take()
                            && down::head(self.downstream, head, self.client_write).await.is_err()
                        {
                            return Next::Gone;
                        }
                        if self.downstream.write_response_body(KEEPALIVE, false).await.is_err() {
                            return Next::Gone;
                        }
                        self.last_write = Instant::now();
                    }
                    let comment_at = comment_every.map(|every| self.last_write + every);
                    let next = comment_at.map_or(deadline, |at| at.min(deadline));
                    self.timer.as_mut().reset(next.into());
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        let meter = self.ctx.stream.as_ref().map(|streaming| streaming.filter.meter());
        let has_begun = meter.is_some_and(|meter| meter.first_token().is_some())
            || (self.api == Api::Other && self.head.is_none());
        if self.has_ended() {
            // A server that leaves its connection open after the last event holds nobody up.
            return self.last_read + AFTER_END;
        }
        if has_begun { self.last_read + self.between } else { self.head_at + self.first_token }
    }

    /// How long a silence may last before a comment, if one may be sent now.
    fn comment_every(&mut self) -> Option<Duration> {
        let rules = &self.ctx.stages.settings.stream;
        let (every, is_early_allowed) = (rules.keepalive_comment?, rules.keepalive_before_first_byte);
        let is_allowed = self.head.is_none() || is_early_allowed;
        (is_allowed && self.streaming().filter.is_at_event_boundary()).then_some(every)
    }
}

/// A JSON answer: held until it is complete, read once, and sent with its length.
async fn whole(
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Arc<Server>,
    mut leg: Leg,
    head: ResponseHeader,
) -> Ended {
    let cap = ctx.stages.settings.limits.answer_buffer_bytes;
    let spent = ctx.sent.map(|sent| sent.elapsed()).unwrap_or_default();
    let limit = server.pool.timeouts.answer.saturating_sub(spent);
    let read_all = within(limit, read_up_to(&mut leg, cap));
    let (body, is_whole) = match or_gone(&mut session.downstream_session, read_all).await {
        Err(gone) => return gone.into(),
        Ok(Err(late)) => return late.into(),
        Ok(Ok(None)) => return Ended::Failed(Failure::Broken("broke off in its answer")),
        Ok(Ok(Some(read))) => read,
    };
    if !is_whole {
        return pass(session, ctx, job, server, leg, head, body).await;
    }
    if !is_framed(&head) && !is_complete_json(&body) {
        return Ended::Failed(Failure::Broken("broke off in its answer"));
    }
    leg.release().await;
    let body = body.freeze();
    let found = read(api(job.endpoint), &body);
    let estimate = Estimate {
        input: job.prompt.estimated_input(),
        output: found.output_chars.div_ceil(CHARS_PER_TOKEN),
        reasoning: found.reasoning_chars.div_ceil(CHARS_PER_TOKEN),
    };
    let asked = escape(&job.prompt.model);
    let renamed = found.model.filter(|span| body[span.clone()] != asked[..]);
    let pieces = match renamed {
        Some(span) => splice(&body, vec![(span, asked)]),
        None => vec![body],
    };
    let length = pieces.iter().map(Bytes::len).sum();
    let Ok(mut header) = headers::to_client(&head, ctx, Some(length), false) else {
        return Ended::Failed(Failure::Broken("its headers cannot be passed on"));
    };
    if cors::decorate(&mut header, session.req_header(), &ctx.stages.settings.cors).is_err() {
        return Ended::Failed(Failure::Broken("its headers cannot be passed on"));
    }
    // From here on the answer has been produced and is charged, whether or not the client waits for it.
    ctx.charge = Some(charge(found.usage, estimate, true));
    let limit = ctx.stages.settings.timeouts.client_write;
    let downstream = &mut session.downstream_session;
    if down::head(downstream, Box::new(header), limit).await.is_err() {
        return Ended::Answered(Answered::ClientGone);
    }
    for (index, piece) in pieces.iter().enumerate() {
        let is_end = index + 1 == pieces.len();
        if down::body(downstream, piece.clone(), is_end, limit).await.is_err() {
            return Ended::Answered(Answered::ClientGone);
        }
        ctx.record.answer_bytes += piece.len() as u64;
    }
    Ended::Answered(Answered::Whole)
}

/// Whether the end of an answer's body can be told from a cut. An HTTP/1 answer without length and coding ends
/// when the connection does, whatever the reason.
fn is_framed(head: &ResponseHeader) -> bool {
    head.version == http::Version::HTTP_2
        || head.headers.contains_key(header::CONTENT_LENGTH)
        || head.headers.contains_key(header::TRANSFER_ENCODING)
}

fn is_complete_json(body: &[u8]) -> bool {
    let mut reader = Reader::new(body, MAX_DEPTH);
    reader.skip().and_then(|_| reader.end()).is_ok()
}

/// The body up to `cap` bytes and whether that is all of it; `None` if the server broke off.
async fn read_up_to(leg: &mut Leg, cap: usize) -> Option<(BytesMut, bool)> {
    let mut body = BytesMut::new();
    while body.len() <= cap {
        match leg.chunk().await {
            Ok(Some(chunk)) if body.is_empty() => {
                // Most answers come in one piece, which is then used as it is.
                body = chunk.try_into_mut().unwrap_or_else(|chunk| BytesMut::from(&chunk[..]));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Some((body, true)),
            Err(error) => {
                log::debug!("a server broke off in its answer: {error}");
                return None;
            }
        }
    }
    Some((body, false))
}

/// Passes an answer on as it is, after `begun`, which was read of it already.
async fn pass(
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Arc<Server>,
    mut leg: Leg,
    head: ResponseHeader,
    begun: BytesMut,
) -> Ended {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let built = headers::to_client(&head, ctx, length, false).and_then(|mut header| {
        cors::decorate(&mut header, session.req_header(), &ctx.stages.settings.cors)?;
        Ok(header)
    });
    let Ok(mut header) = built else {
        return Ended::Failed(Failure::Broken("its headers cannot be passed on"));
    };
    if session.req_header().version == http::Version::HTTP_10 {
        header.remove_header(&header::TRANSFER_ENCODING);
    }
    let mut header = Some(Box::new(header));
    let limit = ctx.stages.settings.timeouts.client_write;
    let downstream = &mut session.downstream_session;
    let mut chunk = (!begun.is_empty()).then(|| begun.freeze());
    let idle = server.pool.timeouts.answer;
    loop {
        if chunk.is_none() {
            let read = or_gone(downstream, within(idle, leg.chunk())).await;
            chunk = match (read, header.is_some()) {
                (Err(gone), true) => return gone.into(),
                (Err(_), false) => return Ended::Answered(Answered::ClientGone),
                (Ok(Err(late)), true) => return late.into(),
                (Ok(Ok(Err(_))), true) => return Ended::Failed(Failure::Broken("broke off in its answer")),
                // A body that is cut short of its length or of its last chunk cannot look complete.
                (Ok(Err(_) | Ok(Err(_))), false) => {
                    session.set_keepalive(None);
                    ctx.is_cut = true;
                    return Ended::Answered(Answered::Cut);
                }
                (Ok(Ok(Ok(chunk))), _) => chunk,
            };
        }
        if let Some(header) = header.take() {
            // What cannot be read is charged by what was sent to be read: our estimate of the prompt.
            let estimate = Estimate { input: job.prompt.estimated_input(), output: 0, reasoning: 0 };
            ctx.charge = Some(charge(None, estimate, false));
            if down::head(downstream, header, limit).await.is_err() {
                return Ended::Answered(Answered::ClientGone);
            }
        }
        let is_end = chunk.is_none();
        let bytes = chunk.take().unwrap_or_default();
        ctx.record.answer_bytes += bytes.len() as u64;
        if down::body(downstream, bytes, is_end, limit).await.is_err() {
            return Ended::Answered(Answered::ClientGone);
        }
        if is_end {
            leg.release().await;
            return Ended::Answered(Answered::Whole);
        }
    }
}
