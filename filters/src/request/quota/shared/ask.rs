//! A request between its order and the grant: what it has set aside here, and what it makes of the answer.

use super::super::calendar::Clock;
use super::super::limits::{Amounts, Demand, MEASURES, Measure};
use super::super::slices::{is_rate, period};
use super::super::tally::UNKNOWN_WAIT;
use super::super::{Denied, Holders, Lease, Source, each, refuse, standing_of, with_locks};
use super::{Grant, ScopeRef, Terms, take_ready};
use crate::refusal::Refusal;

/// A request that asks the store.
#[derive(Debug)]
pub struct Ask {
    pub(super) holders: Holders,
    pub(super) demand: Demand,
    pub(super) terms: Terms,
    pub(super) aside: Aside,
}

/// What a request that asks the store has set aside here. Dropped, it is ready for others again.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) clock: Clock,
    /// For each scope of the order: where it is, what was set aside, and of what it fetches a slice.
    pub(super) parts: Vec<(ScopeRef, Amounts, [bool; MEASURES])>,
    pub(super) is_over: bool,
}

impl Ask {
    /// Reserves what the store has given, or says what it lacked; without asking again where others have brought
    /// enough meanwhile.
    ///
    /// # Errors
    /// [`Denied`]: there is no room.
    pub fn answered(mut self, mut grant: Grant) -> Result<Lease, Box<Denied>> {
        if grant.is_granted() {
            return Ok(self.receive(&mut grant));
        }
        let clock = grant.clock;
        self.aside.put_back();
        let holders = self.holders.clone();
        with_locks(&self.holders, |locked| {
            if let Some(amounts) = take_ready(locked, &self.holders, self.demand, clock, self.terms) {
                let standing = standing_of(locked, &self.holders, clock);
                let Demand { output, price, .. } = self.demand;
                return Ok(Lease::new(holders, amounts, output, price, clock, Source::Shared, standing));
            }
            let standing = standing_of(locked, &self.holders, clock);
            let scopes = each(locked, &self.holders).filter(|(_, limits, _)| !limits.is_empty());
            let scopes: Vec<_> = scopes.map(|(_, _, scope)| scope).collect();
            let refusal = match grant.worst() {
                Some((lack, at)) => refuse(lack, scopes[at], clock),
                // The store refuses only for want of something.
                None => Refusal::NoLimits { retry_after: UNKNOWN_WAIT },
            };
            Err(Box::new(Denied { refusal, standing }))
        })
    }

    /// Gives up: the store does not answer. What the request needs is to be had by [`super::reserve_alone`].
    #[must_use]
    pub fn unanswered(self) -> (Holders, Demand) {
        (self.holders.clone(), self.demand)
    }

    fn receive(&mut self, grant: &mut Grant) -> Lease {
        let clock = grant.clock;
        let output = grant.reply.output;
        let amounts = Demand { output, ..self.demand }.amounts();
        let granted = grant.amounts();
        let mut parts = self.aside.parts.iter().zip(&granted);
        let standing = with_locks(&self.holders, |locked| {
            for (tally, limits, _) in each(locked, &self.holders) {
                if limits.is_empty() {
                    tally.take(limits, &amounts, clock);
                    continue;
                }
                let ((_, have, filling), granted) = parts.next().expect("a part for each scope with limits");
                tally.take(limits, &amounts, clock);
                let Some(slices) = &mut tally.slices else { continue };
                for (measure, limit) in limits.iter() {
                    let at = measure as usize;
                    let amount = if is_rate(measure) { amounts[at].min(limit) } else { amounts[at] };
                    let of = period(measure, clock);
                    // What was set aside in an earlier period is gone with it.
                    let have = if period(measure, self.aside.clock) == of { have[at] } else { 0 };
                    if filling[at] {
                        slices.end_filling(measure);
                    }
                    slices.receive(measure, have.saturating_add(granted[at]), amount, of);
                }
                slices.asks -= 1;
            }
            standing_of(locked, &self.holders, clock)
        });
        (self.aside.is_over, grant.is_received) = (true, true);
        Lease::new(self.holders.clone(), amounts, output, self.demand.price, clock, Source::Shared, standing)
    }
}

impl Aside {
    pub(super) fn put_back(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        for (scope, have, filling) in &self.parts {
            scope.with(|slices| {
                slices.asks = slices.asks.saturating_sub(1);
                for measure in Measure::ALL {
                    let at = measure as usize;
                    if filling[at] {
                        slices.end_filling(measure);
                    }
                    slices.receive(measure, have[at], 0, period(measure, self.clock));
                }
            });
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.put_back();
    }
}
