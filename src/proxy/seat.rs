//! A place on a server for a request: at once, or in its turn where all servers are full. Who waits is watched meanwhile,
//! and gives up its turn as soon as it leaves.

use std::sync::Arc;

use pingora_proxy::Session;
use tollgate_filters::request::upstream::balance::NoServer;

use super::ctx::RequestCtx;
use super::leg::{Gone, Late, or_gone, within};
use super::refuse::Stop;
use crate::queue::{Found, Seat, Wish};
use crate::state::Stages;

/// A place on a server, waited for where all are full.
///
/// # Errors
/// If the client leaves meanwhile.
pub(super) async fn seat(
    session: &mut Session,
    ctx: &RequestCtx,
    stages: &Arc<Stages>,
    model: usize,
    tried: &[usize],
) -> Result<Result<Seat, NoServer>, Stop> {
    let class = ctx.principal.as_ref().map_or(0, |principal| stages.tier(principal).priority);
    let tenant = Arc::clone(&ctx.record.tenant);
    let wish = Wish { stages: Arc::clone(stages), model, tried: tried.to_vec(), tenant, class };
    let mut turn = match ctx.state.queue.find(wish) {
        Found::Seat(seat) => return Ok(Ok(seat)),
        Found::Nothing(none) => return Ok(Err(none)),
        Found::Turn(turn) => turn,
    };
    let waited = within(stages.settings.queue.wait, turn.wait());
    match or_gone(&mut session.downstream_session, waited).await {
        Err(Gone) => Err(Stop::Gone),
        Ok(Ok(seat)) => Ok(seat.ok_or(NoServer::AllFull)),
        Ok(Err(Late)) => {
            turn.expire();
            Ok(Err(NoServer::AllFull))
        }
    }
}
