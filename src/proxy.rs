//! The data plane as Pingora sees it: each phase hands over in a few lines. All of a request's work, its
//! upstream leg included, happens in `request_filter`; Pingora's own upstream half is not used, because the
//! server can only be chosen once the body has been read, and because a server that dies after its headers
//! must still be left for another (ARCHITECTURE.md says what that gives and costs).

mod answer;
mod body;
mod cork;
mod cors;
mod ctx;
mod delegate;
mod down;
pub mod guard;
mod headers;
mod leg;
mod models;
mod output;
mod quota;
mod refuse;
mod relay;
mod request;
mod scan;
mod seat;
mod stream;
mod strict;
mod whole;

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::connectors::http::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use tollgate_filters::request::upstream::budget::Budget;

use crate::state::State;
use ctx::RequestCtx;

/// The data plane.
pub struct Gate {
    /// What outlives a request.
    pub state: Arc<State>,
    /// Connections to servers.
    pub connector: Arc<Connector>,
    /// Retries that the traffic can bear.
    pub budget: Arc<Budget>,
}

/// The request was answered, but its end must not look clean: the connection is closed instead of finished.
const CUT: ErrorType = ErrorType::new("AnswerCut");

#[async_trait]
impl ProxyHttp for Gate {
    /// Boxed: the framework's futures would hold, and move, several copies of its size for as long as a stream.
    type CTX = Box<RequestCtx>;

    fn new_ctx(&self) -> Self::CTX {
        Box::new(RequestCtx::new(Arc::clone(&self.state)))
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        let timeouts = &ctx.stages.settings.timeouts;
        let downstream = &mut session.downstream_session;
        // Off already when the client asked to close or the process is stopping.
        if downstream.get_keepalive().is_some() {
            downstream.set_keepalive(Some(timeouts.keepalive.as_secs().max(1)));
        }
        downstream.set_write_timeout(Some(timeouts.client_write));
        // The deadline of the whole body holds instead.
        downstream.set_read_timeout(None);
        guard::mark_busy(downstream.stream());
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        request::serve(self, session, ctx).await;
        if ctx.is_cut {
            return Error::e_explain(CUT, "the server broke off in an answer that cannot say so");
        }
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "request_filter answers every request")
    }

    async fn fail_to_proxy(&self, _session: &mut Session, _e: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        FailToProxy { error_code: ctx.record.status, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, error: &Error) -> bool {
        error.etype() == &CUT
    }

    async fn logging(&self, session: &mut Session, _e: Option<&Error>, ctx: &mut Self::CTX) {
        ctx.settle();
        guard::mark_idle(session.stream());
    }

    fn request_summary(&self, _session: &Session, ctx: &Self::CTX) -> String {
        // Never the target: a query string can hold a secret.
        format!("request {} to {}", ctx.record.request_id, ctx.record.endpoint)
    }
}
