//! The scan stage: the texts of a request → allowed, marked or refused. It runs where the request is, on the thread
//! that serves it: a scan takes microseconds, and nothing has to be copied for it. Before a long one that thread gives its other
//! requests away, and few long ones run at a time. It fails closed: a request with more text than is looked at is refused unless
//! the configuration says otherwise.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use pingora_proxy::Session;
use tollgate_filters::endpoint::Endpoint;
use tollgate_filters::refusal::Refusal;
use tollgate_filters::request::auth::Principal;
use tollgate_filters::request::body::{Prompt, Text};
use tollgate_filters::request::scan::Role;
use tollgate_filters::request::scan::behaviour::{Attached, History};
use tollgate_filters::request::scan::inspect::{Inspection, Terms, Verdict};
use tollgate_filters::request::scan::policy::{Action, LEARNED_RULE, Mode};
use tollgate_filters::request::scan::scanner::Scratch;

use super::ctx::RequestCtx;
use super::leg::{Gone, or_gone};
use super::refuse::Stop;
use crate::config::settings::OverBudget;
use crate::histories::shared::{Found, NoAnswer};
use crate::histories::{Conversation, Moment, Told};
use crate::limits::SharedLimits;
use crate::scanner::scratches;
use crate::state::{Stages, State, scan_settings, today};

/// What is known of what other gateways have seen of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recalled {
    /// Histories are not shared.
    Apart,
    /// All that the store had at this time.
    Known(Told),
    /// Nothing: the store did not answer.
    Unknown,
}

/// Fetches what other gateways have seen of the conversation, where they share that and this one may not know all of it.
pub(super) async fn recall(
    ctx: &RequestCtx,
    principal: &Principal,
    endpoint: Endpoint,
    model: usize,
    prompt: &Prompt,
) -> Recalled {
    let (stages, state) = (&ctx.stages, &ctx.state);
    let behaviour = &stages.settings.scan.behaviour;
    let is_off = !behaviour.is_shared
        || !has_turns(endpoint)
        || behaviour.mode == Mode::Off
        || stages.policies[principal.tenant_index].of(model).mode == Mode::Off;
    let Some(shared) = &state.shared_histories else { return Recalled::Apart };
    if is_off || !prompt.texts.iter().any(|text| text.role == Role::User) {
        return Recalled::Apart;
    }
    let whose = Conversation { key_id: &principal.key_id, user: prompt.user };
    let limits = state.shared.as_ref();
    let company = limits.map_or(0, SharedLimits::company);
    let is_alone = limits.is_none_or(|limits| limits.gateways() <= 1);
    let told = Told { epoch: shared.epoch(), company };
    let before = state.histories.glance(whose);
    // Nobody else is there, nor was since the store was told.
    if is_alone && before.told == Some(told) && shared.is_up() {
        return Recalled::Known(told);
    }
    let answer = shared.get(whose).await;
    // The first one makes the connection.
    let told = Told { epoch: shared.epoch(), company };
    match answer {
        Err(NoAnswer) => return Recalled::Unknown,
        Ok(None) => {}
        Ok(Some(Found { kept, rules, age })) => {
            let (moment, settings) = (moment(state, stages), scan_settings(behaviour));
            let same_rules = rules == moment.rules;
            match History::from_kept(&kept, same_rules, &settings, moment.now, age) {
                Some(history) => {
                    state.histories.adopt(whose, moment, before, told.epoch, history, &settings);
                }
                None => log::warn!("histories: the store has something else of the key {}", principal.key_id),
            }
        }
    }
    Recalled::Known(told)
}

/// Now, as histories know it.
pub(super) fn moment(state: &State, stages: &Stages) -> Moment {
    let scan = &stages.settings.scan;
    Moment { now: state.now(), memory: scan.behaviour.memory, rules: stages.settings.rules.number() }
}

/// Bytes of text from which a scan would keep others waiting: some milliseconds, and a text that is made for it a hundred.
const LONG: usize = 256 << 10;

/// Looks at every text of a request, in its turn where it has many.
///
/// # Errors
/// [`Refusal::PromptBlocked`], or [`Refusal::TooMuchText`] where the budget is closed. Nothing if the client leaves before its turn.
pub(super) async fn scan(session: &mut Session, ctx: &mut RequestCtx, job: Scan<'_>) -> Result<(), Stop> {
    let policy = ctx.stages.policies[job.principal.tenant_index].of(job.model);
    let most = ctx.stages.settings.scan.budget_bytes;
    if policy.mode == Mode::Off || job.length().min(most) < LONG {
        return Ok(look(ctx, job, false)?);
    }
    let state = Arc::clone(&ctx.state);
    let turn = or_gone(&mut session.downstream_session, state.long_scans.acquire()).await;
    // Held until the end. Nobody takes the turns away, so that there always is one.
    let _turn = turn.map_err(|Gone| Stop::Gone)?;
    Ok(look(ctx, job, true)?)
}

/// What is looked at, and for whom.
pub(super) struct Scan<'s> {
    pub(super) principal: &'s Principal,
    pub(super) endpoint: Endpoint,
    pub(super) model: usize,
    pub(super) prompt: &'s Prompt,
    pub(super) body: &'s [u8],
    pub(super) recalled: Recalled,
}

impl Scan<'_> {
    /// Bytes of text.
    fn length(&self) -> usize {
        self.prompt.texts.iter().map(Text::len).sum()
    }
}

fn look(ctx: &mut RequestCtx, job: Scan<'_>, is_long: bool) -> Result<(), Refusal> {
    let length = job.length();
    let Scan { principal, endpoint, model, prompt, body, recalled } = job;
    let stages = &ctx.stages;
    let settings = &stages.settings.scan;
    let policy = stages.policies[principal.tenant_index].of(model);
    if policy.mode == Mode::Off || prompt.texts.is_empty() {
        return Ok(());
    }
    let terms = Terms {
        policy,
        behaviour: if has_turns(endpoint) { settings.behaviour.mode } else { Mode::Off },
        history: scan_settings(&settings.behaviour),
        today: today(),
        owner: owner(principal),
        is_batch: is_batch(prompt),
        is_raw: !endpoint.is_chat(),
    };
    let budget = settings.budget_bytes;
    if settings.over_budget == OverBudget::Closed && policy.mode == Mode::Block && length > budget {
        ctx.record.scan = "over_budget";
        return Err(Refusal::TooMuchText(budget));
    }
    let scanner = &stages.settings.rules.scanner;
    let mut observed = None;
    let inspect = |scratch: &mut Scratch| {
        let mut inspection = Inspection::new(scanner, &mut *scratch, terms);
        if terms.behaviour > Mode::Off {
            inspection = inspection.with_attached(Attached::of(body, stages.settings.limits.json_depth));
        }
        let (mut before, mut after) = (0, length);
        for text in &prompt.texts {
            let value = text.value(body);
            after -= text.len();
            let part = if length > budget { ends(&value, before, after, budget) } else { value };
            inspection.text(&part, text.role, text.place);
            before += text.len();
        }
        let moment = moment(&ctx.state, stages);
        let whose = Conversation { key_id: &principal.key_id, user: prompt.user };
        let verdict = inspection.finish_in(moment.now, |use_it| {
            ctx.state.histories.with(whose, moment, |remembered| {
                use_it(&mut remembered.history);
                observed = Some((prompt.user, remembered.history.last_hash()));
                remembered.told = None;
                if let Some(shared) = ctx.state.shared_histories.as_ref().filter(|shared| shared.is_up())
                    && recalled != Recalled::Apart
                {
                    // What was not asked for must not take the place of what may be there.
                    let known = if let Recalled::Known(told) = recalled { Some(told) } else { None };
                    let is_told =
                        shared.put(whose, &remembered.history, known.is_some(), moment.rules, moment.memory);
                    remembered.told = known.filter(|_| is_told);
                }
            });
        });
        (verdict, scratch.counts())
    };
    let remembered = settings.remembered_texts;
    let (verdict, counts) = if is_long {
        scratches::with_another(scanner, remembered, inspect)
    } else {
        scratches::with_own(scanner, remembered, inspect)
    };
    ctx.state.metrics.observe_texts(counts.0, counts.1);
    ctx.observed = observed;
    ctx.record.scan_unread_bytes = length.saturating_sub(budget) as u64;
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

/// Whether what is sent there is said to a model that answers: what is embedded, ranked or counted is sent again and again,
/// and is nobody's turn.
fn has_turns(endpoint: Endpoint) -> bool {
    endpoint.is_chat() || endpoint == Endpoint::Completions
}

/// Whether there are several prompts that know nothing of each other.
fn is_batch(prompt: &Prompt) -> bool {
    prompt.texts.iter().any(|text| text.place.key == "prompt" && text.place.index > Some(0))
}

/// Whose texts are remembered together: those of a tenant, by its name, which stays the same through a reload.
fn owner(principal: &Principal) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    principal.tenant.hash(&mut hasher);
    hasher.finish()
}

/// What is looked at of one text where there is more in the request than there is budget for: what lies in the half of the
/// budget that is at the beginning of the request, and in the half at its end, where instructions stand. So many bytes of
/// text are `before` it and `after` it.
fn ends(text: &str, before: usize, after: usize, budget: usize) -> Cow<'_, str> {
    let head = (budget / 2).saturating_sub(before).min(text.len());
    let tail = text.len() - (budget - budget / 2).saturating_sub(after).min(text.len());
    if tail <= head {
        return Cow::Borrowed(text);
    }
    let (head, tail) = (&text[..text.floor_char_boundary(head)], &text[text.ceil_char_boundary(tail)..]);
    match (head, tail) {
        (part, "") | ("", part) => Cow::Borrowed(part),
        (head, tail) => Cow::Owned([head, tail].join("\n")),
    }
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
    record.scan_aside = verdict.aside.clone();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is looked at of these texts, with so much budget.
    fn looked_at(texts: &[&str], budget: usize) -> Vec<String> {
        let (mut before, mut after) = (0, texts.iter().map(|text| text.len()).sum());
        let each = texts.iter().map(|text| {
            after -= text.len();
            let part = ends(text, before, after, budget).into_owned();
            before += text.len();
            part
        });
        each.collect()
    }

    #[test]
    fn the_beginning_and_the_end_of_a_request_are_looked_at() {
        for (texts, budget, expected) in [
            (&["abcdef"][..], 4, &["ab\nef"][..]),
            (&["abcdef", "ghijkl", "mnopqr"], 8, &["abcd", "", "opqr"]),
            (&["ab", "cdefgh", "ij"], 6, &["ab", "c\nh", "ij"]),
            (&["abc", "", "def", "ghi"], 6, &["abc", "", "", "ghi"]),
            (&["ééé", "ééé"], 6, &["é", "é"]),
            (&["abcdef"], 5, &["ab\ndef"]),
        ] {
            assert_eq!(looked_at(texts, budget), expected, "{texts:?} with {budget}");
        }
    }
}
