//! The quota stage: what a request may come to is checked against its tier and reserved in every limit that it lies
//! under, before any server sees it.

use std::time::SystemTime;

use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::auth::Principal;
use tollgate_filters::request::body::Prompt;
use tollgate_filters::request::quota::shared::Names;
use tollgate_filters::request::quota::{Demand, Lease, Price, Used, reserve};

use super::ctx::RequestCtx;
use super::relay::Job;
use crate::config::settings::{AtLimit, Model, OverCap, Tier};

/// Reserves the worst case of `prompt` and leaves the lease in `ctx`.
///
/// # Errors
/// What the client asked for is more than its tier allows, or more than is left.
pub(super) async fn admit(
    ctx: &mut RequestCtx,
    principal: &Principal,
    endpoint: Endpoint,
    model: usize,
    prompt: &Prompt,
) -> Result<(), Refusal> {
    let tier = ctx.stages.tier(principal);
    let each = prompt.max_output.map(|all| all / prompt.choices);
    cap(tier, each)?;
    let each = each.zip(tier.max_tokens).map_or(each, |(each, cap)| Some(each.min(cap)));
    let input = prompt.estimated_input();
    let entry = &ctx.stages.settings.models[model];
    context(tier, entry, input, each)?;
    let output = if endpoint.generates() {
        each.unwrap_or(tier.default_max_tokens).saturating_mul(prompt.choices)
    } else {
        0
    };
    let is_open = endpoint.generates() && each.is_none();
    let demand = Demand { input, output, is_open, price: price(entry, ctx.record.time) };
    let holders = ctx.stages.holders(principal, Some(model), &ctx.state.usages);
    let reserved = match &ctx.state.shared {
        None => reserve(holders, demand, ctx.state.clock()),
        Some(shared) => {
            let names = Names { tenant: &principal.tenant, key_id: &principal.key_id };
            shared.reserve(holders, demand, names).await
        }
    };
    match reserved {
        Ok(lease) => {
            ctx.standing = Some(lease.standing);
            ctx.lease = Some(lease);
            Ok(())
        }
        Err(denied) => {
            ctx.standing = Some(denied.standing);
            Err(denied.refusal)
        }
    }
}

/// How much output a stream may come to, by our count. It goes beyond what it reserved where the server was given no
/// cap, or does not keep it: as far as every budget goes.
pub(super) struct Ceiling {
    tokens: u64,
    /// The tier's own, for a request that named none.
    cap: u64,
    at_limit: AtLimit,
    end: Option<End>,
}

/// What the ceiling was.
enum End {
    Cap,
    Budget(Refusal),
}

impl Ceiling {
    /// The ceiling of a stream that begins.
    pub(super) fn of(ctx: &RequestCtx, job: &Job) -> Self {
        let tier = ctx.principal.as_ref().map(|principal| ctx.stages.tier(principal));
        let cap = tier.and_then(|tier| tier.max_tokens).filter(|_| job.prompt.max_output.is_none());
        let cap = cap.map_or(u64::MAX, |cap| cap.saturating_mul(job.prompt.choices));
        let reserved = ctx.lease.as_ref().filter(|lease| lease.has_budget()).map_or(u64::MAX, Lease::output);
        let at_limit = tier.map_or(AtLimit::Length, |tier| tier.at_limit);
        Self { tokens: reserved.min(cap), cap, at_limit, end: None }
    }

    /// Output tokens at which the stream is held.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Whether the stream has to end.
    pub(super) fn is_reached(&self) -> bool {
        self.end.is_some()
    }

    /// Asks for more for the stream of `ctx`, which is held. `false` if there is none.
    pub(super) async fn raise(&mut self, ctx: &mut RequestCtx) -> bool {
        let used = ctx.used_so_far();
        if self.tokens >= self.cap {
            self.end = Some(End::Cap);
            return false;
        }
        match allow(ctx, used).await {
            Ok(tokens) => {
                // Our count of what is held may differ from what the server reports: it must go on all the same.
                self.tokens = tokens.max(self.tokens.saturating_add(1)).min(self.cap);
                true
            }
            Err(refusal) => {
                self.end = Some(End::Budget(refusal));
                false
            }
        }
    }

    /// What the client is told in an error event; `None` where it is told that the answer has reached its length.
    pub(super) fn refusal(&mut self) -> Option<Refusal> {
        match self.end.take() {
            Some(End::Budget(refusal)) if self.at_limit == AtLimit::Error => Some(refusal),
            _ => None,
        }
    }
}

/// What a stream that has come to `used` may come to by its budgets.
async fn allow(ctx: &mut RequestCtx, used: Used) -> Result<u64, Refusal> {
    let clock = ctx.state.clock();
    let Some(lease) = &mut ctx.lease else { return Ok(u64::MAX) };
    match &ctx.state.shared {
        Some(shared) if lease.is_shared() => shared.more(lease, used).await,
        _ => lease.allow(used, clock),
    }
}

/// Where a request asks for more than `max_tokens` of its tier, and the tier says so, each number that is larger is
/// lowered to this.
pub(super) fn clamp(tier: &Tier) -> Option<u64> {
    tier.max_tokens.filter(|_| tier.over_max_tokens == OverCap::Clamp)
}

fn cap(tier: &Tier, asked: Option<u64>) -> Result<(), Refusal> {
    match (tier.max_tokens, asked) {
        (Some(cap), Some(asked)) if asked > cap && tier.over_max_tokens == OverCap::Refuse => {
            Err(Refusal::UnsupportedValue {
                param: "max_tokens",
                message: format!(
                    "The request asks for up to {asked} output tokens, but your subscription allows {cap}. Set \
                     max_tokens to {cap} or less."
                ),
            })
        }
        _ => Ok(()),
    }
}

/// The tier's largest context counts our estimate of the prompt. The model's own is the server's to judge, which
/// counts exactly; only what cannot fit whatever the prompt is refused here.
fn context(tier: &Tier, model: &Model, input: u64, output: Option<u64>) -> Result<(), Refusal> {
    let asked = input.saturating_add(output.unwrap_or(0));
    if let Some(limit) = tier.max_context.filter(|limit| asked > *limit) {
        return Err(Refusal::ContextLengthExceeded { limit, asked, is_tier: true });
    }
    match (model.context_length, output) {
        (Some(limit), Some(output)) if output > limit => {
            Err(Refusal::ContextLengthExceeded { limit, asked: output, is_tier: false })
        }
        _ => Ok(()),
    }
}

/// The price of a token at worst. Micro-EUR per million tokens are units of 1e-12 EUR a token.
fn price(model: &Model, time: SystemTime) -> Price {
    let prices = model.prices.at(time);
    Price { input: prices.input_micro_eur, output: prices.output_micro_eur.max(prices.reasoning_micro_eur) }
}
