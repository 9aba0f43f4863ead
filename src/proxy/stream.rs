//! An event stream → the client: each chunk passes through the stream filter and is written as soon as it came.
//! Three things are waited for at once: the server's next bytes, the client's leaving, and the deadlines. Once the
//! first byte has gone out, an end that is not a clean one becomes an error event.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::stream::unfold;
use futures_util::{FutureExt, Stream, StreamExt};
use pingora_core::protocols::http::server::Session as Downstream;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::body::UsageRequest;
use tollgate_filters::response::Api;
use tollgate_filters::response::error::Fault;
use tollgate_filters::response::stream::{StreamFilter, StreamPlan};
use tollgate_filters::response::usage::charge;

use super::answer::{Answered, api, client_head, is_framed};
use super::ctx::{RequestCtx, Streaming};
use super::leg::{Leg, gone};
use super::quota::Ceiling;
use super::relay::{Ended, Failure, Job, prefill};
use super::{down, output, refuse};
use crate::record::Outcome;
use crate::servers::Server;

/// Sent in a long silence. A comment: no client takes it for an event.
const KEEPALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// How much of what has already come is written at once.
const GATHER_BYTES: usize = 16 * 1024;

/// How long the end of a server's body may take after the event that ends its stream.
const AFTER_END: Duration = Duration::from_secs(1);

/// What happened while waiting for a server's next bytes.
enum Next {
    Chunk(Bytes),
    End,
    Broken,
    Late,
    Gone,
    /// Nothing yet.
    Nothing,
    /// A limit has been reached.
    Stopped,
}

/// The chunks of a server's body, `Ok(None)` at its end.
trait Chunks: Stream<Item = pingora_error::Result<Option<Bytes>>> {}

impl<S: Stream<Item = pingora_error::Result<Option<Bytes>>>> Chunks for S {}

/// An event stream on its way to the client.
struct Relay<'a> {
    downstream: &'a mut Downstream,
    ctx: &'a mut RequestCtx,
    api: Api,
    /// Not written yet.
    head: Option<Box<ResponseHeader>>,
    head_at: Instant,
    last_read: Instant,
    last_write: Instant,
    first_token: Duration,
    between: Duration,
    client_write: Duration,
    ceiling: Ceiling,
    /// Whether the end of the server's body can be told from a cut.
    is_framed: bool,
    /// Whether that end has been read, so that the connection can be used again.
    is_read_to_end: bool,
    timer: std::pin::Pin<Box<tokio::time::Sleep>>,
}

pub(super) async fn stream(
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Arc<Server>,
    mut leg: Leg,
    head: ResponseHeader,
) -> Ended {
    let timeouts = &server.pool.timeouts;
    let plan = StreamPlan {
        api: api(job.endpoint),
        model: Arc::from(job.prompt.model.as_str()),
        withhold_usage: matches!(job.prompt.usage, UsageRequest::Splice(_)),
        max_event_bytes: ctx.stages.settings.limits.event_bytes,
        tokenizer: ctx.stages.counters[job.model].tokenizer().cloned(),
    };
    let header = match client_head(session, ctx, &head, None, true) {
        Ok(header) => header,
        Err(failure) => return Ended::Failed(failure),
    };
    ctx.record.is_streaming = true;
    let ceiling = Ceiling::of(ctx, job);
    let mut filter = StreamFilter::new(plan);
    filter.hold_at(ceiling.tokens());
    let output = output::gate(ctx, job);
    let prompt = job.prompt.estimate();
    ctx.stream = Some(Streaming { filter, output, prompt, is_complete: false, has_delivered: false });
    let client_write = ctx.stages.settings.timeouts.client_write;
    let now = Instant::now();
    let mut relay = Relay {
        downstream: &mut session.downstream_session,
        ctx,
        api: api(job.endpoint),
        head: Some(header),
        head_at: now,
        last_read: now,
        last_write: now,
        first_token: timeouts.first_token + prefill(server, job),
        between: timeouts.between_tokens,
        client_write,
        ceiling,
        is_framed: is_framed(&head),
        is_read_to_end: false,
        timer: Box::pin(tokio::time::sleep(timeouts.first_token + prefill(server, job))),
    };
    // A read that is not done yet stays in this stream while other things are waited for: no byte is lost.
    let chunks = unfold(&mut leg, async |leg: &mut Leg| Some((leg.chunk().await, leg)));
    let ended = relay.run(pin!(chunks), job.endpoint).await;
    if matches!(ended, Ended::Answered(Answered::Whole)) && relay.is_read_to_end {
        leg.release().await;
    }
    ended
}

impl Relay<'_> {
    async fn run(&mut self, mut chunks: Pin<&mut impl Chunks>, endpoint: Endpoint) -> Ended {
        loop {
            let mut next = self.next(chunks.as_mut()).await;
            while let Next::Chunk(chunk) = next {
                let out;
                (out, next) = self.gather(chunk, chunks.as_mut()).await;
                if !out.is_empty() && !self.write(out, false).await {
                    return self.client_left();
                }
                if let Some(ended) = self.withhold(endpoint).await {
                    return ended;
                }
            }
            match next {
                Next::Chunk(_) | Next::Nothing => {}
                Next::End => {
                    self.is_read_to_end = true;
                    return self.end(endpoint).await;
                }
                // What ends the stream for a client has come: how the connection ends no longer matters.
                Next::Broken | Next::Late if self.has_ended() => {
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
                Next::Stopped => return self.stop(endpoint).await,
            }
        }
    }

    /// What to forward for `chunk` and for what the server has sent besides by now: one write for all of it. Gives
    /// also what comes next, if that is known.
    async fn gather(&mut self, chunk: Bytes, mut chunks: Pin<&mut impl Chunks>) -> (Bytes, Next) {
        self.last_read = Instant::now();
        let now = self.last_read.saturating_duration_since(self.ctx.started);
        let first = self.push(chunk, now).await;
        if self.ceiling.is_reached() {
            return (first, Next::Stopped);
        }
        let mut gathered = BytesMut::new();
        loop {
            let next = chunks.next().now_or_never().map_or(Next::Nothing, |item| self.read(item));
            let is_full = gathered.len().max(first.len()) >= GATHER_BYTES;
            let chunk = match next {
                Next::Chunk(chunk) if !is_full => chunk,
                next if gathered.is_empty() => return (first, next),
                next => return (gathered.freeze(), next),
            };
            let more = self.push(chunk, now).await;
            if gathered.is_empty() {
                gathered.reserve(GATHER_BYTES);
                gathered.extend_from_slice(&first);
            }
            gathered.extend_from_slice(&more);
            if self.ceiling.is_reached() {
                return (gathered.freeze(), Next::Stopped);
            }
        }
    }

    /// What to forward for `chunk`: all of it, or as much as there is an allowance for.
    async fn push(&mut self, chunk: Bytes, now: Duration) -> Bytes {
        let mut out = self.streaming().filter.push(chunk, now);
        while self.streaming().filter.is_held() && self.ceiling.raise(self.ctx).await {
            let tokens = self.ceiling.tokens();
            let filter = &mut self.streaming().filter;
            filter.hold_at(tokens);
            let more = filter.resume(now);
            if !more.is_empty() {
                out = Bytes::from([out, more].concat());
            }
        }
        self.streaming().look(out)
    }

    /// Ends a stream that a limit cuts. The server's work is cancelled as the leg is dropped.
    async fn stop(&mut self, endpoint: Endpoint) -> Ended {
        let Some(refusal) = self.ceiling.refusal() else {
            let prompt = self.streaming().prompt;
            let events = self.streaming().filter.close(prompt);
            let events = self.streaming().look_at_last(events);
            return match self.withhold(endpoint).await {
                Some(ended) => ended,
                None => self.stopped(events).await,
            };
        };
        let code = refusal.answer().code;
        self.ctx.record.code = Some(code.to_owned());
        self.ctx.state.metrics.observe_refusal(code);
        let event = [self.streaming().filter.missing_end(), &refuse::event(&refusal, endpoint)].concat();
        self.stopped(Bytes::from(event)).await
    }

    async fn stopped(&mut self, events: Bytes) -> Ended {
        let is_written = self.write(events, true).await;
        if is_written { Ended::Answered(Answered::Stopped) } else { self.client_left() }
    }

    /// What a read of the server's body means.
    fn read(&self, item: Option<pingora_error::Result<Option<Bytes>>>) -> Next {
        match item {
            Some(Ok(Some(chunk))) => Next::Chunk(chunk),
            Some(Ok(None)) | None => Next::End,
            Some(Err(error)) => {
                log::debug!("request {}: the server broke off: {error}", self.ctx.record.request_id);
                Next::Broken
            }
        }
    }

    fn streaming(&mut self) -> &mut Streaming {
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
        let mut end = self.streaming().filter.finish();
        end.bytes = self.streaming().look_at_last(end.bytes);
        let is_error = self.streaming().filter.saw_error_event();
        if self.streaming().stopped_by().is_some()
            && !end.bytes.is_empty()
            && !self.write(end.bytes.clone(), false).await
        {
            return self.client_left();
        }
        if let Some(ended) = self.withhold(endpoint).await {
            return ended;
        }
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

    /// Ends an answer that a rule has stopped, and with it the server's work; `None` if none has.
    async fn withhold(&mut self, endpoint: Endpoint) -> Option<Ended> {
        let rule = self.streaming().stopped_by().cloned()?;
        let refusal = Refusal::OutputBlocked { rule };
        if self.head.is_some() {
            // It has been produced, though none of it has gone out.
            let streaming = self.streaming();
            let meter = streaming.filter.meter();
            let charge = charge(meter.usage(), meter.estimate(streaming.prompt), false);
            self.ctx.charge = Some(charge);
            self.ctx.note_output();
            return Some(Ended::Withheld(refusal));
        }
        Some(match self.cut(&refusal, endpoint).await {
            Ended::Answered(Answered::Cut) => Ended::Answered(Answered::Withheld),
            ended => ended,
        })
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
        self.streaming().has_delivered = true;
        if is_end || self.streaming().has_ended() {
            self.ctx.close();
        }
        let written = down::body(self.downstream, bytes, is_end, self.client_write).await;
        self.last_write = Instant::now();
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
    async fn next(&mut self, mut chunks: Pin<&mut impl Chunks>) -> Next {
        let (deadline, comment_every) = (self.deadline(), self.comment_every());
        let wake = comment_every.map_or(deadline, |every| deadline.min(self.last_write + every));
        if self.timer.deadline() > wake.into() {
            self.timer.as_mut().reset(wake.into());
        }
        loop {
            tokio::select! {
                biased;
                item = chunks.next() => return self.read(item),
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
        let streaming = self.streaming();
        let is_between = streaming.filter.is_at_event_boundary()
            && streaming.output.as_ref().is_none_or(|gate| gate.is_at_event_boundary());
        (is_allowed && is_between).then_some(every)
    }
}
