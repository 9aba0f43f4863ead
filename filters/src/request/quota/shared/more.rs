//! A stream that goes beyond what it reserved, where its budgets are shared. What it comes to is taken out of every
//! budget a step at a time, as [`Lease::allow`] does: of what lies ready, else of the store, else (while that is away)
//! of this gateway's part.

use std::sync::Arc;

use super::super::limits::{Amounts, MEASURES, Measure, Used, amounts};
use super::super::slices::period;
use super::super::{STEP, Scope};
use super::{
    Aside, Clock, Entry, Grant, Item, Lack, Lease, Order, Refusal, ScopeRef, Source, Terms, each, parts,
    refuse, unit, with_locks,
};

/// Whether a stream may go on.
#[derive(Debug)]
pub enum More {
    /// To so many output tokens in all.
    Allowed(u64),
    /// The store has to be asked.
    Ask(Box<MoreAsk>, Order),
}

/// A stream that asks the store.
#[derive(Debug)]
pub struct MoreAsk {
    aside: Aside,
    step: Step,
}

const BUDGETS: [Measure; 2] = [Measure::Day, Measure::Month];

/// What a stream has come to, and what it reserved.
#[derive(Debug, Clone, Copy)]
struct Step {
    so_far: Amounts,
    reserved: Amounts,
    price: u64,
    output: u64,
    taken: Clock,
    now: Clock,
}

impl Step {
    fn each(&self, measure: Measure) -> u64 {
        if measure == Measure::Day { 1 } else { self.price }
    }

    /// Whether the budget still counts the period that the stream began in.
    fn counts(&self, measure: Measure) -> bool {
        period(measure, self.taken) == period(measure, self.now)
    }

    /// What `tokens` more take of a budget beyond what is reserved.
    fn more(&self, measure: Measure, tokens: u64) -> u64 {
        let at = measure as usize;
        let cost = u64::try_from(u128::from(tokens) * u128::from(self.each(measure))).unwrap_or(u64::MAX);
        self.so_far[at].saturating_add(cost).saturating_sub(self.reserved[at])
    }

    /// For how many tokens there is room, with `ready` beside what is reserved.
    fn tokens(&self, measure: Measure, ready: u64) -> u64 {
        let at = measure as usize;
        self.reserved[at].saturating_add(ready).saturating_sub(self.so_far[at]) / self.each(measure)
    }
}

impl Lease {
    /// Whether the limits are shared, so that [`Lease::more`] is to be asked and not [`Lease::allow`].
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.source != Source::Own
    }

    /// Whether it was taken from the store, so that the store can be asked for more of the same.
    #[must_use]
    pub fn is_from_store(&self) -> bool {
        self.source == Source::Shared
    }

    /// How many output tokens a stream that has come to `used` may come to, out of what lies ready.
    #[must_use]
    pub fn more(&mut self, used: Used, now: Clock) -> More {
        if !self.has_budget() {
            return More::Allowed(u64::MAX);
        }
        let step = self.step(used, now);
        if let Some(tokens) = self.take_ready(&step, STEP) {
            return More::Allowed(used.output.saturating_add(tokens));
        }
        let (mut parts, mut entries) = (Vec::new(), Vec::new());
        let holders = self.holders.clone();
        with_locks(&self.holders, |locked| {
            for (lock, holder) in locked.iter_mut().zip(&holders) {
                let (Some(tallies), Some(holder)) = (lock, holder) else { continue };
                let rule = holder.rule.and_then(|rule| holder.plan.rules.get(rule));
                for (tally, limits, is_model) in tallies.scopes(&holder.plan, holder.rule) {
                    let Some(slices) = &mut tally.slices else { continue };
                    slices.asks += 1;
                    let tell = slices.tell(now, true, false).unwrap_or_default();
                    let mut have = [0; MEASURES];
                    let mut items = Vec::new();
                    for measure in BUDGETS {
                        let Some(limit) = limits.get(measure).filter(|_| step.counts(measure)) else {
                            continue;
                        };
                        let at = measure as usize;
                        have[at] = slices.ready(measure, now).min(step.more(measure, STEP));
                        slices.set_aside(measure, have[at]);
                        let signed = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
                        items.push(Item {
                            measure,
                            limit: limit / unit(measure),
                            fixed: signed(step.so_far[at]) - signed(step.reserved[at]),
                            each: step.each(measure),
                            have: have[at],
                            unit: unit(measure),
                            extra: 0,
                        });
                    }
                    let scope = ScopeRef {
                        usage: Arc::clone(&holder.usage),
                        pattern: rule.filter(|_| is_model).map(|rule| Arc::clone(&rule.pattern)),
                        name: Arc::clone(&slices.name),
                    };
                    parts.push((scope.clone(), have, [false; MEASURES]));
                    entries.push(Entry { scope, tell, items });
                }
            }
        });
        let order = Order { entries, output: STEP, least_output: 1 };
        let aside = Aside { clock: now, parts, is_over: false };
        More::Ask(Box::new(MoreAsk { aside, step }), order)
    }

    /// The same, once the store has answered.
    ///
    /// # Errors
    /// The budget that has nothing left.
    pub fn more_answered(&mut self, mut ask: MoreAsk, mut grant: Grant) -> Result<u64, Refusal> {
        let step = ask.step;
        if !grant.is_granted() {
            ask.aside.put_back();
            if let Some(tokens) = self.take_ready(&step, 1) {
                return Ok(step.output.saturating_add(tokens));
            }
            let (lack, at) = grant.worst().unwrap_or_else(|| (self.first_budget(&step), 0));
            let scope = self.scope_of(&ask, at);
            return Err(refuse(lack, scope, step.now));
        }
        let tokens = grant.reply.output;
        let granted = grant.amounts();
        let taken = self.taken;
        with_locks(&self.holders, |locked| {
            for (tally, limits, _) in each(locked, &self.holders) {
                // By name: a scope may have come to have slices since.
                let parts = ask.aside.parts.iter().zip(&granted);
                let name = tally.slices.as_ref().map(|slices| Arc::clone(&slices.name));
                let part = parts.into_iter().find(|((scope, ..), _)| Some(&scope.name) == name.as_ref());
                let Some(((_, have, _), granted)) = part else { continue };
                for measure in BUDGETS {
                    if limits.get(measure).is_none() || !step.counts(measure) {
                        continue;
                    }
                    let (at, more) = (measure as usize, step.more(measure, tokens));
                    tally.hold_more(limits, measure, more, taken);
                    let Some(slices) = &mut tally.slices else { continue };
                    let of = period(measure, grant.clock);
                    // What was set aside in an earlier period is gone with it.
                    let have = if period(measure, step.now) == of { have[at] } else { 0 };
                    slices.receive(measure, have.saturating_add(granted[at]), more, of);
                }
                if let Some(slices) = &mut tally.slices {
                    slices.asks = slices.asks.saturating_sub(1);
                }
            }
        });
        (ask.aside.is_over, grant.is_received) = (true, true);
        self.hold(&step, tokens);
        Ok(step.output.saturating_add(tokens))
    }

    /// The same while the store is away: a stream that runs goes on as far as this gateway's part of its budgets.
    ///
    /// # Errors
    /// The budget of which this gateway's part is used up.
    pub fn more_alone(&mut self, used: Used, now: Clock, terms: Terms) -> Result<u64, Refusal> {
        let before = self.reserved;
        let own = self.holders.clone();
        // What was reserved while the store was away holds its part already.
        if self.source != Source::Alone {
            self.holders = parts(&own, now, terms);
        }
        let allowed = self.allow(used, now);
        self.holders = own;
        let after = self.reserved;
        with_locks(&self.holders, |locked| {
            for (tally, limits, _) in each(locked, &self.holders) {
                let Some(slices) = &mut tally.slices else { continue };
                for measure in BUDGETS.into_iter().filter(|measure| limits.get(*measure).is_some()) {
                    let at = measure as usize;
                    slices.take_alone(measure, after[at].saturating_sub(before[at]), now);
                }
            }
        });
        allowed
    }

    fn step(&self, used: Used, now: Clock) -> Step {
        Step {
            so_far: amounts(used),
            reserved: self.reserved,
            price: self.price.output.max(1),
            output: used.output,
            taken: self.taken,
            now,
        }
    }

    /// Takes for as many tokens as are ready, up to [`STEP`] and at least `least`.
    fn take_ready(&mut self, step: &Step, least: u64) -> Option<u64> {
        let taken = self.taken;
        let tokens = with_locks(&self.holders, |locked| {
            let mut tokens = STEP;
            for (tally, limits, _) in each(locked, &self.holders) {
                let Some(slices) = &tally.slices else { continue };
                for measure in BUDGETS {
                    if limits.get(measure).is_some() && step.counts(measure) {
                        tokens = tokens.min(step.tokens(measure, slices.ready(measure, step.now)));
                    }
                }
            }
            if tokens < least {
                return None;
            }
            for (tally, limits, _) in each(locked, &self.holders) {
                for measure in BUDGETS {
                    if limits.get(measure).is_none() || !step.counts(measure) {
                        continue;
                    }
                    let more = step.more(measure, tokens);
                    tally.hold_more(limits, measure, more, taken);
                    if let Some(slices) = &mut tally.slices {
                        slices.take(measure, more);
                    }
                }
            }
            Some(tokens)
        })?;
        self.hold(step, tokens);
        Some(tokens)
    }

    fn hold(&mut self, step: &Step, tokens: u64) {
        for measure in BUDGETS {
            let at = measure as usize;
            self.reserved[at] = self.reserved[at].saturating_add(step.more(measure, tokens));
        }
    }

    fn first_budget(&self, step: &Step) -> Lack {
        let wait = step.now.next_day().0;
        Lack { measure: Measure::Day, limit: self.reserved[Measure::Day as usize], wait }
    }

    /// Whose the scope at this position of the order is.
    fn scope_of(&self, ask: &MoreAsk, at: usize) -> Scope {
        let scope = ask.aside.parts.get(at).map(|(scope, ..)| scope);
        let of_key = self.holders[1].as_ref().zip(scope);
        Scope {
            is_key: of_key.is_some_and(|(holder, scope)| Arc::ptr_eq(&holder.usage, &scope.usage)),
            is_model: scope.is_some_and(|scope| scope.pattern.is_some()),
        }
    }
}
