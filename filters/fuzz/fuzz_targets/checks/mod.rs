//! What must hold of any text that is scanned. The fuzz targets `scan` and `pieces` ask it of what a fuzzer thinks of, and
//! `tests/recorded` of what fuzzing kept.

use std::path::{Path, PathBuf};

use tollgate_filters::request::scan::learned::Model;
use tollgate_filters::request::scan::pack::{Pack, Packs};
use tollgate_filters::request::scan::pattern::{Engine, Hit, Mode, PatternScratch, Patterns, Plan, Subject};
use tollgate_filters::request::scan::scanner::{Scanner, Scratch};
use tollgate_filters::request::scan::view::normalise;
use tollgate_filters::request::scan::{Finding, Role, View};

/// Longer texts are searched by one engine alone: the other takes a thousand times longer.
const COMPARED: usize = 512;

/// The whole scanner, with either engine.
pub(crate) struct Whole {
    fast: Scanner,
    slow: Scanner,
    scratch: Scratch,
    slow_scratch: Scratch,
}

impl Whole {
    /// With the packs and the model that ship.
    pub(crate) fn new() -> Self {
        let packs = packs().for_prompts();
        let model = std::fs::read(conf().join("scanner.model")).expect("the model is there");
        let scanner = |engine| {
            let model = Model::from_bytes(&model).expect("the model is sound");
            Scanner::new(patterns(&packs, engine, Mode::Block), Some(model))
        };
        let (fast, slow) = (scanner(Engine::default()), scanner(Engine::Reference));
        let mut scratch = fast.scratch();
        scratch.remember(64);
        let slow_scratch = slow.scratch();
        Self { fast, slow, scratch, slow_scratch }
    }

    /// Nothing panics, what is found lies within the text on character boundaries, both engines find the same, and a text
    /// that was seen before is judged as it was the first time.
    pub(crate) fn check(&mut self, data: &[u8]) {
        let text = String::from_utf8_lossy(data);
        let first = self.fast.scan_for(1, &text, Role::User, true, &mut self.scratch);
        let (findings, learned) = (first.findings.to_vec(), first.learned);
        for finding in &findings {
            assert!(text.get(finding.span.clone()).is_some(), "{finding:?} in {text:?}");
        }
        assert!((0.0..=1.0).contains(&learned));
        let again = self.fast.scan_for(1, &text, Role::User, true, &mut self.scratch);
        assert_eq!((again.findings, again.learned), (&findings[..], learned), "{text:?}");
        if text.len() <= COMPARED {
            let other = self.slow.scan(&text, Role::User, &mut self.slow_scratch);
            assert_eq!(sorted(&findings), sorted(other.findings), "{text:?}");
        }
    }
}

fn sorted(findings: &[Finding]) -> Vec<(String, u8, u8, usize, usize)> {
    let key = |finding: &Finding| {
        let Finding { rule, view, severity, span, .. } = finding;
        (rule.to_string(), *view as u8, *severity as u8, span.start, span.end)
    };
    let mut keys: Vec<_> = findings.iter().map(key).collect();
    keys.sort();
    keys
}

/// The search of a text for rules, whole and in pieces, as answers come.
pub(crate) struct InPieces {
    whole: Patterns,
    pieces: Patterns,
    whole_scratch: PatternScratch,
    pieces_scratch: PatternScratch,
}

impl InPieces {
    /// With all packs that ship: what answers alone are searched for is little.
    pub(crate) fn new() -> Self {
        let packs = packs();
        let [whole, pieces] =
            [Mode::Block, Mode::Stream].map(|mode| patterns(&packs, Engine::default(), mode));
        let (whole_scratch, pieces_scratch) = (whole.scratch(), pieces.scratch());
        Self { whole, pieces, whole_scratch, pieces_scratch }
    }

    /// However a text is cut, the same rules fire at the same places as in the whole. The first four bytes say how long the
    /// pieces are, in turns.
    pub(crate) fn check(&mut self, data: &[u8]) {
        let Some((sizes, data)) = data.split_at_checked(4) else { return };
        let text = String::from_utf8_lossy(data);
        let subject = Subject::new(View::Normalised, Role::User);
        let mut expected: Vec<Hit> = Vec::new();
        self.whole.scan(&text, subject, &mut self.whole_scratch, &mut expected);
        let mut found = Vec::new();
        let mut stream = self.pieces.open(subject);
        let mut rest = text.as_bytes();
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((usize::from(*size) + 1).min(rest.len()));
            self.pieces.scan_piece(
                piece,
                after.is_empty(),
                &mut stream,
                &mut self.pieces_scratch,
                &mut found,
            );
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        found.sort_unstable();
        // What is looked for around some words only is looked for everywhere in a text that is not kept.
        for hits in [&mut found, &mut expected] {
            hits.retain(|hit| !self.whole.rule(hit.rule).is_near);
        }
        assert_eq!(found, expected, "{text:?} in pieces of {sizes:?}");
    }
}

fn patterns(packs: &Packs, engine: Engine, mode: Mode) -> Patterns {
    let plan = Plan::new(packs, normalise).expect("the packs are sound");
    plan.build(engine, mode, None).expect("the packs compile")
}

/// The directory of the configuration that ships.
fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("conf"))
        .find(|conf| conf.is_dir())
        .expect("conf")
}

fn packs() -> Packs {
    Packs::link(read(&conf().join("rules"))).expect("the packs link")
}

fn read(folder: &Path) -> Vec<Pack> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(read(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).expect("a pack is text");
            found.push(Pack::parse(&path.to_string_lossy(), &text).expect("a pack is sound"));
        }
    }
    found
}
