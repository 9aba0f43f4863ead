//! Chat and completions: a queued request, told token by token or at the end, to a client that may leave at
//! any moment. Every wait also watches the client; when it goes, the flight is dropped and with it the place
//! in the batch.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use tokio::time::{Instant, sleep_until};

use super::answer::Finish;
use super::driver::{Flight, NotQueued};
use super::engine;
use super::fault::Faults;
use super::instance::{Ending, Instance};
use super::reply::{self, Gone};
use super::request::{Ask, Endpoint, Reject};
use super::shape::{Shape, Token, Usage};

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// The answer is complete; the connection may be used again.
    Open,
    /// Dropped in the middle of the answer, as a fault asked.
    Dropped,
}

/// One request being answered.
pub(super) struct Answering<'a> {
    pub(super) session: &'a mut ServerSession,
    pub(super) instance: &'a Instance,
    pub(super) faults: &'a Faults,
    /// How many times slower than an idle server this one request is answered (1: as fast as it can).
    pub(super) pace: f64,
    /// Seconds from token to token at that idle server.
    pub(super) idle_step: Duration,
}

impl Answering<'_> {
    /// Answers `ask`.
    ///
    /// # Errors
    /// [`Gone`] when the client left first.
    pub(super) async fn generate(mut self, ask: &Ask, shape: &Shape) -> Result<(Leave, Ending), Gone> {
        let started = Instant::now();
        let wanted = ask.choices.iter().map(|c| (ask.prompts[c.prompt].clone(), c.answer.tokens())).collect();
        let flight = tokio::select! {
            queued = self.instance.engine.submit(wanted) => match queued {
                Ok(flight) => flight,
                Err(reason) => {
                    reply::reject(self.session, &overloaded(&reason)).await?;
                    return Ok((Leave::Open, Ending::Error));
                }
            },
            gone = reply::departure(self.session) => return Err(gone),
        };
        if ask.is_streaming {
            self.stream(ask, shape, &flight, started).await
        } else {
            self.whole(ask, shape, &flight, started).await
        }
    }

    async fn stream(
        &mut self,
        ask: &Ask,
        shape: &Shape,
        flight: &Flight,
        started: Instant,
    ) -> Result<(Leave, Ending), Gone> {
        reply::event_stream(self.session).await?;
        let mut usage = Usage { completion: 0, cached: 0, ..Usage::of(ask, flight) };
        if ask.endpoint == Endpoint::Chat {
            for choice in 0..ask.choices.len() {
                self.write(shape.role(choice, usage)).await?;
            }
        }
        if self.faults.hangs_before_first_token() {
            return Err(reply::departure(self.session).await);
        }
        let mut sent = vec![0_u32; ask.choices.len()];
        let mut last = None;
        loop {
            for (at, sequence) in flight.sequences.iter().enumerate() {
                while sent[at] < sequence.produced() {
                    if let Some(broken) = self.broken(usage.completion).await {
                        return broken;
                    }
                    self.keep_pace(started, &mut last).await?;
                    usage.completion += 1;
                    self.token(ask, shape, at, sent[at], usage).await?;
                    sent[at] += 1;
                }
            }
            if flight.is_finished()
                && flight.sequences.iter().zip(&sent).all(|(of, sent)| of.produced() == *sent)
            {
                break;
            }
            tokio::select! {
                () = flight.moved() => {}
                gone = reply::departure(self.session) => return Err(gone),
            }
        }
        if let Some(broken) = self.broken(usage.completion).await {
            return broken;
        }
        if ask.include_usage {
            self.write(shape.usage(Usage::of(ask, flight))).await?;
        }
        self.write(Bytes::from_static(b"data: [DONE]\n\n")).await?;
        reply::end(self.session).await?;
        Ok((Leave::Open, ending(ask)))
    }

    async fn token(
        &mut self,
        ask: &Ask,
        shape: &Shape,
        at: usize,
        number: u32,
        usage: Usage,
    ) -> Result<(), Gone> {
        let choice = &ask.choices[at];
        let is_last = number + 1 == choice.answer.tokens();
        let text = choice.answer.piece(number, number + 1);
        if let (Some(name), 0) = (&choice.tool, number) {
            self.write(shape.tool_name(at, name, usage)).await?;
        }
        let finish = is_last.then_some(&choice.answer.finish);
        self.write(shape.token(Token { choice: at, text, finish, is_tool: choice.tool.is_some() }, usage))
            .await
    }

    async fn whole(
        &mut self,
        ask: &Ask,
        shape: &Shape,
        flight: &Flight,
        started: Instant,
    ) -> Result<(Leave, Ending), Gone> {
        if self.faults.hangs_before_first_token() {
            return Err(reply::departure(self.session).await);
        }
        while !flight.is_finished() {
            tokio::select! {
                () = flight.moved() => {}
                gone = reply::departure(self.session) => return Err(gone),
            }
        }
        self.keep_pace(started, &mut None).await?;
        let usage = Usage::of(ask, flight);
        let body = shape.whole(ask, usage);
        let half = body.slice(..body.len() / 2);
        if self.faults.dies_after().is_some_and(|after| usage.completion >= u64::from(after)) {
            reply::header(self.session, 200, "application/json", Some(body.len())).await?;
            self.write(half).await?;
            return Ok((Leave::Dropped, Ending::Error));
        }
        if self.faults.is_cut_after().is_some_and(|after| usage.completion >= u64::from(after)) {
            reply::header(self.session, 200, "application/json", None).await?;
            self.write(half).await?;
            reply::end(self.session).await?;
            return Ok((Leave::Open, Ending::Error));
        }
        reply::json(self.session, 200, body).await?;
        Ok((Leave::Open, ending(ask)))
    }

    /// How the stream breaks, if a fault says it does after this many tokens.
    async fn broken(&mut self, tokens: u64) -> Option<Result<(Leave, Ending), Gone>> {
        let is_due = |after: Option<u32>| after.is_some_and(|after| tokens >= u64::from(after));
        if is_due(self.faults.dies_after()) {
            return Some(Ok((Leave::Dropped, Ending::Error)));
        }
        if is_due(self.faults.is_cut_after()) {
            return Some(reply::end(self.session).await.map(|()| (Leave::Open, Ending::Error)));
        }
        None
    }

    /// Waits until the next token is due at this request's pace. The first takes `pace` times as long as it
    /// took; the others follow at `pace` times the step of an idle server, or when they are there.
    async fn keep_pace(&mut self, started: Instant, last: &mut Option<Instant>) -> Result<(), Gone> {
        if self.pace <= 1.0 {
            return Ok(());
        }
        let due = match *last {
            None => started + stretched(started.elapsed(), self.pace),
            Some(last) => last + stretched(self.idle_step, self.pace),
        };
        *last = Some(due);
        tokio::select! {
            () = sleep_until(due) => Ok(()),
            gone = reply::departure(self.session) => Err(gone),
        }
    }

    async fn write(&mut self, event: Bytes) -> Result<(), Gone> {
        reply::write(self.session, event).await
    }
}

/// The refusal of a request that found no place.
pub(super) fn overloaded(reason: &NotQueued) -> Reject {
    let message = match reason {
        NotQueued::Full => "The server is overloaded: its request queue is full. Please retry later.",
        NotQueued::Stopped => "The server is shutting down.",
    };
    Reject::new(503, "ServiceUnavailableError", message)
}

fn ending(ask: &Ask) -> Ending {
    let is_length = |finish: &Finish| *finish == Finish::Length;
    if ask.choices.iter().any(|choice| is_length(&choice.answer.finish)) {
        Ending::Length
    } else {
        Ending::Stop
    }
}

fn stretched(span: Duration, factor: f64) -> Duration {
    engine::step(span.as_secs_f64() * factor)
}
