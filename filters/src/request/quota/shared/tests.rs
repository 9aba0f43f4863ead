//! Gateways against a store in Rust, which does what src/limits/limits.lua does (`model.rs`).

use std::time::Duration;

use proptest::prelude::*;

use super::super::limits::{Limits, Plan, Used};
use super::super::slices::Kept;
use super::super::{Measure, Price};
use super::model::{Asked, Model, Scope};
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

/// The store, and what comes to it late.
struct Store {
    model: Model,
    trips: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self { model: Model::new("1"), trips: 0 }
    }
}

impl Store {
    /// What it answers to a gateway that has told it everything; `None` where it has to say all anew.
    fn hear(&mut self, by: &By, order: &Order, clock: Clock) -> Option<Reply> {
        self.trips += 1;
        let scopes = order.entries.iter().map(|entry| (&**entry.scope.name(), &entry.tell, &*entry.items));
        let asked = Asked {
            memory: &by.memory,
            gateway: &by.name,
            epoch: by.epoch,
            output: order.output,
            least: order.least_output,
            scopes: scopes.collect(),
        };
        self.model.answer(&asked, u64::try_from(clock.unix.as_micros()).expect("this century"))
    }

    fn answer(&mut self, by: &By, order: &Order, clock: Clock) -> Reply {
        self.hear(by, order, clock).expect("it knows this gateway")
    }

    /// Started again without its data.
    fn forget(&mut self) {
        let next = self.model.memory.parse::<u64>().expect("a number") + 1;
        self.model = Model::new(&next.to_string());
    }

    /// The only scope.
    fn scope(&self) -> &Scope {
        self.model.scopes.values().next().expect("one scope")
    }
}

/// On whose connection an order goes.
#[derive(Debug, Clone)]
struct By {
    name: String,
    memory: String,
    epoch: i64,
}

impl By {
    fn first(number: usize) -> Self {
        Self { name: number.to_string(), memory: "1".to_owned(), epoch: 1 }
    }
}

/// A gateway with one holder of limits.
struct Gateway {
    by: By,
    holder: Holder,
    scope: Option<ScopeRef>,
    /// An order whose connection was lost before the store read it.
    late: Option<(By, Order)>,
}

impl Gateway {
    fn new(number: usize, plan: &Arc<Plan>) -> Self {
        Self {
            by: By::first(number),
            holder: Holder { usage: Arc::default(), plan: Arc::clone(plan), rule: None },
            scope: None,
            late: None,
        }
    }

    fn reserve(&mut self, store: &mut Store, demand: Demand, clock: Clock) -> Result<Lease, Box<Denied>> {
        match begin([Some(self.holder.clone()), None], demand, clock, TERMS, NAMES) {
            Begun::Lease(lease) => Ok(*lease),
            Begun::Ask(ask, order) => {
                self.scope = Some(order.entries[0].scope.clone());
                let reply = store.answer(&self.by, &order, clock);
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

    /// A request whose answer is lost on the way, with its connection.
    fn reserve_in_vain(&mut self, store: &mut Store, demand: Demand, clock: Clock) {
        if let Some(order) = self.order(demand, clock) {
            store.answer(&self.by, &order, clock);
            self.connect(store, clock);
        }
    }

    /// A request whose order is still on its way when its connection is lost: the store reads it later, if at all.
    fn reserve_late(&mut self, store: &mut Store, demand: Demand, clock: Clock) {
        if let Some(order) = self.order(demand, clock) {
            self.late = Some((self.by.clone(), order));
            self.connect(store, clock);
        }
    }

    /// What a request asks that does not wait for the answer.
    fn order(&mut self, demand: Demand, clock: Clock) -> Option<Order> {
        match begin([Some(self.holder.clone()), None], demand, clock, TERMS, NAMES) {
            Begun::Lease(_) => None,
            Begun::Ask(ask, order) => {
                self.scope = Some(order.entries[0].scope.clone());
                drop(ask.unanswered());
                Some(order)
            }
        }
    }

    /// The store reads what it has not read yet of connections that are lost. It is never read twice: a connection
    /// delivers each byte once.
    fn deliver_late(&mut self, store: &mut Store, clock: Clock) {
        if let Some((by, order)) = self.late.take() {
            let _ = store.hear(&by, &order, clock);
        }
    }

    /// A new connection, which begins with telling all.
    fn connect(&mut self, store: &mut Store, clock: Clock) {
        self.by.epoch += 1;
        self.tell(store, clock, true);
    }

    /// The store has lost its memory: it is told what the ledger has of each life, and what this gateway holds.
    fn learn(&mut self, store: &mut Store, ledger: &[u64], clock: Clock) {
        self.by.memory.clone_from(&store.model.memory);
        let reading = self.by.memory.parse().expect("a number");
        for (number, tokens) in ledger.iter().enumerate() {
            let (life, tokens) = (&Arc::from(number.to_string()), *tokens);
            let recorded = Recorded { reading, life, tokens, pico_eur: 0 };
            let holders = [Some(self.holder.clone()), None];
            if let Some(scope) = restore(&holders, recorded, clock, TERMS, NAMES).pop() {
                self.scope = Some(scope);
            }
        }
        self.connect(store, clock);
    }

    fn tell(&mut self, store: &mut Store, clock: Clock, is_whole: bool) {
        let Some(scope) = self.scope.clone() else { return };
        if let Some(tell) = scope.tell(clock, is_whole) {
            let is_last = tell.is_last;
            let order = Order {
                entries: vec![Entry { scope: scope.clone(), tell, items: vec![] }],
                output: 0,
                least_output: 0,
            };
            let reply = store.answer(&self.by, &order, clock);
            drop(Grant::new(order, reply, clock.now));
            if is_last && scope.close() {
                self.scope = None;
            }
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
    let scope = store.scope();
    assert_eq!((scope.n, scope.budgets[0].1), (0.0, 15.0));
    assert!(idle.scope.is_none(), "nothing is left to know");
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
                let reply = store.answer(&first.by, &order, at(1));
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
    assert_eq!(store.scope().budgets[0].1, come_to as f64);
}

/// Whoever tells what the ledger has, how often and in whatever order: it counts once, also beside what a gateway has
/// told itself.
#[test]
fn what_the_ledger_has_of_a_life_counts_once() {
    let plan = plan(&[(Measure::Day, 1000)]);
    let mut store = Store::default();
    let mut gateways: Vec<_> = (0..3).map(|number| Gateway::new(number, &plan)).collect();
    let mut lease = gateways[0].reserve(&mut store, demand(100, 0), at(0)).expect("room");
    lease.charge(Used { input: 100, output: 0, pico_eur: 0 }, at(0).now);
    drop(lease);
    let ended = "a life that has ended".into();
    // The ledger does not have all of the first gateway's yet.
    for (reading, of_first) in [(1, 40), (2, 100)] {
        for gateway in &mut gateways {
            for (life, tokens) in [(&ended, 250), (&ended, 50), (&"0".into(), of_first)] {
                let recorded = Recorded { reading, life, tokens, pico_eur: 0 };
                let holders = [Some(gateway.holder.clone()), None];
                gateway.scope = restore(&holders, recorded, at(0), TERMS, NAMES).pop();
            }
            gateway.tell(&mut store, at(0), false);
        }
        let outstanding: f64 = store.scope().held.values().map(|held| held.budgets[0].2).sum();
        assert_eq!(store.scope().budgets[0].1 - outstanding, 400.0);
    }
}

/// A scope that is forgotten here while nobody uses it goes on where it was.
#[test]
fn a_life_counts_on_after_it_was_forgotten() {
    let plan = plan(&[(Measure::Day, 1000)]);
    let (mut store, mut gateway) = (Store::default(), Gateway::new(0, &plan));
    for turn in 1..=3_u64 {
        let now = |later: u64| at(turn * 10_000 + later);
        let mut lease = gateway.reserve(&mut store, demand(100, 0), now(0)).expect("room");
        lease.charge(Used { input: 100, output: 0, pico_eur: 0 }, now(1).now);
        drop(lease);
        for later in [50, 1100, 1200] {
            gateway.tell(&mut store, now(later), false);
        }
        assert!(gateway.scope.is_none(), "forgotten");
        assert_eq!(store.scope().budgets[0].1, 100.0 * turn as f64);
        assert_eq!(store.scope().held["0"].budgets[0].1, 100.0 * turn as f64, "all of this life");
    }
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
    let reply = store.answer(&gateway.by, &refused, at(0));
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
    let reply = store.answer(&gateway.by, &refused, at(0));
    assert!(!reply.is_granted);
    let Begun::Ask(second, order) = begun(demand(400, 0)) else { panic!("a slice is less") };
    assert_eq!(order.refused_like(&refused, &reply), None);
    let fits = store.answer(&gateway.by, &order, at(0));
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
    let mut slices = Slices::new("a".into(), Kept::default(), Duration::ZERO);
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
    /// Whatever gateways do, in whatever order, with answers lost on the way and orders that come after their connection
    /// was lost: what they let through keeps the bound, and once all is over the store has exactly what was used.
    #[test]
    fn no_interleaving_goes_beyond_the_bound(limit in 20u64..2_000, steps in steps()) {
        play(limit, &steps, Trouble::None)?;
    }

    /// The same with requests that are served while the store is away. More passes then, and it is all accounted for.
    #[test]
    fn what_passed_without_the_store_is_accounted_for(limit in 20u64..2_000, steps in steps()) {
        play(limit, &steps, Trouble::Away)?;
    }

    /// The same with a store that loses all it has, again and again, and learns it from the ledger and all gateways.
    #[test]
    fn a_store_that_lost_everything_learns_it_exactly(limit in 20u64..2_000, steps in steps()) {
        play(limit, &steps, Trouble::Loss)?;
    }
}

/// What happens to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Away,
    Loss,
}

/// Which gateway, milliseconds since the step before, input, output, which request ends, and what is done.
type Step = (usize, u64, u64, u64, usize, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0usize..4, 0u64..400, 0u64..120, 0u64..120, 0usize..12, 0u8..18), 1..160)
}

/// Plays the steps with four gateways.
fn play(limit: u64, steps: &[Step], trouble: Trouble) -> Result<(), TestCaseError> {
    let day = limit * 3;
    let measures =
        [(Measure::Tokens, limit), (Measure::Requests, limit), (Measure::InFlight, 5), (Measure::Day, day)];
    let plan = plan(&measures);
    let mut store = Store::default();
    let mut gateways: Vec<_> = (0..4).map(|number| Gateway::new(number, &plan)).collect();
    let mut leases: Vec<(Lease, usize, u64, u64)> = Vec::new();
    // When each request reserved what it later used.
    let mut spendings: Vec<(u64, u64)> = Vec::new();
    // What each gateway has charged, and what of it is in the ledger.
    let (mut now, mut charged, mut ledger) = (0, [0u64; 4], [0u64; 4]);
    for (number, wait, input, output, end, kind) in steps.iter().copied() {
        // What is not said again for ten seconds is taken back there.
        if now / 1_000 < (now + wait) / 1_000 {
            gateways.iter_mut().for_each(|gateway| gateway.tell(&mut store, at(now + wait), false));
        }
        now += wait;
        // What is forgotten here has been in the ledger for long.
        for (at, gateway) in gateways.iter().enumerate() {
            if gateway.scope.is_none() || (at == number && kind % 2 == 0) {
                ledger[at] = charged[at];
            }
        }
        let asked = demand(input, output);
        let most = (input + output).min(limit);
        if kind == 16 && trouble == Trouble::Loss {
            // What was charged last is not in the ledger yet, but its gateway still knows it.
            store.forget();
            for gateway in 0..4 {
                gateways[(number + gateway) % 4].learn(&mut store, &ledger, at(now));
            }
        }
        let gateway = &mut gateways[number];
        match kind {
            0 => gateway.reserve_in_vain(&mut store, asked, at(now)),
            1 => gateway.connect(&mut store, at(now)),
            2 | 3 => gateway.tell(&mut store, at(now), false),
            4 | 5 if trouble == Trouble::Away => {
                leases.extend(gateway.reserve_alone(asked, at(now)).map(|lease| (lease, number, most, now)));
            }
            6 => gateway.reserve_late(&mut store, asked, at(now)),
            7 => gateway.deliver_late(&mut store, at(now)),
            _ => {
                let reserved = gateway.reserve(&mut store, asked, at(now));
                leases.extend(reserved.map(|lease| (lease, number, most, now)));
            }
        }
        if end < leases.len() {
            let (mut lease, number, most, reserved) = leases.swap_remove(end);
            let spent = most / 2;
            lease.charge(Used { input: spent, output: 0, pico_eur: 0 }, at(now).now);
            charged[number] += spent;
            spendings.push((reserved, spent));
        }
        if trouble != Trouble::Away {
            prop_assert!(leases.len() <= 5, "in flight {}", leases.len());
            let reserved: u64 = leases.iter().map(|(_, _, most, _)| most).sum();
            let charged: u64 = charged.iter().sum();
            prop_assert!(charged + reserved <= day, "{} + {} of the day's {}", charged, reserved, day);
        }
    }
    drop(leases);
    if trouble == Trouble::None {
        within_bound(limit, &spendings)?;
    }
    for later in [1_000, 2_100, 4_200] {
        for gateway in &mut gateways {
            gateway.deliver_late(&mut store, at(now + later));
            gateway.tell(&mut store, at(now + later), false);
        }
    }
    if let Some(scope) = store.model.scopes.values().next() {
        prop_assert_eq!(scope.n, 0.0);
        prop_assert_eq!(scope.budgets[0].1, charged.iter().sum::<u64>() as f64);
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
