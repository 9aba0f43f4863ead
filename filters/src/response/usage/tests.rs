use super::*;

fn usage(input: u64, cached_input: u64, output: u64, reasoning: u64) -> Usage {
    Usage { input: Some(input), cached_input, output: Some(output), reasoning }
}

#[test]
fn reads_what_each_engine_reports() {
    for (engine, json, expected) in [
        (
            "openai",
            r#"{"prompt_tokens":26,"completion_tokens":104,"total_tokens":130,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":4}}"#,
            Some(usage(26, 3, 104, 4)),
        ),
        (
            "null details",
            r#"{"prompt_tokens":40,"completion_tokens":2,"total_tokens":42,"prompt_tokens_details":null,"completion_tokens_details":null}"#,
            Some(usage(40, 0, 2, 0)),
        ),
        (
            "null numbers",
            r#"{"prompt_tokens":4,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":null},"reasoning_tokens":null}"#,
            Some(usage(4, 0, 2, 0)),
        ),
        (
            "deepseek",
            r#"{"prompt_tokens":18,"completion_tokens":9,"total_tokens":27,"prompt_cache_hit_tokens":16,"prompt_cache_miss_tokens":2}"#,
            Some(usage(18, 16, 9, 0)),
        ),
        (
            "sglang",
            r#"{"prompt_tokens":9,"total_tokens":31,"completion_tokens":22,"reasoning_tokens":18,"completion_tokens_details":null}"#,
            Some(usage(9, 0, 22, 18)),
        ),
        (
            "xai",
            r#"{"prompt_tokens":12,"completion_tokens":2,"total_tokens":354,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens_details":{"reasoning_tokens":340}}"#,
            Some(usage(12, 11, 342, 340)),
        ),
        (
            "responses",
            r#"{"input_tokens":13,"input_tokens_details":{"cached_tokens":4},"output_tokens":284,"output_tokens_details":{"reasoning_tokens":256},"total_tokens":297}"#,
            Some(usage(13, 4, 284, 256)),
        ),
        (
            "messages",
            r#"{"cache_read_input_tokens":24,"cache_creation_input_tokens":5,"input_tokens":9,"output_tokens":7}"#,
            Some(usage(38, 24, 7, 0)),
        ),
        ("message_delta", r#"{"output_tokens":12}"#, Some(Usage { output: Some(12), ..Usage::default() })),
        ("embeddings", r#"{"prompt_tokens":6,"total_tokens":6}"#, Some(usage(6, 0, 0, 0))),
        ("rerank", r#"{"total_tokens":20}"#, Some(usage(20, 0, 0, 0))),
        (
            "floats",
            r#"{"prompt_tokens":6.0,"completion_tokens":1.5,"total_tokens":9}"#,
            Some(usage(6, 0, 3, 0)),
        ),
        ("audio", r#"{"type":"duration","seconds":3}"#, None),
        ("nothing", "{}", None),
        ("null", "null", None),
        ("not an object", "[1]", None),
    ] {
        let mut reader = Reader::new(json.as_bytes(), 8);
        assert_eq!(read(&mut reader), Ok(expected), "{engine}");
        assert_eq!(reader.end(), Ok(()), "{engine}");
    }
}

#[test]
fn the_report_that_stands() {
    use Scope::{Choice, SomeChoice, Whole};
    let part = |output| Usage { output: Some(output), ..Usage::default() };
    let unknown = |input| Usage { input: Some(input), ..Usage::default() };
    type Case<'a> = (&'a str, Api, u64, u64, bool, &'a [(Usage, Scope)], Option<Usage>);
    let cases: [Case<'_>; 13] = [
        ("none", Api::Chat, 1, 0, false, &[], None),
        (
            "last of running reports",
            Api::Chat,
            1,
            0,
            false,
            &[(usage(9, 0, 1, 0), Choice(0)), (usage(9, 0, 2, 0), Choice(0))],
            Some(usage(9, 0, 2, 0)),
        ),
        (
            "final over running",
            Api::Chat,
            2,
            0,
            false,
            &[(usage(9, 0, 5, 0), Choice(0)), (usage(9, 0, 4, 0), Choice(1)), (usage(9, 0, 9, 0), Whole)],
            Some(usage(9, 0, 9, 0)),
        ),
        (
            "running reports of two choices",
            Api::Chat,
            2,
            0,
            false,
            &[(usage(9, 0, 5, 0), Choice(0)), (usage(9, 0, 4, 0), Choice(1))],
            Some(usage(9, 0, 9, 0)),
        ),
        (
            "one choice, unnamed",
            Api::Chat,
            1,
            0,
            true,
            &[(usage(34, 3, 5, 0), SomeChoice)],
            Some(usage(34, 3, 5, 0)),
        ),
        (
            "two choices of one chat",
            Api::Chat,
            2,
            0,
            true,
            &[(usage(34, 0, 5, 0), SomeChoice), (usage(34, 33, 5, 0), SomeChoice)],
            Some(usage(34, 0, 10, 0)),
        ),
        (
            "two choices, one missing",
            Api::Chat,
            2,
            0,
            true,
            &[(usage(34, 0, 5, 0), SomeChoice)],
            Some(unknown(34)),
        ),
        (
            "three prompts",
            Api::Completions,
            3,
            2,
            true,
            &[(usage(1, 0, 4, 0), Choice(2)), (usage(6, 5, 4, 0), Choice(1)), (usage(4, 3, 4, 0), Choice(0))],
            Some(usage(11, 8, 12, 0)),
        ),
        (
            "two prompts alike",
            Api::Completions,
            2,
            1,
            true,
            &[(usage(4, 0, 3, 0), Choice(0)), (usage(4, 0, 3, 0), Choice(1))],
            Some(usage(8, 0, 6, 0)),
        ),
        (
            "two choices of one prompt",
            Api::Completions,
            2,
            0,
            true,
            &[(usage(4, 3, 4, 0), Choice(1)), (usage(4, 3, 4, 0), Choice(0))],
            Some(usage(4, 3, 8, 0)),
        ),
        (
            "two choices of two prompts",
            Api::Completions,
            4,
            1,
            true,
            &[
                (usage(1, 0, 3, 0), Choice(0)),
                (usage(3, 2, 3, 0), Choice(2)),
                (usage(1, 0, 3, 0), Choice(1)),
                (usage(3, 2, 3, 0), Choice(3)),
            ],
            Some(usage(4, 2, 12, 0)),
        ),
        (
            "output after input",
            Api::Messages,
            0,
            0,
            false,
            &[(unknown(33), Whole), (part(12), Whole)],
            Some(usage(33, 0, 12, 0)),
        ),
        (
            "cache kept with input",
            Api::Messages,
            0,
            0,
            false,
            &[(Usage { cached_input: 24, ..unknown(33) }, Whole), (part(12), Whole)],
            Some(usage(33, 24, 12, 0)),
        ),
    ];
    for (name, api, choices, nulls, is_llama_cpp, reports, expected) in cases {
        let mut all = Reports::default();
        (0..nulls).for_each(|_| all.observe_null());
        for (usage, scope) in reports {
            all.observe(*usage, *scope, is_llama_cpp);
        }
        assert_eq!(all.total(api, choices), expected, "{name}");
    }
}

#[test]
fn a_report_followed_by_content_is_not_of_all_the_output() {
    let mut reports = Reports::default();
    reports.observe(usage(9, 0, 1, 0), Scope::Choice(0), false);
    reports.observe_content();
    assert_eq!(reports.total(Api::Chat, 1), Some(Usage { input: Some(9), ..Usage::default() }));
    reports.observe(usage(9, 0, 2, 0), Scope::Choice(0), false);
    assert_eq!(reports.total(Api::Chat, 1), Some(usage(9, 0, 2, 0)));
}

#[test]
fn charges_the_report_or_the_count() {
    use Source::{Estimated, Reported, Tokenizer};
    let estimate = Estimate {
        input: 100,
        system: 60,
        output: 50,
        reasoning: 20,
        input_source: Estimated,
        output_source: Tokenizer,
    };
    let none = Estimate { input: 100, ..Estimate::default() };
    let input_only = Usage { input: Some(9), cached_input: 4, ..Usage::default() };
    for (name, reported, estimate, is_complete, numbers, sources) in [
        ("reported", Some(usage(9, 4, 30, 10)), estimate, true, (9, 4, 20, 10), (Reported, Reported)),
        ("silent server", None, estimate, true, (100, 0, 50, 20), (Estimated, Tokenizer)),
        ("cut, silent", None, estimate, false, (100, 0, 50, 20), (Estimated, Tokenizer)),
        (
            "cut, running usage",
            Some(usage(9, 0, 30, 0)),
            estimate,
            false,
            (9, 0, 21, 9),
            (Reported, Reported),
        ),
        ("cut, input alone", Some(input_only), estimate, false, (9, 4, 50, 20), (Reported, Tokenizer)),
        (
            "cut, nothing reported yet",
            Some(usage(9, 0, 0, 0)),
            estimate,
            false,
            (9, 0, 50, 20),
            (Reported, Tokenizer),
        ),
        ("cut before any output", Some(usage(9, 0, 0, 0)), none, false, (9, 0, 0, 0), (Reported, Reported)),
        ("silent about output", Some(input_only), estimate, true, (9, 4, 50, 20), (Reported, Tokenizer)),
        (
            "more reasoning than output",
            Some(usage(43, 0, 10, 11)),
            estimate,
            true,
            (43, 0, 0, 10),
            (Reported, Reported),
        ),
        (
            "more cached than input",
            Some(usage(9, 12, 1, 0)),
            estimate,
            true,
            (9, 9, 1, 0),
            (Reported, Reported),
        ),
    ] {
        let charge = charge(reported, estimate, is_complete);
        assert_eq!((charge.input, charge.cached_input, charge.output, charge.reasoning), numbers, "{name}");
        assert_eq!((charge.input_source, charge.output_source), sources, "{name}");
        assert_eq!(charge.system, estimate.system.min(charge.input), "{name}");
    }
}

#[test]
fn reasoning_that_no_report_tells_apart_is_divided_as_counted() {
    use Source::{Reported, Tokenizer};
    let counted =
        |output, reasoning| Estimate { output, reasoning, output_source: Tokenizer, ..Estimate::default() };
    for (name, reported, estimate, numbers, source) in [
        ("told", usage(9, 0, 30, 10), counted(22, 12), (20, 10), Reported),
        ("none told, none seen", usage(9, 0, 30, 0), counted(33, 0), (30, 0), Reported),
        ("none told", usage(9, 0, 30, 0), counted(20, 10), (20, 10), Tokenizer),
        ("none told, and more than we counted", usage(9, 0, 40, 0), counted(20, 10), (27, 13), Tokenizer),
        ("only reasoning so far", usage(9, 0, 7, 0), counted(0, 6), (0, 7), Tokenizer),
        ("told, though none was shown", usage(9, 0, 30, 25), counted(5, 0), (5, 25), Reported),
    ] {
        let charge = charge(Some(reported), estimate, true);
        assert_eq!((charge.output, charge.reasoning), numbers, "{name}");
        assert_eq!((charge.output_source, charge.reasoning_source), (Reported, source), "{name}");
    }
}
