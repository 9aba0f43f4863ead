//! The whole scanner over any text: nothing panics, what is found lies within the text on character boundaries, both
//! engines find the same, and a text that was seen before is judged as it was the first time.
#![no_main]

mod packs;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tollgate_filters::request::scan::learned::Model;
use tollgate_filters::request::scan::pattern::{Engine, Mode, Plan};
use tollgate_filters::request::scan::scanner::{Scanner, Scratch};
use tollgate_filters::request::scan::view::normalise;
use tollgate_filters::request::scan::{Finding, Role};

/// Longer texts are searched by one engine alone: the other takes a thousand times longer.
const COMPARED: usize = 512;

struct Bench {
    fast: Scanner,
    slow: Scanner,
    scratch: Scratch,
    slow_scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let model = std::fs::read(packs::conf().join("scanner.model")).expect("the model is there");
        let model = || Some(Model::from_bytes(&model).expect("the model is sound"));
        let packs = packs::linked().for_prompts();
        let patterns = |engine| {
            let plan = Plan::new(&packs, normalise).expect("the packs are sound");
            plan.build(engine, Mode::Block, None).expect("the packs compile")
        };
        let fast = Scanner::new(patterns(Engine::Hyperscan), model());
        let slow = Scanner::new(patterns(Engine::Reference), model());
        let mut scratch = fast.scratch();
        scratch.remember(64);
        let slow_scratch = slow.scratch();
        Self { fast, slow, scratch, slow_scratch }
    }
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

fuzz_target!(init: BENCH.with_borrow(|_| ()), |data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    BENCH.with_borrow_mut(|bench| {
        let Bench { fast, slow, scratch, slow_scratch } = bench;
        let first = fast.scan_for(1, &text, Role::User, scratch);
        let (findings, learned) = (first.findings.to_vec(), first.learned);
        for finding in &findings {
            assert!(text.get(finding.span.clone()).is_some(), "{finding:?} in {text:?}");
        }
        assert!((0.0..=1.0).contains(&learned));
        let again = fast.scan_for(1, &text, Role::User, scratch);
        assert_eq!((again.findings, again.learned), (&findings[..], learned), "{text:?}");
        if text.len() <= COMPARED {
            let other = slow.scan(&text, Role::User, slow_scratch);
            let key = |finding: &Finding| {
                (finding.rule.to_string(), finding.view as u8, finding.severity as u8, finding.span.start, finding.span.end)
            };
            let sorted = |findings: &[Finding]| {
                let mut keys: Vec<_> = findings.iter().map(key).collect();
                keys.sort();
                keys
            };
            assert_eq!(sorted(&findings), sorted(other.findings), "{text:?}");
        }
    });
});
