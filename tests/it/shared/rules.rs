//! The rules of limits.lua, as a real store plays them, against the copy of them in Rust that the properties of
//! `tollgate_filters` stand on: the same orders at the same times, thousands of them, are answered alike and leave alike
//! what they leave.

use std::sync::Arc;
use std::time::Duration;

use tollgate::limits::script;
use tollgate_filters::request::quota::shared::{
    EXPIRY, Entry, Item, ItemReply, Names, Order, Reply, ScopeRef, Tell, Terms, reserve_alone,
};
use tollgate_filters::request::quota::{
    Clock, Demand, Holder, Limits, Measure, Plan, Price, Usage, WhenDown,
};

use crate::harness::Dice;
use crate::harness::valkey::{Session, Valkey};

#[path = "../../../filters/src/request/quota/shared/model.rs"]
mod model;

use model::{Asked, Held, Model, Scope};

/// What the memory of the store is called.
const MEMORY: &str = "one";
/// 2026-11-29 at 23:59, so that days and months end while orders come.
const BEGIN_US: u64 = 1_796_083_140_000_000;
const ORDERS: usize = 6_000;
const GATEWAYS: [&str; 3] = ["a", "b", "c"];

/// The real script, but for the time, which is passed in.
fn script_with_time() -> String {
    let clock = "local clock = redis.call('TIME')";
    assert_eq!(script::LIMITS.matches(clock).count(), 1, "the script reads the clock at one place");
    script::LIMITS.replace(clock, "local clock = { ARGV[2], ARGV[3] }")
}

/// The scopes of a tenant and of one of its keys.
fn scopes() -> Vec<ScopeRef> {
    let limits = Limits::default().with(Measure::Day, Some(1));
    let plan = Arc::new(Plan { limits, rules: Vec::new() });
    let holder = || Some(Holder { usage: Arc::<Usage>::default(), plan: Arc::clone(&plan), rule: None });
    let demand = Demand { input: 0, output: 0, is_open: false, price: Price::default() };
    let terms = Terms { slice_percent: 5, when_down: WhenDown::Open, gateways: 1 };
    let names = Names { tenant: "acme", key_id: "main" };
    let mut scopes = Vec::new();
    let holders = [holder(), holder()];
    let taken = reserve_alone(holders, demand, Clock::default(), terms, names, |scope| scopes.push(scope));
    drop(taken);
    assert_eq!(scopes.len(), 2);
    scopes
}

/// An order as gateways make them, and as they should not.
fn order(dice: &mut Dice, scopes: &[ScopeRef], clock: Clock, charged: &mut [u64; 2]) -> Order {
    let mut number = |below: usize| u64::try_from(dice.below(below)).expect("small");
    let count = 1 + number(2);
    let mut entries = Vec::new();
    for scope in scopes.iter().take(usize::try_from(count).expect("small")) {
        let rate = |number: &mut dyn FnMut(usize) -> u64| {
            (usize::try_from(number(4)).expect("small"), 60 + number(3), number(30), number(20))
        };
        let rates = (0..number(3)).map(|_| rate(&mut number)).collect();
        let signed = |amount: u64, below: i64| i64::try_from(amount).expect("small") - below;
        for sum in charged.iter_mut() {
            *sum += number(12);
        }
        let is_whole = number(4) == 0;
        let most = if is_whole { 0 } else { 6 };
        // Now and then of a day that is over, or said late.
        let late = u64::from(number(12) == 0);
        let budget = |at: usize, period: u64, number: &mut dyn FnMut(usize) -> u64| {
            let said = charged[at].saturating_sub(number(30) * late);
            (period - late * number(2), said, signed(number(12), most))
        };
        let day = budget(0, clock.day(), &mut number);
        let month = budget(1, clock.month(), &mut number);
        let life = |number: &mut dyn FnMut(usize) -> u64| {
            let name = ["a", "b", "c", "ended", "before-x"][usize::try_from(number(5)).expect("small")];
            let used = [(clock.day() - number(2), number(300)), (clock.month(), number(300))];
            (Arc::from(name), used)
        };
        let lives =
            if number(6) == 0 { (0..number(3)).map(|_| life(&mut number)).collect() } else { Vec::new() };
        let mut items = Vec::new();
        for measure in Measure::ALL {
            if number(3) > 0 {
                continue;
            }
            let is_month = measure == Measure::Month;
            items.push(Item {
                measure,
                limit: if measure == Measure::InFlight { 8 } else { 60 + number(200) },
                fixed: signed(number(40), 5) * if is_month { 1000 } else { 1 },
                each: number(3),
                have: number(5),
                unit: if is_month { 1000 } else { 1 },
                extra: number(4),
            });
        }
        let tell = Tell {
            rates,
            in_flight: signed(number(8), most / 2),
            budgets: [day, month],
            lives,
            is_whole,
            is_known: number(3) == 0,
            keep: Duration::from_secs(3600),
            ..Tell::default()
        };
        entries.push(Entry { scope: scope.clone(), tell, items });
    }
    let output = number(40);
    Order { entries, output, least_output: output.min(number(3)) }
}

/// The answer as the store says it.
fn said(reply: Option<Reply>, us: u64) -> Vec<i64> {
    let whole = |amount: u64| i64::try_from(amount).expect("small");
    let Some(Reply { is_granted, output, items, .. }) = reply else { return vec![-1, whole(us / 1000), 0] };
    let mut said = vec![i64::from(is_granted), whole(us / 1000), whole(output)];
    for ItemReply { granted, left, is_lacking, wait } in items {
        let wait = i64::try_from(wait.as_millis()).expect("small");
        said.extend([whole(granted), whole(left.unwrap_or(0)), wait, i64::from(is_lacking)]);
    }
    said
}

fn numbers(text: &str) -> Vec<f64> {
    text.split(' ').map(|word| word.parse().expect("a number")).collect()
}

/// A scope as it stands in the store.
fn scope_in(session: &mut Session, name: &str, periods: [u64; 2]) -> Scope {
    let mut scope = Scope::default();
    let fields = session.call(&[b"HGETALL", name.as_bytes()]);
    for pair in fields.chunks(2) {
        let [field, value] = pair else { panic!("a field without a value") };
        let v = numbers(value);
        match field.as_str() {
            "n" => scope.n = v[0],
            "d" => scope.budgets[0] = (v[0] as u64, v[1]),
            "m" => scope.budgets[1] = (v[0] as u64, v[1]),
            "reap" => scope.reap = Some(v[0]),
            "r0" | "r1" | "r2" | "r3" => {
                scope.rates[usize::from(field.as_bytes()[1] - b'0')] = Some((v[0], v[1]));
            }
            gateway => {
                let name = gateway.strip_prefix("g:").unwrap_or_else(|| panic!("{gateway} is no field"));
                let budgets = [(v[3] as u64, v[4], v[5]), (v[6] as u64, v[7], v[8])];
                let held = Held { epoch: v[0] as i64, seen: v[1], n: v[2], budgets };
                scope.held.insert(name.to_owned(), held.within(periods));
            }
        }
    }
    scope
}

#[test]
fn the_rules_in_rust_are_those_of_the_script() {
    let Some(store) = Valkey::start() else { return };
    let mut session = store.session();
    let sha = session.call(&[b"SCRIPT", b"LOAD", script_with_time().as_bytes()]).remove(0);
    session.call(&[b"HSET", b"tollgate:memory", b"id", MEMORY.as_bytes()]);
    let mut model = Model::new(MEMORY);
    let scopes = scopes();
    let mut dice = Dice::new(4);
    let (mut us, mut epochs, mut charged) = (BEGIN_US, [1_u64; 3], [[0; 2]; 3]);
    let (mut granted, mut refused, mut anew) = (0, 0, 0);
    for turn in 0..ORDERS {
        us += match dice.below(40) {
            0 => 12_000_000,
            1 => 3_000_000,
            // Over a midnight, and over the end of a month.
            2 if turn % 10 == 0 => 30_000_000_000,
            _ => 17 * u64::try_from(dice.below(20_000)).expect("small"),
        };
        let clock = Clock { now: Duration::ZERO, unix: Duration::from_micros(us) };
        let at = dice.below(3);
        // A new connection, or what is left of an older one.
        epochs[at] += u64::from(dice.below(15) == 0);
        let epoch = epochs[at] - u64::from(dice.below(20) == 0);
        let memory = if dice.below(50) == 0 { "another" } else { MEMORY };
        let order = order(&mut dice, &scopes, clock, &mut charged[at]);

        let asked = Asked {
            memory,
            gateway: GATEWAYS[at],
            epoch: i64::try_from(epoch).expect("small"),
            output: order.output,
            least: order.least_output,
            scopes: order
                .entries
                .iter()
                .map(|entry| (&**entry.scope.name(), &entry.tell, &*entry.items))
                .collect(),
        };
        let expected = said(model.answer(&asked, us), us);
        let arguments = script::arguments(&order, memory, GATEWAYS[at], epoch);
        let (seconds, rest) = ((us / 1_000_000).to_string(), (us % 1_000_000).to_string());
        let keys = (order.entries.len() + 1).to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", sha.as_bytes(), keys.as_bytes()];
        words.extend(order.entries.iter().map(|entry| entry.scope.name().as_bytes()));
        words.extend([b"tollgate:memory", arguments.as_bytes(), seconds.as_bytes(), rest.as_bytes()]);
        let answered = session.call(&words);
        let answered: Vec<i64> = answered.iter().map(|text| text.parse().expect("a number")).collect();
        assert_eq!(answered, expected, "turn {turn}: {order:?}");
        match expected[0] {
            1 => granted += 1,
            0 => refused += 1,
            _ => anew += 1,
        }
        for scope in &scopes {
            let periods = [clock.day(), clock.month()];
            let there = scope_in(&mut session, scope.name(), periods);
            let mut here = model.scopes.get(&**scope.name()).cloned().unwrap_or_default();
            here.held.values_mut().for_each(|held| *held = held.within(periods));
            assert_eq!(there, here, "turn {turn}, {}: {order:?}", scope.name());
            // What was used is what each was charged and holds, whoever said so.
            for (at, period) in periods.into_iter().enumerate() {
                let sum: f64 = here.held.values().map(|held| held.budgets[at].1 + held.budgets[at].2).sum();
                let is_of_now = here.budgets[at].0 == period;
                assert!(!is_of_now || (here.budgets[at].1 - sum).abs() < 1e-6, "turn {turn}: {here:?}");
            }
        }
    }
    eprintln!("{granted} given, {refused} refused, {anew} to be said anew; silence is {EXPIRY:?}");
    assert!(granted > 500 && refused > 500 && anew > 500, "{granted}, {refused}, {anew}");
}
