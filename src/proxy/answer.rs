//! A server's answer → the client. The headers are held until the first body bytes are there, so that a server
//! that says 200 and dies can still be left for another. An event stream goes event by event (`stream.rs`), a
//! JSON answer whole (`whole.rs`), and anything else as it is.

use std::sync::Arc;

use bytes::BytesMut;
use http::header;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::response::Api;
use tollgate_filters::response::usage::charge;

use super::ctx::RequestCtx;
use super::leg::{Leg, or_gone, within};
use super::relay::{Ended, Failure, Job};
use super::stream::stream;
use super::whole::whole;
use super::{cors, down, headers, output};
use crate::record::Outcome;
use crate::servers::Server;

/// What the client has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// All of it.
    Whole,
    /// A part, and an error event or a cut connection.
    Cut,
    /// A part, and the server's own error event that says it is the client's fault.
    Refused,
    /// A part, and an end that says that a limit was reached.
    Stopped,
    /// A part, and our error event: the rest must not go out.
    Withheld,
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
    let is_stream = kind.eq_ignore_ascii_case("text/event-stream");
    let is_json = kind.eq_ignore_ascii_case("application/json");
    let ended = if (is_coded || !(is_stream || is_json))
        && let Some(refusal) = output::refuse_unread(ctx, job)
    {
        Ended::Withheld(refusal)
    } else if is_coded {
        pass(session, ctx, job, server, leg, head, BytesMut::new()).await
    } else if is_stream {
        Box::pin(stream(session, ctx, job, server, leg, head)).await
    } else if is_json {
        Box::pin(whole(session, ctx, job, server, leg, head)).await
    } else {
        pass(session, ctx, job, server, leg, head, BytesMut::new()).await
    };
    match &ended {
        Ended::Answered(Answered::Whole) => ctx.record.outcome = Outcome::Ok,
        Ended::Answered(Answered::Refused | Answered::Withheld) => ctx.record.outcome = Outcome::Refused,
        Ended::Answered(Answered::Stopped) => ctx.record.outcome = Outcome::LimitReached,
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
        Ended::Withheld(_) => {
            ctx.record.status = 0;
            ctx.record.is_streaming = false;
        }
        Ended::Gone | Ended::Failed(_) => {
            ctx.record.status = 0;
            ctx.stream = None;
            ctx.record.is_streaming = false;
        }
    }
    ended
}
pub(super) fn api(endpoint: Endpoint) -> Api {
    match endpoint {
        Endpoint::ChatCompletions => Api::Chat,
        Endpoint::Completions => Api::Completions,
        Endpoint::Responses => Api::Responses,
        Endpoint::Messages => Api::Messages,
        _ => Api::Other,
    }
}

/// The header section that goes to the client for the answer that begins with `head`.
///
/// # Errors
/// If it cannot be made, which is a fault of ours.
pub(super) fn client_head(
    session: &Session,
    ctx: &RequestCtx,
    head: &ResponseHeader,
    length: Option<usize>,
    is_stream: bool,
) -> Result<Box<ResponseHeader>, Failure> {
    let request = session.req_header();
    let built = headers::to_client(head, ctx, length, is_stream).map(|mut fields| {
        cors::decorate(&mut fields, request, &ctx.stages.settings.cors);
        if request.version == http::Version::HTTP_10 {
            // A client that does not know chunks reads until the connection closes.
            fields.remove(header::TRANSFER_ENCODING);
        }
        Box::new(headers::answer(head.status, fields))
    });
    built.map_err(|error| {
        log::error!("request {}: an answer's headers cannot be made: {error}", ctx.record.request_id);
        Failure::Broken("its headers cannot be passed on")
    })
}

/// Whether the end of an answer's body can be told from a cut. An HTTP/1 answer without length and coding ends
/// when the connection does, whatever the reason.
pub(super) fn is_framed(head: &ResponseHeader) -> bool {
    head.version == http::Version::HTTP_2
        || head.headers.contains_key(header::CONTENT_LENGTH)
        || head.headers.contains_key(header::TRANSFER_ENCODING)
}

/// Passes an answer on as it is, after `begun`, which was read of it already.
pub(super) async fn pass(
    session: &mut Session,
    ctx: &mut RequestCtx,
    job: &Job,
    server: &Arc<Server>,
    mut leg: Leg,
    head: ResponseHeader,
    begun: BytesMut,
) -> Ended {
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let header = match client_head(session, ctx, &head, length, false) {
        Ok(header) => header,
        Err(failure) => return Ended::Failed(failure),
    };
    let mut header = Some(header);
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
            // What cannot be read is charged by what was sent to be read: our count of the prompt.
            ctx.is_unread = job.endpoint.generates() && head.status.is_success();
            ctx.charge = Some(charge(None, job.prompt.estimate(), false));
            if down::head(downstream, header, limit).await.is_err() {
                return Ended::Answered(Answered::ClientGone);
            }
        }
        let is_end = chunk.is_none();
        let bytes = chunk.take().unwrap_or_default();
        ctx.record.answer_bytes += bytes.len() as u64;
        if is_end {
            ctx.close();
        }
        if down::body(downstream, bytes, is_end, limit).await.is_err() {
            return Ended::Answered(Answered::ClientGone);
        }
        if is_end {
            leg.release().await;
            return Ended::Answered(Answered::Whole);
        }
    }
}
