//! What is done about an answer: which policy holds for it, what of the request it is compared with, and what goes into
//! the record. The search itself is in `filters/src/response/output.rs`.

use std::sync::Arc;

use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::scan::Role;
use tollgate_filters::response::Api;
use tollgate_filters::response::output::{
    Action, Leak, OutputGate, OutputPlan, OutputVerdict, UNREADABLE_RULE, WholeOutcome, scan_whole,
};

use super::answer::api;
use super::ctx::RequestCtx;
use super::relay::Job;
use crate::record::Record;
use crate::state::today;

/// The gate for the event stream that answers a request, if its answers are looked at.
pub(super) fn gate(ctx: &mut RequestCtx, job: &Job) -> Option<Box<OutputGate>> {
    let plan = plan(ctx, job)?;
    let leak = leak(&plan, job);
    let max_event_bytes = ctx.stages.settings.limits.event_bytes;
    Some(Box::new(OutputGate::new(&plan, leak, api(job.endpoint), max_event_bytes, today())))
}

/// Looks at a whole answer, if its answers are looked at, and notes what was found.
pub(super) fn whole(ctx: &mut RequestCtx, job: &Job, body: &[u8]) -> Option<WholeOutcome> {
    let plan = plan(ctx, job)?;
    let outcome = scan_whole(&plan, leak(&plan, job), body, today());
    note(&mut ctx.record, &outcome.verdict);
    Some(outcome)
}

/// Why an answer that cannot be read must not go out; `None` if it may.
pub(super) fn refuse_unread(ctx: &mut RequestCtx, job: &Job) -> Option<Refusal> {
    let plan = plan(ctx, job)?;
    let rule: Arc<str> = UNREADABLE_RULE.into();
    let action = if plan.enforces() { Action::Stop } else { Action::Flag };
    note(
        &mut ctx.record,
        &OutputVerdict { action, rules: vec![Arc::clone(&rule)], ..OutputVerdict::default() },
    );
    plan.enforces().then_some(Refusal::OutputBlocked { rule })
}

/// Notes what was found.
pub(super) fn note(record: &mut Record, verdict: &OutputVerdict) {
    record.output_scan = match verdict.action {
        Action::Off if verdict.is_exempt => "exempt",
        Action::Off => "allow",
        action => action.name(),
    };
    record.output_rules.clone_from(&verdict.rules);
}

fn plan(ctx: &mut RequestCtx, job: &Job) -> Option<Arc<OutputPlan>> {
    if api(job.endpoint) == Api::Other {
        return None;
    }
    let plan = ctx.stages.policies[ctx.principal.as_ref()?.tenant_index].of_answers(job.model).cloned()?;
    ctx.record.output_scan = "allow";
    Some(plan)
}

/// The system prompt of a request. Tools and formats are the operator's too; what they say is meant for answers.
fn leak(plan: &OutputPlan, job: &Job) -> Option<Leak> {
    if !plan.wants_leak(today()) {
        return None;
    }
    let is_prompt = |key: &str| matches!(key, "messages" | "system" | "instructions" | "input");
    let texts = || job.prompt.texts.iter();
    let system = texts().filter(|text| text.role == Role::System && is_prompt(text.place.key));
    let others = texts().filter(|text| text.role != Role::System);
    Leak::new(system.map(|text| text.value(&job.body)), others.map(|text| text.value(&job.body)))
}
