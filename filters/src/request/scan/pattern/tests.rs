use proptest::prelude::*;

use super::super::pack::Pack;
use super::super::{Role, View};
use super::*;

mod nearby;

fn lower(text: &str) -> Cow<'_, str> {
    Cow::Owned(text.to_lowercase())
}

fn packs(concepts: &str, rules: &str) -> Packs {
    let pack = Pack::parse("test.yaml", &format!("pack: test\nconcepts:\n{concepts}\nrules:\n{rules}"));
    let pack = pack.unwrap_or_else(|faults| panic!("the pack is sound: {faults:?}"));
    Packs::link(vec![pack]).unwrap_or_else(|faults| panic!("the pack links: {faults:?}"))
}

/// A rule that fires on its condition; its examples are not run here.
fn rule(id: &str, condition: &str) -> String {
    format!(
        "  - {{id: {id}, category: persona, severity: low, {condition}, reason: test, match: [x], pass: [x]}}\n"
    )
}

fn engines() -> Vec<Engine> {
    let mut engines = vec![Engine::default(), Engine::Reference];
    engines.dedup();
    engines
}

/// What fires in a text, as `rule` and the words it spans, the same for every engine, whole and in pieces.
fn fires(packs: &Packs, text: &str) -> Vec<(String, String)> {
    let subject = Subject::new(View::Normalised, Role::User);
    let mut answers = Vec::new();
    for engine in engines() {
        let patterns = Patterns::compile(packs, engine, lower).expect("the packs compile");
        let mut hits = Vec::new();
        patterns.scan(text, subject, &mut patterns.scratch(), &mut hits);
        let pieces = Plan::new(packs, lower).and_then(|plan| plan.build(engine, Mode::Stream, None));
        let pieces = pieces.expect("the packs compile");
        for size in [1, 2, 3, 7, 64, text.len().max(1)] {
            assert_eq!(in_pieces(&pieces, text, size), hits, "{engine:?} on {text:?} in pieces of {size}");
        }
        let words = |hit: &Hit| {
            let words = String::from_utf8_lossy(&text.as_bytes()[hit.start as usize..hit.end as usize]);
            (patterns.rule(hit.rule).id.to_string(), words.into_owned())
        };
        answers.push(hits.iter().map(words).collect::<Vec<_>>());
    }
    assert_eq!(answers.first(), answers.last(), "engines agree on {text:?}");
    answers.remove(0)
}

fn in_pieces(patterns: &Patterns, text: &str, size: usize) -> Vec<Hit> {
    let mut scratch = patterns.scratch();
    let mut stream = patterns.open(Subject::new(View::Normalised, Role::User));
    let mut hits = Vec::new();
    let mut pieces = text.as_bytes().chunks(size).peekable();
    if pieces.peek().is_none() {
        patterns.scan_piece(b"", true, &mut stream, &mut scratch, &mut hits);
    }
    while let Some(piece) = pieces.next() {
        patterns.scan_piece(piece, pieces.peek().is_none(), &mut stream, &mut scratch, &mut hits);
    }
    hits.sort_unstable();
    hits
}

#[test]
fn an_atom_is_found_as_it_is_written() {
    let found = |atom: &str, text: &str| {
        let packs = packs(&format!("  c: {{en: [{atom:?}]}}"), &rule("r", "all: [c]"));
        fires(&packs, text).first().map(|(_, words)| words.clone())
    };
    let cases: &[(&str, &str, Option<&str>)] = &[
        // Words are bounded by letters and digits of ASCII, not by the underscore.
        ("ignore", "please IGNORE it", Some("IGNORE")),
        ("ignore", "ignored", None),
        ("ignore", "xignore", None),
        ("ignore", "(ignore_it)", Some("ignore")),
        ("ignore", "请ignore所有", Some("ignore")),
        ("ignor*", "they ignored it", Some("ignor")),
        ("*hack", "lifehack", Some("hack")),
        ("*hack", "lifehacks", None),
        ("*hack*", "lifehacks", Some("hack")),
        ("do*", "undo", None),
        ("do*", "we doubt", Some("do")),
        ("gpt-4", "GPT-4!", Some("GPT-4")),
        ("gpt-4", "GPT-40", None),
        // Other scripts are not bounded.
        ("забудь", "незабудьте", Some("забудь")),
        ("忽略", "请忽略它", Some("忽略")),
        ("kıl", "bir kılavuz", None),
        ("kıl*", "bir kılavuz", Some("kıl")),
        // One to three separators of any kind.
        ("pay no heed", "Pay  no -- heed", None),
        ("pay no heed", "Pay  no--  heed", None),
        ("pay no heed", "Pay  no-\theed.", Some("Pay  no-\theed")),
        ("pay no heed", "pay_no_heed", Some("pay_no_heed")),
        ("pay no heed", "pay。no、heed", Some("pay。no、heed")),
        ("pay no heed", "payno heed", None),
        ("pay no heed*", "pay no heeding", Some("pay no heed")),
        ("pay no heed", "pay no heeding", None),
        ("*pay no heed", "repay no heed", Some("pay no heed")),
        ("pay no heed", "repay no heed", None),
        ("не обращай внимания", "и не  обращай внимания!", Some("не  обращай внимания")),
        // A common word has many phrases; a short word beside it is told from a longer one.
        ("be it", "so be it.", Some("be it")),
        ("be it", "so be its end", None),
        ("be it*", "so be its end", Some("be it")),
        // An apostrophe is any of the marks people type.
        ("don't", "I DON’T know", Some("DON’T")),
        ("don't", "I don`t know", Some("don`t")),
        ("don't", "I dont know", None),
        ("l'instruction", "suis l´instruction", Some("l´instruction")),
    ];
    for (atom, text, expected) in cases {
        assert_eq!(found(atom, text).as_deref(), *expected, "{atom:?} in {text:?}");
    }
}

#[test]
fn atoms_that_make_no_sense_are_faults_with_their_line() {
    let faults = |atom: &str| {
        let packs = packs(&format!("  c: {{en: [{atom:?}]}}"), &rule("r", "all: [c]"));
        let faults = Plan::new(&packs, lower).map(|_| ()).expect_err("the atom is refused");
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let at = "test.yaml:3: concepts.c.en[0]: ";
    assert_eq!(faults("*"), [format!("{at}nothing is left of the atom \"*\" once it is normalised")]);
    assert_eq!(faults("a*b"), [format!("{at}expected `*` at an end of the atom \"a*b\" only")]);
    assert_eq!(faults("a"), [format!("{at}the atom \"a\" is too short: it would be found everywhere")]);
    assert_eq!(faults(&"ab ".repeat(70)), [format!("{at}expected an atom of at most 200 bytes, found 209")]);
}

const COLOURS: &str = "  r: {en: [red], de: [rot]}\n  g: {en: [green], de: [gruen], any: [verde]}\n  \
                       b: {en: [blue], de: [blau]}\n  n: {en: [not], de: [nicht]}";

#[test]
fn a_rule_fires_on_a_chain() {
    let check = |condition: &str, text: &str, expected: Option<&str>| {
        let found = fires(&packs(COLOURS, &rule("r", condition)), text);
        assert_eq!(found.first().map(|(_, words)| &**words), expected, "{condition} on {text:?}");
    };
    let any = "all: [r, g, b], gap: 10";
    check(any, "blue, green, red", Some("blue, green, red"));
    check(any, "red green", None);
    // Ten characters from end to end, not eleven.
    check(any, "red ... green ..... blue", None);
    check(any, "red.....green......blue", Some("red.....green......blue"));
    check(any, "red......green......blue", None);
    check(any, "red.....green.......blue", None);
    // Bound at each step, not in all; the atoms in between may be others of the rule.
    check(any, "red green green red green blue", Some("red green blue"));
    // One language at a time, with what goes with all.
    check(any, "rot green blau", None);
    check(any, "rot verde blau", Some("rot verde blau"));
    let given = "all: [r, g, b], gap: 10, order: given";
    check(given, "red green blue", Some("red green blue"));
    check(given, "blue green red", None);
    check(given, "blue green red green blue", Some("red green blue"));
    let by_language = "all: [r, g, b], gap: 10, order: given, order_by_language: {de: any}";
    check(by_language, "blue green red", None);
    check(by_language, "blau gruen rot", Some("blau gruen rot"));
    // A concept twice needs two atoms.
    check("all: [r, r, r]", "red red", None);
    check("all: [r, r, r]", "red red red", Some("red red red"));
    check("all: [r, r], order: given", "red, red", Some("red, red"));
    // What forbids: inside, or before by no more than the gap.
    let unless = "all: [r, g], unless: [n], gap: 10";
    check(unless, "not red green", None);
    check(unless, "red not green", None);
    check(unless, "red green not", Some("red green"));
    check(unless, "not ....... red green", Some("red green"));
    check(unless, "not ......red green", None);
    check(unless, "nicht red green", Some("red green"));
    check(unless, "red not green red", None);
    check(unless, "red not ......... green red", Some("green red"));
    check("all: [r], unless: [n], gap: 10", "not red. Then more, and red", Some("red"));
    // What begins inside one that takes it away is no atom; what stands beside it is.
    let except = "all: [r, g], except: [n], gap: 10";
    let concepts = COLOURS.replace("en: [not]", "en: [\"so red\", reddish, \"as green\"]");
    let check_except = |text: &str, expected: Option<&str>| {
        let found =
            fires(&packs(&concepts.replace("[red]", "[\"red*\", \"red or\"]"), &rule("r", except)), text);
        assert_eq!(found.first().map(|(_, words)| &**words), expected, "{text:?}");
    };
    check_except("red green", Some("red green"));
    check_except("so red green", None);
    check_except("reddish green", None);
    check_except("so red or green", None);
    check_except("so red, red, green", Some("red, green"));
    check_except("as green red green", Some("red green"));
    check_except("red as green", None);
    // Only what is of the language that is looked at.
    check_except("nicht red green", Some("red green"));
    // Characters, not bytes: three bytes a character in Chinese.
    let chinese = packs("  a: {zh: [红色]}\n  b: {zh: [绿色]}", &rule("z", "all: [a, b], gap: 10"));
    assert_eq!(fires(&chinese, "红色一二三四五六七八绿色").len(), 1);
    assert_eq!(fires(&chinese, "红色一二三四五六七八九绿色").len(), 0);
}

/// A text with more atoms than are kept is judged in parts, the ends of which fall anywhere.
#[test]
fn what_takes_an_atom_away_does_so_at_the_end_of_a_part() {
    let packs = packs(
        "  r: {en: [red]}\n  g: {en: [green]}\n  n: {en: [\"red or green or anything else\"]}\n",
        &rule("r", "all: [r, g], except: [n], gap: 10"),
    );
    let patterns = Patterns::compile(&packs, Engine::default(), lower).expect("the packs compile");
    let subject = Subject::new(View::Normalised, Role::User);
    let (mut scratch, mut hits) = (patterns.scratch(), Vec::new());
    for apart in 1..48 {
        let text = format!("red or green or anything else{}", ".".repeat(apart)).repeat(12_000);
        patterns.scan(&text, subject, &mut scratch, &mut hits);
        assert_eq!(hits, [], "{apart} bytes apart");
        patterns.scan(&format!("{text}red green"), subject, &mut scratch, &mut hits);
        assert_eq!(hits.drain(..).count(), 1, "{apart} bytes apart");
    }
}

#[test]
fn a_rule_reads_its_views_and_roles_only() {
    let condition = "all: [r], views: [raw, folded], roles: [tool]";
    let patterns = Patterns::compile(&packs(COLOURS, &rule("r", condition)), Engine::default(), lower);
    let patterns = patterns.expect("the packs compile");
    let mut scratch = patterns.scratch();
    for (view, role, expected) in [
        (View::Raw, Role::Tool, 1),
        (View::Folded, Role::Tool, 1),
        (View::Normalised, Role::Tool, 0),
        (View::Raw, Role::User, 0),
    ] {
        let mut hits = Vec::new();
        patterns.scan("red", Subject::new(view, role), &mut scratch, &mut hits);
        assert_eq!(hits.len(), expected, "{view:?} {role:?}");
    }
}

#[test]
fn a_pattern_fires_where_it_first_ends() {
    let check = |pattern: &str, text: &str, expected: &[&str]| {
        let packs = packs(COLOURS, &rule("p", &format!("pattern: {pattern:?}")));
        let words: Vec<String> = fires(&packs, text).into_iter().map(|(_, words)| words).collect();
        assert_eq!(words, expected, "{pattern} on {text:?}");
    };
    check("a+b", "xaaabab", &["aaab"]);
    check(r"<\|im_start\|>\s*(system|user)", "x <|IM_START|>\n system", &["<|IM_START|>\n system"]);
    check(r"\bnow\b", "known now", &["now"]);
    check(r"\bnow\b", "known", &[]);
    check(r"end\z", "end", &["end"]);
    check(r"end\z", "end.", &[]);
    check(r"\Aend", "the end", &[]);
    check(r"(?m)^system:$", "a\nsystem:\nb", &["system:"]);
    check(r"(?m)^system:$", "a\nsystem: b", &[]);
    check(r"指令.{0,6}泄露", "指令要泄露", &["指令要泄露"]);
    check(r"(?u:[あ-ん]{3})", "カわかる", &["わかる"]);
    check(r"x[^\n]{0,3}y", "x\ny x..y", &["x..y"]);
}

#[test]
fn patterns_that_engines_cannot_share_are_faults_that_name_the_rule() {
    let fault = |pattern: &str| {
        let packs = packs(COLOURS, &rule("p", &format!("pattern: {pattern:?}")));
        let faults = Plan::new(&packs, lower).map(|_| ()).expect_err("the pattern is refused");
        faults[0].to_string()
    };
    for (pattern, reason) in [
        ("a*", "at least one character"),
        ("(?=a)b", "not a pattern that is supported"),
        (r"(a)\1", "not a pattern that is supported"),
        (r"(?u:\bword)", "expected none of"),
    ] {
        let fault = fault(pattern);
        assert!(fault.starts_with("test.yaml:8: rules[0]: the rule `p`: "), "{fault}");
        assert!(fault.contains(reason), "{pattern}: {fault}");
    }
}

#[test]
fn examples_are_run_and_named() {
    let rules = "  - {id: r, category: persona, severity: low, all: [r], reason: test, match: [red, blue], pass: [blue, a red]}";
    let patterns = Patterns::compile(&packs(COLOURS, rules), Engine::default(), lower).expect("it compiles");
    let faults: Vec<String> = patterns.check_examples(lower).iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "test.yaml:8: rules[0].match[1]: the rule `r` misses its example: \"blue\"",
            "test.yaml:8: rules[0].pass[1]: the rule `r` fires in an example that must pass: \"a red\"",
        ]
    );
}

#[test]
fn a_scratch_of_other_patterns_is_made_anew() {
    let one = Patterns::compile(&packs(COLOURS, &rule("one", "all: [r]")), Engine::default(), lower);
    let other = packs(COLOURS, &(rule("x", "pattern: abc") + &rule("other", "all: [g]")));
    let other = Patterns::compile(&other, Engine::default(), lower).expect("it compiles");
    let mut scratch = one.expect("it compiles").scratch();
    let mut hits = Vec::new();
    other.scan("red green abc", Subject::new(View::Raw, Role::User), &mut scratch, &mut hits);
    assert_eq!(hits.iter().map(|hit| hit.rule).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn long_texts_are_judged_piece_by_piece_and_lose_nothing() {
    let packs = packs(COLOURS, &rule("r", "all: [r, g, b], gap: 10"));
    // More atoms than are kept at once, and the three that fire across every border there may be.
    for filler in [1, 16_381, 16_382, 16_383, 16_384, 40_000] {
        let text = format!("{}red green blue", "red ".repeat(filler));
        let patterns = Patterns::compile(&packs, Engine::default(), lower).expect("it compiles");
        let mut hits = Vec::new();
        patterns.scan(&text, Subject::new(View::Raw, Role::User), &mut patterns.scratch(), &mut hits);
        assert_eq!(hits.len(), 1, "after {filler} atoms");
    }
}

#[cfg(feature = "hyperscan")]
#[test]
fn a_saved_database_is_used_if_it_fits() {
    let packs =
        packs("  a: {zh: [红色], en: [\"*red\"]}", &(rule("p", "pattern: ab+c") + &rule("a", "all: [a]")));
    let plan = || Plan::new(&packs, lower).expect("the packs are sound");
    let built = plan().build(Engine::Hyperscan, Mode::Block, None).expect("it compiles");
    let saved = built.save().expect("there is something to save");
    let fires = |patterns: &Patterns| {
        let mut hits = Vec::new();
        let subject = Subject::new(View::Normalised, Role::User);
        patterns.scan("abbc 红色", subject, &mut patterns.scratch(), &mut hits);
        hits
    };
    let expected = fires(&built);
    assert_eq!(expected.len(), 2);
    // Whole, damaged in any part, cut, or of another mode: the same rules.
    let mut damaged = saved.clone();
    for at in (0..saved.len()).step_by(saved.len() / 50) {
        damaged[at] ^= 1;
        let patterns = plan().build(Engine::Hyperscan, Mode::Block, Some(&damaged)).expect("it compiles");
        assert_eq!(fires(&patterns), expected, "damaged at {at}");
        damaged[at] ^= 1;
    }
    for bytes in [&saved[..], &saved[..saved.len() / 2], b""] {
        let patterns = plan().build(Engine::Hyperscan, Mode::Block, Some(bytes)).expect("it compiles");
        assert_eq!(fires(&patterns), expected, "{} bytes", bytes.len());
    }
    let names = [Mode::Block, Mode::Stream].map(|mode| plan().cache_name(Engine::Hyperscan, mode));
    assert_ne!(names[0], names[1]);
    assert_eq!(plan().cache_name(Engine::Reference, Mode::Block), None);
}

/// Words that begin alike, overlap, join and take several bytes, so that random ones meet.
const ATOMS: [&str; 16] = [
    "ab",
    "ab*",
    "*ab",
    "abc",
    "ab cd",
    "cd ab",
    "cd",
    "a b cd*",
    "it's",
    "abcdefghij",
    "éé",
    "жук",
    "红",
    "红色",
    "色 ab",
    "*bc*",
];
const PATTERNS: [&str; 9] = [
    "ab{1,3}c",
    r"\bcd\b",
    "a.c",
    r"(ab|cd)\s+it",
    "红+色",
    r"\Aab",
    r"cd\z",
    "[^a-z]{2}ab",
    "(ab|红)+ ?(色|cd)",
];
const PIECES: [&str; 20] = [
    "ab",
    "AB",
    "abc",
    "cd",
    " ",
    "  ",
    ", ",
    "-",
    "it's",
    "it’s",
    "abcdefghij",
    "é",
    "жук",
    "红",
    "色",
    "红色",
    "_",
    "\n",
    "a",
    "c",
];

fn random_packs() -> impl Strategy<Value = Packs> {
    let concept =
        prop::collection::vec((prop::sample::select(&["en", "zh", "any"][..]), 0..ATOMS.len()), 1..5);
    let order = prop::sample::select(&["any", "given"][..]);
    let rule_parts =
        (prop::collection::vec(0..4_usize, 1..4), order, 1..12_u32, prop::option::of(0..4_usize));
    let concepts = prop::collection::vec(concept, 4);
    let rules = prop::collection::vec(rule_parts, 1..5);
    let patterns = prop::collection::vec(0..PATTERNS.len(), 0..3);
    (concepts, rules, patterns).prop_map(|(concepts, rules, patterns)| {
        let mut yaml = String::new();
        for (number, atoms) in concepts.iter().enumerate() {
            yaml += &format!("  c{number}:\n");
            for code in ["en", "zh", "any"] {
                let words: Vec<_> =
                    atoms.iter().filter(|(other, _)| *other == code).map(|(_, atom)| ATOMS[*atom]).collect();
                if !words.is_empty() {
                    yaml += &format!("    {code}: {words:?}\n");
                }
            }
            // A word that no text has, so that every concept speaks every language.
            if !atoms.iter().any(|(code, _)| *code == "any") {
                yaml += "    any: [qqqq]\n";
            }
        }
        let mut text = String::new();
        for (number, (concepts, order, gap, unless)) in rules.iter().enumerate() {
            let concepts: Vec<_> = concepts.iter().map(|concept| format!("c{concept}")).collect();
            let unless = unless.map_or(String::new(), |concept| format!(", unless: [c{concept}]"));
            let all = concepts.join(", ");
            text +=
                &rule(&format!("r{number}"), &format!("all: [{all}], order: {order}, gap: {gap}{unless}"));
        }
        for (number, pattern) in patterns.iter().enumerate() {
            text += &rule(&format!("p{number}"), &format!("pattern: {:?}", PATTERNS[*pattern]));
        }
        packs(&yaml, &text)
    })
}

fn random_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn engines_and_pieces_agree(packs in random_packs(), texts in prop::collection::vec(random_text(), 1..6)) {
        for text in texts {
            fires(&packs, &text);
        }
    }

    /// The definition in `proximity`, tried out on every choice of atoms.
    #[test]
    fn a_rule_fires_if_and_only_if_there_is_a_chain(
        words in prop::collection::vec(0..5_usize, 0..14),
        concepts in prop::collection::vec(0..3_usize, 1..5),
        given in any::<bool>(),
        forbidden in any::<bool>(),
        gap in 4..14_u32,
    ) {
        let names = ["red", "green", "blue", "not", "xxxx"];
        let text = words.iter().map(|word| names[*word]).collect::<Vec<_>>().join(" ");
        let all = concepts.iter().map(|concept| ["r", "g", "b"][*concept]).collect::<Vec<_>>().join(", ");
        let order = if given { "given" } else { "any" };
        let unless = if forbidden { ", unless: [n]" } else { "" };
        let condition = format!("all: [{all}], order: {order}, gap: {gap}{unless}");
        let mut ends = Vec::new();
        let mut at = 0;
        for word in &words {
            ends.push((at + names[*word].len() as u32, *word));
            at += names[*word].len() as u32 + 1;
        }
        let expected = chain(&ends, &concepts, &[], given, forbidden, gap);
        let fired = !fires(&packs(COLOURS, &rule("r", &condition)), &text).is_empty();
        prop_assert_eq!(fired, expected, "{} on {}", condition, text);
    }
}

/// Whether what has been chosen can be made a chain of all concepts.
fn chain(
    words: &[(u32, usize)],
    left: &[usize],
    chosen: &[u32],
    given: bool,
    forbidden: bool,
    gap: u32,
) -> bool {
    if left.is_empty() {
        let (first, last) = (chosen[0], chosen[chosen.len() - 1]);
        let forbids = |(end, word): &(u32, usize)| *word == 3 && *end <= last && *end + gap >= first;
        return !forbidden || !words.iter().any(forbids);
    }
    let fits = |end: u32| chosen.last().is_none_or(|last| end > *last && end - last <= gap);
    words.iter().filter(|(end, _)| fits(*end)).any(|(end, word)| {
        let index =
            if given { (left[0] == *word).then_some(0) } else { left.iter().position(|one| one == word) };
        index.is_some_and(|index| {
            let mut left = left.to_vec();
            left.remove(index);
            chain(words, &left, &[chosen, &[*end]].concat(), given, forbidden, gap)
        })
    })
}
