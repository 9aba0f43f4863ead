//! A JSON answer: held until it is complete, so that it fails over as a whole, read once, and sent with its
//! length.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tollgate_filters::json::{MAX_DEPTH, Reader};
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::body::{escape, splice};
use tollgate_filters::response::answer::read;
use tollgate_filters::response::usage::charge;

use super::answer::{Answered, api, client_head, is_framed, pass};
use super::ctx::RequestCtx;
use super::leg::{Leg, or_gone, within};
use super::relay::{Ended, Failure, Job};
use super::{down, output};
use crate::servers::Server;

/// An answer of at most so many bytes is taken by the client's socket at once: its request is over before it is
/// written. A larger one is in flight until the client has read it.
const IN_FLIGHT_BYTES: usize = 64 * 1024;

/// A JSON answer: held until it is complete, read once, and sent with its length.
pub(super) async fn whole(
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
        if let Some(refusal) = output::refuse_unread(ctx, job) {
            return Ended::Withheld(refusal);
        }
        return pass(session, ctx, job, server, leg, head, body).await;
    }
    if !is_framed(&head) && !is_complete_json(&body) {
        return Ended::Failed(Failure::Broken("broke off in its answer"));
    }
    leg.release().await;
    let body = body.freeze();
    let found = read(api(job.endpoint), &body, &ctx.stages.counters[job.model]);
    let estimate = found.estimate(job.prompt.estimate());
    let asked = escape(&job.prompt.model);
    let renamed = found.model.filter(|span| body[span.clone()] != asked[..]);
    let mut splices: Vec<_> = renamed.map(|span| (span, asked)).into_iter().collect();
    if let Some(outcome) = output::whole(ctx, job, &body) {
        if let Some(rule) = outcome.verdict.stopped_by {
            ctx.charge = Some(charge(found.usage, estimate, true));
            return Ended::Withheld(Refusal::OutputBlocked { rule });
        }
        splices.extend(outcome.edits);
    }
    let pieces = if splices.is_empty() { vec![body] } else { splice(&body, splices) };
    let length = pieces.iter().map(Bytes::len).sum();
    let header = match client_head(session, ctx, &head, Some(length), false) {
        Ok(header) => header,
        Err(failure) => return Ended::Failed(failure),
    };
    // From here on the answer has been produced and is charged, whether or not the client waits for it.
    ctx.charge = Some(charge(found.usage, estimate, true));
    if length <= IN_FLIGHT_BYTES {
        ctx.close();
    }
    let limit = ctx.stages.settings.timeouts.client_write;
    let downstream = &mut session.downstream_session;
    if down::head(downstream, header, limit).await.is_err() {
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
