use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
/// 2026-11-27 at noon.
const NOON: Duration = Duration::from_secs(20_784 * 86_400 + 43_200);

fn at(ms: u64) -> Clock {
    let now = Duration::from_millis(ms);
    Clock { now, unix: NOON + now }
}

fn limits(pairs: &[(Measure, u64)]) -> Limits {
    pairs.iter().fold(Limits::default(), |limits, (measure, limit)| limits.with(*measure, Some(*limit)))
}

fn holder(pairs: &[(Measure, u64)]) -> Holder {
    with_rule(pairs, None)
}

/// A holder with limits, and with others for models that fit a pattern.
fn with_rule(pairs: &[(Measure, u64)], rule: Option<&[(Measure, u64)]>) -> Holder {
    let rules: Vec<Rule> =
        rule.map(|rule| Rule { pattern: "big:*".into(), limits: limits(rule) }).into_iter().collect();
    let plan = Plan { limits: limits(pairs), rules };
    Holder { usage: Arc::default(), rule: plan.rule_for("big:70b"), plan: Arc::new(plan) }
}

fn tenant(holder: &Holder) -> Holders {
    [Some(holder.clone()), None]
}

fn demand(input: u64, output: u64) -> Demand {
    Demand { input, output, is_open: false, price: Price { input: 1, output: 2 } }
}

fn used(input: u64, output: u64) -> Used {
    Used { input, output, pico_eur: input + 2 * output }
}

fn take(holder: &Holder, tokens: u64, clock: Clock) -> Result<Lease, Box<Denied>> {
    reserve(tenant(holder), demand(tokens, 0), clock)
}

/// What a stream that has come to this may come to.
fn allow(lease: &mut Lease, used: Used) -> Option<u64> {
    lease
        .allow(used, at(0))
        .inspect_err(|refusal| assert_eq!(refusal.answer().code, "insufficient_quota"))
        .ok()
}

#[test]
fn exactly_the_limit_passes_and_flows_back_evenly() {
    let holder = holder(&[(Measure::Requests, 60)]);
    let passed: Vec<_> = (0..100).filter_map(|_| take(&holder, 1, at(5)).ok()).collect();
    assert_eq!(passed.len(), 60);
    let denied = take(&holder, 1, at(5)).expect_err("used up");
    assert_eq!(denied.refusal.answer().retry_after, Some(Duration::from_secs(1)));
    assert_eq!(denied.standing[0].map(|left| (left.limit, left.remaining)), Some((60, 0)));
    drop(passed);
    assert!(take(&holder, 1, at(1_004)).is_err(), "a request counts whatever becomes of it");
    assert!(take(&holder, 1, at(1_005)).is_ok());
}

#[test]
fn what_was_not_used_flows_back_and_what_was_used_stays() {
    let holder = holder(&[(Measure::Tokens, 1000)]);
    let lease = reserve(tenant(&holder), demand(100, 900), at(0)).expect("all of it");
    assert!(take(&holder, 1, at(0)).is_err());
    drop(lease);
    let mut lease = reserve(tenant(&holder), demand(100, 900), at(0)).expect("all of it again");
    lease.charge(used(100, 300), Duration::ZERO);
    drop(lease);
    assert!(take(&holder, 601, at(0)).is_err());
    let lease = take(&holder, 600, at(0)).expect("what is left");
    assert_eq!(lease.standing[1].map(|left| left.remaining), Some(0));
}

#[test]
fn input_and_output_have_limits_of_their_own() {
    let holder = holder(&[(Measure::Input, 100), (Measure::Output, 1000), (Measure::Tokens, 1200)]);
    let mut held = Vec::new();
    for (input, output, lacks) in [
        (101, 0, None), // larger than the limit: takes all of it
        (60, 0, Some("100 input tokens per minute")),
        (0, 950, None),
        (0, 60, Some("1000 output tokens per minute")),
        (0, 50, None),
        (100, 0, Some("100 input tokens per minute")),
        (0, 0, None),
    ] {
        let lease = reserve(tenant(&holder), demand(input, output), at(0));
        match (lacks, lease) {
            (None, Ok(lease)) => held.push(lease),
            (Some(words), Err(denied)) => {
                let message = denied.refusal.answer().message;
                assert!(message.contains(words), "{message}");
            }
            (lacks, lease) => panic!("{input} and {output}: {lacks:?}, {lease:?}"),
        }
    }
    assert_eq!(holder.usage.in_work(), (4, 1101));
}

#[test]
fn what_flowed_back_with_time_is_not_given_back_again() {
    let holder = holder(&[(Measure::Tokens, 1000)]);
    let slow: Vec<_> =
        (0..5).map(|minute| take(&holder, 1000, at(minute * 60_000)).expect("a minute later")).collect();
    let now = at(4 * 60_000 + 1);
    for mut lease in slow.into_iter().take(4) {
        lease.charge(used(0, 0), now.now);
        drop(lease);
        assert!(take(&holder, 1000, now).is_err(), "the fifth holds this minute's allowance");
    }
}

#[test]
fn all_limits_give_or_none_does() {
    let rule: &[(Measure, u64)] = &[(Measure::Requests, 10)];
    let organisation = with_rule(&[(Measure::Requests, 100), (Measure::Tokens, 1000)], Some(rule));
    let key = holder(&[(Measure::Tokens, 100), (Measure::InFlight, 2)]);
    let holders = || [Some(organisation.clone()), Some(key.clone())];
    let held = reserve(holders(), demand(90, 0), at(0)).expect("first");
    for _ in 0..50 {
        let denied = reserve(holders(), demand(50, 0), at(0)).expect_err("the key has ten tokens left");
        let message = denied.refusal.answer().message;
        assert!(message.contains("this API key") && message.contains("100 tokens per minute"), "{message}");
        assert_eq!(denied.standing.map(|left| left.map(|left| left.remaining)), [Some(9), Some(10)]);
    }
    let second = reserve(holders(), demand(1, 0), at(0)).expect("nine requests and ten tokens are left");
    let denied = reserve(holders(), demand(1, 0), at(0)).expect_err("two in flight");
    assert!(matches!(denied.refusal, Refusal::RateLimited { measure: Measure::InFlight, .. }));
    // Another key, and no room for the model.
    let others: Vec<_> = (0..9).filter_map(|_| take(&organisation, 1, at(0)).ok()).collect();
    assert_eq!(others.len(), 8);
    let denied = take(&organisation, 1, at(0)).expect_err("ten requests for the model");
    assert!(denied.refusal.answer().message.contains("your organisation and this model"));
    let elsewhere = Holder { rule: None, ..organisation.clone() };
    let other_model = take(&elsewhere, 1, at(0)).expect("another model");
    drop((held, second, others, other_model));
    assert_eq!((organisation.usage.in_work(), key.usage.in_work()), ((0, 0), (0, 0)));
}

#[test]
fn the_limit_that_frees_last_is_the_one_that_is_told() {
    let holder = holder(&[(Measure::Requests, 60), (Measure::Tokens, 60)]);
    let _held = take(&holder, 60, at(0)).expect("all of it");
    let denied = take(&holder, 30, at(0)).expect_err("no tokens");
    assert_eq!(denied.refusal.answer().retry_after, Some(Duration::from_secs(30)));
    let later = at(30_000);
    assert!(take(&holder, 30, later).is_ok(), "as it was told");
}

#[test]
fn budgets_end_with_their_day_and_month() {
    let holder = holder(&[(Measure::Day, 1000), (Measure::Month, 5_000_000_000_000)]);
    let spend = |input, clock: Clock| {
        let mut lease = take(&holder, input, clock).map_err(|denied| denied.refusal)?;
        lease.charge(Used { input, output: 0, pico_eur: input * 1_000_000_000 }, clock.now);
        Ok::<_, Refusal>(())
    };
    spend(900, at(0)).expect("within both");
    let answer = spend(101, at(0)).expect_err("100 are left today").answer();
    assert_eq!((answer.status, answer.code, answer.kind), (429, "insufficient_quota", "insufficient_quota"));
    assert!(answer.must_not_retry);
    assert_eq!(answer.retry_after, Some(DAY / 2));
    let day = "1000 tokens per day. It is full again on 2026-11-28";
    assert!(answer.message.contains(day), "{}", answer.message);
    spend(100, at(0)).expect("exactly what is left");
    let tomorrow = Clock { unix: NOON + DAY, ..at(0) };
    spend(1000, tomorrow).expect("a new day");
    // Two euros of five are spent; the next request reserves more than three.
    let dear = Demand { price: Price { input: 3_000_000_000_001, output: 0 }, ..demand(1, 0) };
    let denied = reserve(tenant(&holder), dear, Clock { unix: NOON + DAY, ..at(1) });
    let denied = denied.expect_err("the day is used up, and the month lacks more").refusal.answer();
    assert!(denied.message.contains("5 EUR per month. It is full again on 2026-12-01"), "{}", denied.message);
    assert!(reserve(tenant(&holder), dear, Clock { unix: NOON + 4 * DAY, ..at(2) }).is_ok(), "December");
}

#[test]
fn a_request_without_a_cap_takes_what_a_budget_has_left() {
    let holder = holder(&[(Measure::Day, 1000)]);
    let open = |input| Demand { is_open: true, ..demand(input, 1024) };
    let lease = reserve(tenant(&holder), open(100), at(0)).expect("the rest of the day");
    assert_eq!(lease.output(), 900);
    assert!(take(&holder, 1, at(0)).is_err(), "all of it is reserved");
    drop(lease);
    assert!(reserve(tenant(&holder), open(1000), at(0)).is_err(), "no room for a token of output");
    assert!(
        reserve(tenant(&holder), demand(100, 1024), at(0)).is_err(),
        "a cap that the client named stands"
    );
}

#[test]
fn a_stream_beyond_its_reservation_goes_on_as_far_as_the_budget_does() {
    let holder = holder(&[(Measure::Day, 1000)]);
    let mut lease = reserve(tenant(&holder), demand(100, 200), at(0)).expect("fits");
    let other = take(&holder, 100, at(0)).expect("fits beside it");
    assert_eq!(allow(&mut lease, used(100, 200)), Some(456));
    assert_eq!(allow(&mut lease, used(100, 456)), Some(712));
    assert_eq!(allow(&mut lease, used(100, 712)), Some(800), "what the other left");
    assert_eq!(allow(&mut lease, used(100, 800)), None);
    drop(other);
    assert_eq!(allow(&mut lease, used(100, 800)), Some(900), "the other gave back");
    assert_eq!(allow(&mut lease, used(100, 900)), None);
    lease.charge(used(100, 850), Duration::ZERO);
    drop(lease);
    assert!(take(&holder, 51, at(0)).is_err());
    assert!(take(&holder, 50, at(0)).is_ok(), "charged to the token");
}

#[test]
fn a_stream_is_bounded_by_money_too() {
    let holder = holder(&[(Measure::Month, 1000)]);
    let mut lease = reserve(tenant(&holder), demand(100, 200), at(0)).expect("500 of 1000");
    assert!(lease.has_budget());
    // Output turned out cheaper than the dearest kind: the same money lasts longer.
    let so_far = |output| Used { input: 100, output, pico_eur: 100 + output };
    assert_eq!(allow(&mut lease, so_far(200)), Some(200 + 256));
    assert_eq!(allow(&mut lease, so_far(800)), Some(850));
    assert_eq!(allow(&mut lease, so_far(900)), None);
    let free = self::holder(&[(Measure::Tokens, 10)]);
    let mut lease = take(&free, 10, at(0)).expect("fits");
    assert!(!lease.has_budget());
    assert_eq!(allow(&mut lease, used(10, 10_000)), Some(u64::MAX), "rates owe, they do not stop a stream");
}

#[test]
fn what_was_recorded_earlier_counts() {
    let holder = with_rule(&[(Measure::Day, 100), (Measure::Month, 1000)], Some(&[(Measure::Day, 80)]));
    restore(&Holder { rule: None, ..holder.clone() }, 50, 100, at(0));
    restore(&holder, 40, 40, at(0));
    let elsewhere = Holder { rule: None, ..holder.clone() };
    assert!(take(&elsewhere, 11, at(0)).is_err());
    assert!(take(&holder, 10, at(0)).is_ok());
    let next_day = Clock { unix: NOON + DAY, ..at(0) };
    assert!(take(&holder, 80, next_day).is_ok(), "yesterday's");
    assert!(take(&holder, 81, next_day).is_err());
}

#[test]
fn a_key_that_is_as_good_as_new_is_forgotten() {
    let usages = Usages::default();
    let plan =
        Arc::new(Plan { limits: limits(&[(Measure::Tokens, 100), (Measure::Day, 1000)]), rules: vec![] });
    let key = |index: usize| -> Arc<str> { format!("key{index}").into() };
    let use_it = |index: usize, clock: Clock| {
        let holder = Holder { usage: usages.of(&key(index)), plan: Arc::clone(&plan), rule: None };
        let mut lease = reserve([None, Some(holder)], demand(50, 0), clock).expect("fits");
        lease.charge(used(50, 0), clock.now);
        lease
    };
    let sweep = |clock: Clock| (0..usages.shards()).for_each(|_| usages.sweep(clock));
    (0..1000).for_each(|index| drop(use_it(index, at(0))));
    assert_eq!(usages.len(), 1000);
    sweep(at(60_000));
    assert_eq!(usages.len(), 1000, "the day's budget is remembered");
    let held = use_it(7, Clock { unix: NOON + DAY, ..at(0) });
    sweep(Clock { unix: NOON + DAY, ..at(60_000) });
    assert_eq!(usages.len(), 1, "all but the one in work");
    drop(held);
    sweep(Clock { unix: NOON + 2 * DAY, ..at(120_000) });
    assert!(usages.is_empty());
}

#[test]
fn threads_never_overspend() {
    let organisation = holder(&[(Measure::Requests, 100), (Measure::Day, 100_000)]);
    let keys = [holder(&[(Measure::Requests, 60)]), holder(&[(Measure::Requests, 60)])];
    let passed: usize = std::thread::scope(|scope| {
        let organisation = &organisation;
        let worker = move |key: &Holder| {
            let holders = || [Some(organisation.clone()), Some(key.clone())];
            (0..250).filter(|_| reserve(holders(), demand(1, 1), at(0)).is_ok()).count()
        };
        let four = keys.iter().chain(&keys);
        let workers: Vec<_> = four.map(|key| scope.spawn(move || worker(key))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    assert_eq!(passed, 100);
}

proptest! {
    #[test]
    fn no_interleaving_overspends_a_window(
        limit in 1u64..5_000,
        steps in proptest::collection::vec((0u64..2_000, 0u64..3_000, 0u64..3_000), 1..60),
    ) {
        let holder = holder(&[(Measure::Tokens, limit)]);
        let (mut now, mut charged) = (0, 0u64);
        for (wait, asked, spent) in steps {
            now += wait;
            if let Ok(mut lease) = take(&holder, asked, at(now)) {
                let spent = spent.min(asked.min(limit));
                lease.charge(used(spent, 0), Duration::from_millis(now));
                charged += spent;
            }
            // One full window at once, then the rate: rounding is below one token a step.
            prop_assert!(charged <= limit + limit * now / 60_000 + 60, "{} in {} ms", charged, now);
        }
    }

    /// Whatever requests do and in whatever order they end, a budget is charged what they used, and never exceeded.
    #[test]
    fn budgets_add_up(
        limit in 1u64..5_000,
        steps in proptest::collection::vec((0u64..1_000, 0u64..1_000, any::<bool>(), 0usize..8), 1..60),
    ) {
        let holder = holder(&[(Measure::Day, limit)]);
        let mut held: Vec<(Lease, u64)> = Vec::new();
        let mut charged = 0;
        for (input, output, is_open, end) in steps {
            let asked = Demand { is_open, ..demand(input, output) };
            if let Ok(lease) = reserve(tenant(&holder), asked, at(0)) {
                held.push((lease, input));
            }
            if end < held.len() {
                let (mut lease, input) = held.swap_remove(end);
                let spent = used(input, lease.output() / 2);
                lease.charge(spent, Duration::ZERO);
                charged += spent.input + spent.output;
            }
            let reserved: u64 = held.iter().map(|(lease, input)| input + lease.output()).sum();
            prop_assert!(charged + reserved <= limit, "{} + {} of {}", charged, reserved, limit);
        }
        held.clear();
        let left = standing(&tenant(&holder), at(0))[1].map(|left| left.remaining);
        prop_assert_eq!(left, Some(limit - charged));
    }
}
