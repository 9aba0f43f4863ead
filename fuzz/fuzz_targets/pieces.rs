//! A text that comes in pieces, as answers do: however it is cut, the same rules fire at the same places as in the whole,
//! and both engines agree. The first bytes say how long the pieces are.
#![no_main]

mod packs;

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use tollgate_filters::request::scan::pattern::{Engine, Hit, Mode, PatternScratch, Patterns, Plan, Subject};
use tollgate_filters::request::scan::view::normalise;
use tollgate_filters::request::scan::{Role, View};

struct Bench {
    whole: Patterns,
    pieces: Patterns,
    whole_scratch: PatternScratch,
    pieces_scratch: PatternScratch,
}

impl Bench {
    fn new() -> Self {
        // All packs, with those for prompts: what answers are searched for alone is little.
        let packs = packs::linked();
        let patterns = |mode| {
            let plan = Plan::new(&packs, normalise).expect("the packs are sound");
            plan.build(Engine::Hyperscan, mode, None).expect("the packs compile")
        };
        let (whole, pieces) = (patterns(Mode::Block), patterns(Mode::Stream));
        let (whole_scratch, pieces_scratch) = (whole.scratch(), pieces.scratch());
        Self { whole, pieces, whole_scratch, pieces_scratch }
    }
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

fuzz_target!(init: BENCH.with_borrow(|_| ()), |data: &[u8]| {
    let Some((sizes, data)) = data.split_at_checked(4) else { return };
    let text = String::from_utf8_lossy(data);
    let subject = Subject::new(View::Normalised, Role::User);
    BENCH.with_borrow_mut(|bench| {
        let Bench { whole, pieces, whole_scratch, pieces_scratch } = bench;
        let mut expected: Vec<Hit> = Vec::new();
        whole.scan(&text, subject, whole_scratch, &mut expected);
        let mut found = Vec::new();
        let mut stream = pieces.open(subject);
        let (mut rest, mut turn) = (text.as_bytes(), 0);
        loop {
            let size = (usize::from(sizes[turn % sizes.len()]) + 1).min(rest.len());
            let (piece, after) = rest.split_at(size);
            pieces.scan_piece(piece, after.is_empty(), &mut stream, pieces_scratch, &mut found);
            (rest, turn) = (after, turn + 1);
            if rest.is_empty() {
                break;
            }
        }
        found.sort_unstable();
        assert_eq!(found, expected, "{text:?} in pieces of {sizes:?}");
    });
});
