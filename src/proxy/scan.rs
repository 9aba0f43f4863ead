//! The scan stage: the texts of a request → allowed, marked or refused. It runs where the request is, on the thread
//! that serves it: a scan takes microseconds, and nothing has to be copied for it. It fails closed: a request with
//! more text than is looked at is refused unless the configuration says otherwise.

use std::borrow::Cow;

use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::auth::Principal;
use tollgate_filters::request::body::{Prompt, Text};
use tollgate_filters::request::scan::inspect::{Inspection, Terms, Verdict};
use tollgate_filters::request::scan::policy::{Action, LEARNED_RULE, Mode};

use super::ctx::RequestCtx;
use crate::config::settings::OverBudget;
use crate::scanner::with_scratch;
use crate::state::{scan_settings, today};

/// Looks at every text of a request.
///
/// # Errors
/// [`Refusal::PromptBlocked`], or [`Refusal::TooMuchText`] where the budget is closed.
pub(super) fn scan(
    ctx: &mut RequestCtx,
    principal: &Principal,
    model: usize,
    prompt: &Prompt,
    body: &[u8],
) -> Result<(), Refusal> {
    let stages = &ctx.stages;
    let settings = &stages.settings.scan;
    let policy = stages.policies[principal.tenant_index].of(model);
    if policy.mode == Mode::Off || prompt.texts.is_empty() {
        return Ok(());
    }
    let terms = Terms {
        policy,
        behaviour: settings.behaviour.mode,
        history: scan_settings(&settings.behaviour),
        today: today(),
    };
    let mut budget = settings.budget_bytes;
    if settings.over_budget == OverBudget::Closed && policy.mode == Mode::Block {
        let length: usize = prompt.texts.iter().map(Text::len).sum();
        if length > budget {
            return Err(Refusal::TooMuchText(budget));
        }
    }
    let scanner = &stages.settings.rules.scanner;
    let verdict = with_scratch(scanner, |scratch| {
        let mut inspection = Inspection::new(scanner, scratch, terms);
        for text in &prompt.texts {
            let value = text.value(body);
            let part = within(&value, budget);
            budget = budget.saturating_sub(part.len());
            inspection.text(&part, text.role);
        }
        let (now, memory) = (ctx.state.now(), settings.behaviour.memory);
        inspection.finish_in(now, |use_it| {
            let histories = &ctx.state.histories;
            histories.with(&principal.key_id, prompt.user, now, memory, |history| use_it(history));
        })
    });
    ctx.conversation = Some(prompt.user);
    note(ctx, &verdict);
    if verdict.action < Action::Block {
        return Ok(());
    }
    let now = ctx.state.now();
    if let Some(lease) = &mut ctx.lease {
        lease.release(now);
    }
    let place = prompt.texts[verdict.text].place;
    let rule = verdict.findings.first().map_or_else(|| LEARNED_RULE.into(), |first| first.rule.clone());
    Err(Refusal::PromptBlocked { place, rule })
}

/// As much of a text as there is budget for: its beginning and its end, where instructions stand.
fn within(text: &str, budget: usize) -> Cow<'_, str> {
    if text.len() <= budget {
        return Cow::Borrowed(text);
    }
    let head = text.floor_char_boundary(budget / 2);
    let tail = text.ceil_char_boundary(text.len() - (budget - budget / 2));
    Cow::Owned([&text[..head], &text[tail..]].join("\n"))
}

fn note(ctx: &mut RequestCtx, verdict: &Verdict) {
    let record = &mut ctx.record;
    record.scan = match verdict.action {
        Action::Allow if verdict.is_exempt => "exempt",
        action => action.name(),
    };
    if verdict.score > 0.0 {
        record.scan_score = Some((verdict.score * 1000.0).round() / 1000.0);
    }
    if verdict.action > Action::Allow || verdict.is_exempt {
        record.scan_rules = verdict.rules();
    }
}
