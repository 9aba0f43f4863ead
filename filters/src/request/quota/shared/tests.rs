//! Gateways against a store in a few lines of Rust, which does what src/limits/limits.lua does.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::limits::{Limits, Plan, Used};
use super::super::{Measure, Price};
use super::*;

/// 2026-11-27 at noon.
const NOON: Duration = Duration::from_secs(20_784 * 86_400 + 43_200);
const TERMS: Terms = Terms { slice_percent: 5, when_down: WhenDown::Open, gateways: 1 };
const NAMES: Names<'static> = Names { tenant: "acme", key_id: "main" };

fn at(ms: u64) -> Clock {
    let now = Duration::from_millis(ms);
    Clock { now, unix: NOON + now }
}

fn plan(pairs: &[(Measure, u64)]) -> Arc<Plan> {
    let limits =
        pairs.iter().fold(Limits::default(), |limits, (measure, limit)| limits.with(*measure, Some(*limit)));
    Arc::new(Plan { limits, rules: vec![] })
}

fn demand(input: u64, output: u64) -> Demand {
    Demand { input, output, is_open: false, price: Price { input: 1000, output: 1000 } }
}

/// What a gateway holds: requests at a time, and of each budget its period, what was charged, what is outstanding.
type Held = (i64, [(u64, i64, i64); 2]);

/// One scope as the store has it.
#[derive(Default)]
struct Scope {
    levels: [(f64, u64); 4],
    in_flight: i64,
    budgets: [(u64, i64); 2],
    /// By gateway.
    held: HashMap<usize, Held>,
}

#[derive(Default)]
struct Store {
    scopes: HashMap<Arc<str>, Scope>,
    trips: usize,
}

impl Store {
    fn answer(&mut self, gateway: usize, order: &Order, clock: Clock) -> Reply {
        self.trips += 1;
        let now = clock.now.as_millis() as u64;
        let periods = [clock.day(), clock.month()];
        for entry in &order.entries {
            let scope = self.scopes.entry(Arc::clone(entry.scope.name())).or_default();
            let tell = &entry.tell;
            let (in_flight, budgets) = scope.held.entry(gateway).or_insert((0, [(0, 0, 0); 2]));
            for (measure, limit, back, owed) in &tell.rates {
                let level = &mut scope.levels[*measure];
                let decayed = level.0 - (now - level.1) as f64 * *limit as f64 / 60_000.0;
                *level = ((decayed.max(0.0) + *owed as f64 - *back as f64).max(0.0), now);
            }
            let new = if tell.is_whole { tell.in_flight } else { (*in_flight + tell.in_flight).max(0) };
            scope.in_flight += new - *in_flight;
            *in_flight = new;
            for at in 0..2 {
                if scope.budgets[at].0 != periods[at] {
                    scope.budgets[at] = (periods[at], 0);
                }
                if budgets[at].0 != periods[at] {
                    budgets[at] = (periods[at], 0, 0);
                }
                let (period, charged, more, least) = tell.budgets[at];
                if period != periods[at] {
                    continue;
                }
                scope.budgets[at].1 = scope.budgets[at].1.max(least as i64);
                let (_, told, held) = budgets[at];
                let new = if tell.is_whole { more } else { (held + more).max(0) };
                scope.budgets[at].1 += charged as i64 - told + new - held;
                budgets[at] = (period, charged as i64, new);
            }
        }
        self.take(gateway, order, clock)
    }

    fn take(&mut self, gateway: usize, order: &Order, clock: Clock) -> Reply {
        let now = clock.now.as_millis() as u64;
        let mut output = order.output;
        let need = |item: &Item, output: u64| {
            let all = item.fixed + (item.each * output) as i64;
            let all = if is_rate(item.measure) { all.min(item.limit as i64) } else { all };
            u64::try_from(all - item.have as i64).unwrap_or(0).div_ceil(item.unit)
        };
        let items =
            || order.entries.iter().flat_map(|entry| entry.items.iter().map(move |item| (entry, item)));
        let left = |scope: &Scope, item: &Item| -> f64 {
            let used = match item.measure {
                Measure::InFlight => scope.in_flight as f64,
                Measure::Day => scope.budgets[0].1 as f64,
                Measure::Month => scope.budgets[1].1 as f64,
                rate => {
                    let (level, then) = scope.levels[rate as usize];
                    (level - (now - then) as f64 * item.limit as f64 / 60_000.0).max(0.0)
                }
            };
            item.limit as f64 - used
        };
        for (entry, item) in
            items().filter(|(_, item)| matches!(item.measure, Measure::Day | Measure::Month) && item.each > 0)
        {
            let room = left(&self.scopes[entry.scope.name()], item).max(0.0) as i64 * item.unit as i64;
            let room = room + item.have as i64 - item.fixed;
            output = output.min(u64::try_from(room).unwrap_or(0) / item.each);
        }
        output = output.max(order.least_output);
        let lacks = |item: &Item, left: f64| need(item, output) as f64 > left + 1e-6;
        let is_granted =
            items().all(|(entry, item)| !lacks(item, left(&self.scopes[entry.scope.name()], item)));
        let mut replies = Vec::new();
        for (entry, item) in items() {
            let scope = self.scopes.get_mut(entry.scope.name()).expect("told");
            let left = left(scope, item);
            let need = need(item, output);
            let mut said = ItemReply {
                granted: 0,
                left: Some(left.max(0.0) as u64),
                is_lacking: lacks(item, left),
                wait: Duration::from_secs(1),
            };
            if is_granted {
                let all = need + item.extra;
                said.granted = if all as f64 <= left + 1e-6 { all } else { need };
                said.left = Some((left - said.granted as f64).max(0.0) as u64);
                let held = scope.held.get_mut(&gateway).expect("told");
                match item.measure {
                    Measure::InFlight => {
                        scope.in_flight += said.granted as i64;
                        held.0 += said.granted as i64;
                    }
                    Measure::Day | Measure::Month => {
                        let at = usize::from(item.measure == Measure::Month);
                        scope.budgets[at].1 += said.granted as i64;
                        held.1[at].2 += said.granted as i64;
                    }
                    rate => {
                        let used = item.limit as f64 - left + said.granted as f64;
                        scope.levels[rate as usize] = (used, now);
                    }
                }
            }
            replies.push(said);
        }
        Reply { is_granted, output, unix: clock.unix, items: replies }
    }
}

/// A gateway with one holder of limits.
struct Gateway {
    number: usize,
    holder: Holder,
    scope: Option<ScopeRef>,
}

impl Gateway {
    fn new(number: usize, plan: &Arc<Plan>) -> Self {
        Self {
            number,
            holder: Holder { usage: Arc::default(), plan: Arc::clone(plan), rule: None },
            scope: None,
        }
    }

    fn reserve(&mut self, store: &mut Store, demand: Demand, clock: Clock) -> Result<Lease, Box<Denied>> {
        match begin([Some(self.holder.clone()), None], demand, clock, TERMS, NAMES) {
            Begun::Lease(lease) => Ok(*lease),
            Begun::Ask(ask, order) => {
                self.scope = Some(order.entries[0].scope.clone());
                let reply = store.answer(self.number, &order, clock);
                ask.answered(Grant::new(order, reply, clock.now))
            }
        }
    }

    /// A request that is served while the store is away.
    fn reserve_alone(&mut self, demand: Demand, clock: Clock) -> Option<Lease> {
        let holders = [Some(self.holder.clone()), None];
        let scope = &mut self.scope;
        reserve_alone(holders, demand, clock, TERMS, NAMES, |opened| *scope = Some(opened)).ok()
    }

    /// A request whose answer is lost on the way.
    fn reserve_in_vain(&mut self, store: &mut Store, demand: Demand, clock: Clock) {
        if let Begun::Ask(ask, order) = begin([Some(self.holder.clone()), None], demand, clock, TERMS, NAMES)
        {
            self.scope = Some(order.entries[0].scope.clone());
            store.answer(self.number, &order, clock);
            drop(ask.unanswered());
            self.tell(store, clock, true);
        }
    }

    fn tell(&mut self, store: &mut Store, clock: Clock, is_whole: bool) {
        let Some(scope) = &self.scope else { return };
        if let Some(tell) = scope.tell(clock, is_whole) {
            let order = Order {
                entries: vec![Entry { scope: scope.clone(), tell, items: vec![] }],
                output: 0,
                least_output: 0,
            };
            let reply = store.answer(self.number, &order, clock);
            drop(Grant::new(order, reply, clock.now));
        }
    }
}

#[test]
fn exactly_the_limit_passes_over_all_gateways() {
    let plan = plan(&[(Measure::Requests, 100)]);
    let mut store = Store::default();
    let mut gateways: Vec<_> = (0..4).map(|number| Gateway::new(number, &plan)).collect();
    let mut leases = Vec::new();
    for request in 0..1000 {
        leases.extend(gateways[request % 4].reserve(&mut store, demand(1, 1), at(0)));
    }
    assert_eq!(leases.len(), 100);
    let denied = gateways[0].reserve(&mut store, demand(1, 1), at(0)).expect_err("used up");
    assert!(matches!(denied.refusal, Refusal::RateLimited { measure: Measure::Requests, limit: 100, .. }));
    assert_eq!(denied.standing[0].map(|left| left.remaining), Some(0));
}

#[test]
fn the_store_is_asked_once_for_a_slice() {
    let plan = plan(&[(Measure::Requests, 1000)]);
    let (mut store, mut gateway) = (Store::default(), Gateway::new(0, &plan));
    let leases: Vec<_> =
        (0..510).map(|_| gateway.reserve(&mut store, demand(1, 1), at(0)).expect("room")).collect();
    assert_eq!(store.trips, 10, "fifty and the one that was needed with each");
    drop(leases);
}

#[test]
fn what_lies_idle_goes_back() {
    let plan = plan(&[(Measure::InFlight, 20), (Measure::Day, 1000), (Measure::Tokens, 1000)]);
    let mut store = Store::default();
    let (mut busy, mut idle) = (Gateway::new(0, &plan), Gateway::new(1, &plan));
    let mut lease = idle.reserve(&mut store, demand(10, 10), at(0)).expect("room");
    lease.charge(Used { input: 10, output: 5, pico_eur: 0 }, at(10).now);
    drop(lease);
    for ms in [50, 1100, 1200] {
        idle.tell(&mut store, at(ms), false);
    }
    let scope = store.scopes.values().next().expect("one scope");
    assert_eq!((scope.in_flight, scope.budgets[0].1), (0, 15));
    assert!(idle.scope.as_ref().expect("asked").close(), "nothing is left to know");
    let lease = busy.reserve(&mut store, demand(900, 85), at(1300)).expect("all that was not used is there");
    drop(lease);
}

#[test]
fn a_stream_takes_more_of_the_store() {
    let plan = plan(&[(Measure::Day, 1000)]);
    let mut store = Store::default();
    let (mut first, mut second) = (Gateway::new(0, &plan), Gateway::new(1, &plan));
    let mut lease = first.reserve(&mut store, demand(100, 200), at(0)).expect("room");
    let other = second.reserve(&mut store, demand(300, 0), at(0)).expect("room");
    let mut come_to = 300;
    loop {
        let used = Used { input: 100, output: come_to - 100, pico_eur: 0 };
        let allowed = match lease.more(used, at(1)) {
            More::Allowed(tokens) => Ok(tokens),
            More::Ask(ask, order) => {
                let reply = store.answer(0, &order, at(1));
                lease.more_answered(*ask, Grant::new(order, reply, at(1).now))
            }
        };
        match allowed {
            Ok(tokens) => come_to = 100 + tokens,
            Err(refusal) => {
                assert_eq!(refusal.answer().code, "insufficient_quota");
                break;
            }
        }
    }
    // The other gateway holds what it needs, and a slice.
    assert_eq!(come_to, 1000 - 300 - 50);
    drop(other);
    lease.charge(Used { input: 100, output: come_to - 100, pico_eur: 0 }, at(2).now);
    drop(lease);
    for ms in [1100, 1200] {
        first.tell(&mut store, at(ms), false);
        second.tell(&mut store, at(ms), false);
    }
    assert_eq!(store.scopes.values().next().expect("one").budgets[0].1, come_to as i64);
}

#[test]
fn what_was_recorded_before_is_the_least_that_was_used() {
    let plan = plan(&[(Measure::Day, 1000)]);
    let mut store = Store::default();
    for number in 0..3 {
        let mut gateway = Gateway::new(number, &plan);
        let holders = [Some(gateway.holder.clone()), None];
        let scopes = restore(&holders, 600, 0, at(0), TERMS, NAMES);
        gateway.scope = scopes.into_iter().next();
        gateway.tell(&mut store, at(0), false);
    }
    assert_eq!(store.scopes.values().next().expect("one").budgets[0].1, 600, "once, not three times");
}

#[test]
fn a_refusal_holds_for_all_that_need_as_much() {
    let plan = plan(&[(Measure::Tokens, 100)]);
    let (mut store, mut gateway) = (Store::default(), Gateway::new(0, &plan));
    let held = gateway.reserve(&mut store, demand(80, 0), at(0)).expect("room");
    let order =
        |tokens| match begin([Some(gateway.holder.clone()), None], demand(tokens, 0), at(0), TERMS, NAMES) {
            Begun::Ask(ask, order) => (ask, order),
            Begun::Lease(_) => panic!("what is ready is a slice of 5"),
        };
    let (first, refused) = order(40);
    let reply = store.answer(0, &refused, at(0));
    assert!(!reply.is_granted);
    // The slice is set aside for the first: the others have to ask for all that they need.
    let (larger, same, smaller) = (order(41), order(35), order(34));
    for ((ask, order), is_like) in [(larger, true), (same, true), (smaller, false)] {
        let like = order.refused_like(&refused, &reply);
        assert_eq!(like.is_some(), is_like);
        if let Some(like) = like {
            let denied = ask.answered(Grant::unsent(order, like, at(0).now)).expect_err("no room");
            assert!(matches!(denied.refusal, Refusal::RateLimited { measure: Measure::Tokens, .. }));
        }
    }
    drop((first, held));
}

/// Without the store a gateway has its part of what is left of a budget, not of the whole of it: what was used before, here or
/// elsewhere, is used, and what is left is not called used up.
#[test]
fn alone_a_budget_has_a_part_of_what_is_left() {
    let terms = Terms { gateways: 4, ..TERMS };
    let alone = |gateway: &Gateway, tokens| {
        let holders = [Some(gateway.holder.clone()), None];
        reserve_alone(holders, demand(tokens, 0), at(0), terms, NAMES, |_| {})
            .map_err(|denied| denied.refusal)
    };
    let plan = plan(&[(Measure::Day, 1000)]);
    let restarted = Gateway::new(0, &plan);
    super::super::restore(&restarted.holder, 600, 0, at(0));
    let held = alone(&restarted, 100).expect("a quarter of 400");
    assert!(matches!(alone(&restarted, 1), Err(Refusal::NoLimits { .. })), "others may have room");
    drop(held);
    assert!(alone(&restarted, 100).is_ok(), "it was given back");
    // One that has used more than a quarter of all has a quarter of what the store had left.
    let (mut store, mut busy) = (Store::default(), Gateway::new(1, &plan));
    let held = busy.reserve(&mut store, demand(700, 0), at(0)).expect("room");
    let left = (1000 - 700 - 50) / 4;
    assert!(alone(&busy, left + 1).is_err());
    let more = alone(&busy, left).expect("its part of the rest");
    assert!(alone(&busy, 1).is_err());
    drop((held, more));
    // Where the store had nothing left, that is said, with the limit as it is.
    let (mut store, mut full) = (Store::default(), Gateway::new(2, &plan));
    let _held = full.reserve(&mut store, demand(1000, 0), at(0)).expect("room");
    let refusal = alone(&full, 1).expect_err("nothing is left");
    assert!(matches!(refusal, Refusal::QuotaExhausted { limit: 1000, .. }), "{refusal:?}");
}

/// One that named no cap was refused for all the output that it would have taken, not for a token of it.
#[test]
fn a_refusal_of_much_output_does_not_hold_for_little() {
    let plan = plan(&[(Measure::Tokens, 1000)]);
    let (mut store, mut gateway) = (Store::default(), Gateway::new(0, &plan));
    let held = gateway.reserve(&mut store, demand(300, 0), at(0)).expect("room");
    let begun = |demand| begin([Some(gateway.holder.clone()), None], demand, at(0), TERMS, NAMES);
    let Begun::Ask(first, refused) = begun(Demand { is_open: true, ..demand(10, 900) }) else {
        panic!("a slice is less")
    };
    let reply = store.answer(0, &refused, at(0));
    assert!(!reply.is_granted);
    let Begun::Ask(second, order) = begun(demand(400, 0)) else { panic!("a slice is less") };
    assert_eq!(order.refused_like(&refused, &reply), None);
    let fits = store.answer(0, &order, at(0));
    assert!(fits.is_granted);
    drop((second, Grant::new(order, fits, at(0).now), first, held));
}

/// Whoever forgets scopes holds the list of them and then the lock of what is used; a request must never do so the other
/// way round. It would stop here.
#[test]
fn scopes_are_forgotten_while_requests_meet_them() {
    let gateway = Gateway::new(0, &plan(&[(Measure::Requests, 1_000_000)]));
    let scopes = std::sync::Mutex::new(Vec::<ScopeRef>::new());
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                for _ in 0..5_000 {
                    let holders = [Some(gateway.holder.clone()), None];
                    let note = |scope| scopes.lock().expect("no panic").push(scope);
                    drop(reserve_alone(holders, demand(1, 1), at(0), TERMS, NAMES, note));
                }
            });
        }
        threads.spawn(|| {
            for _ in 0..5_000 {
                let mut listed = scopes.lock().expect("no panic");
                listed.retain(|scope| !scope.close());
            }
        });
    });
    assert_eq!(gateway.holder.usage.in_work().0, 0);
}

/// Clocks of a gateway and its store differ a little: what was promised in the new day stays promised.
#[test]
fn nobody_goes_back_to_yesterday() {
    let limits = Limits::default().with(Measure::Day, Some(1000));
    let midnight =
        |ms: u64| Clock { now: Duration::from_millis(ms), unix: Duration::from_secs(86_400 * 20_785) };
    let before = |ms: u64| Clock { unix: Duration::from_secs(86_400 * 20_785 - 1), ..midnight(ms) };
    let mut slices = Slices::new("a".into(), Duration::ZERO);
    slices.meet(&limits, 5, midnight(0));
    slices.promise(Measure::Day, 100, midnight(1));
    slices.meet(&limits, 5, before(2));
    slices.receive(Measure::Day, 100, 60, crate::request::quota::slices::period(Measure::Day, midnight(1)));
    assert_eq!((slices.ready(Measure::Day, midnight(3)), slices.ready(Measure::Day, before(3))), (40, 0));
}

#[test]
fn without_the_store_each_has_its_part_or_refuses() {
    let terms = Terms { gateways: 4, ..TERMS };
    let open = Gateway::new(0, &plan(&[(Measure::Requests, 100)]));
    let holders = || [Some(open.holder.clone()), None];
    let alone = |_| reserve_alone(holders(), demand(1, 1), at(0), terms, NAMES, |_| {}).ok();
    assert_eq!((0..100).filter_map(alone).count(), 25);
    let limits = Limits::default().with(Measure::Requests, Some(100)).when_down(Some(WhenDown::Closed));
    let closed = Gateway::new(0, &Arc::new(Plan { limits, rules: vec![] }));
    let holders = [Some(closed.holder.clone()), None];
    let denied = reserve_alone(holders, demand(1, 1), at(0), terms, NAMES, |_| {}).expect_err("closed");
    assert_eq!(denied.refusal.answer().status, 503);
}

proptest! {
    /// Whatever gateways do, in whatever order, with answers lost on the way: what they let through keeps the bound, and
    /// once all is over the store has exactly what was used.
    #[test]
    fn no_interleaving_goes_beyond_the_bound(limit in 20u64..2_000, steps in steps()) {
        play(limit, &steps, false)?;
    }

    /// The same with requests that are served while the store is away. More passes then, and it is all accounted for.
    #[test]
    fn what_passed_without_the_store_is_accounted_for(limit in 20u64..2_000, steps in steps()) {
        play(limit, &steps, true)?;
    }
}

/// Which gateway, milliseconds since the step before, input, output, which request ends, and what is done.
type Step = (usize, u64, u64, u64, usize, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0usize..4, 0u64..400, 0u64..120, 0u64..120, 0usize..12, 0u8..16), 1..160)
}

/// Plays the steps with four gateways; some requests are served without the store where it `goes_away`.
fn play(limit: u64, steps: &[Step], goes_away: bool) -> Result<(), TestCaseError> {
    let day = limit * 3;
    let measures =
        [(Measure::Tokens, limit), (Measure::Requests, limit), (Measure::InFlight, 5), (Measure::Day, day)];
    let plan = plan(&measures);
    let mut store = Store::default();
    let mut gateways: Vec<_> = (0..4).map(|number| Gateway::new(number, &plan)).collect();
    let mut leases: Vec<(Lease, u64, u64)> = Vec::new();
    // When each request reserved what it later used.
    let mut spendings: Vec<(u64, u64)> = Vec::new();
    let (mut now, mut charged) = (0, 0u64);
    for (gateway, wait, input, output, end, kind) in steps.iter().copied() {
        now += wait;
        let gateway = &mut gateways[gateway];
        let asked = demand(input, output);
        let most = (input + output).min(limit);
        match kind {
            0 => gateway.reserve_in_vain(&mut store, asked, at(now)),
            1 => gateway.tell(&mut store, at(now), true),
            2 | 3 => gateway.tell(&mut store, at(now), false),
            4 | 5 if goes_away => {
                leases.extend(gateway.reserve_alone(asked, at(now)).map(|lease| (lease, most, now)));
            }
            _ => leases.extend(gateway.reserve(&mut store, asked, at(now)).map(|lease| (lease, most, now))),
        }
        if end < leases.len() {
            let (mut lease, most, reserved) = leases.swap_remove(end);
            let spent = most / 2;
            lease.charge(Used { input: spent, output: 0, pico_eur: 0 }, at(now).now);
            charged += spent;
            spendings.push((reserved, spent));
        }
        if !goes_away {
            prop_assert!(leases.len() <= 5, "in flight {}", leases.len());
            let reserved: u64 = leases.iter().map(|(_, most, _)| most).sum();
            prop_assert!(charged + reserved <= day, "{} + {} of the day's {}", charged, reserved, day);
        }
    }
    drop(leases);
    if !goes_away {
        within_bound(limit, &spendings)?;
    }
    for later in [1_000, 2_100, 4_200] {
        for gateway in &mut gateways {
            gateway.tell(&mut store, at(now + later), false);
        }
    }
    if let Some(scope) = store.scopes.values().next() {
        prop_assert_eq!(scope.in_flight, 0);
        prop_assert_eq!(scope.budgets[0].1, charged as i64);
    }
    for scope in gateways.iter().filter_map(|gateway| gateway.scope.as_ref()) {
        prop_assert!(scope.close());
    }
    Ok(())
}

/// A full window, what flows back, a slice for each gateway, and one for rounding: in every span.
fn within_bound(limit: u64, spendings: &[(u64, u64)]) -> Result<(), TestCaseError> {
    for (begin, _) in spendings {
        for (end, _) in spendings.iter().filter(|(end, _)| end >= begin) {
            let within = spendings.iter().filter(|(time, _)| (begin..=end).contains(&time));
            let spent: u64 = within.map(|(_, spent)| spent).sum();
            let (span, slices) = (end - begin, 4 * (limit * 5 / 100));
            let bound = limit + limit * span / 60_000 + slices + 1;
            prop_assert!(spent <= bound, "{} of {} in {} ms", spent, bound, span);
        }
    }
    Ok(())
}
