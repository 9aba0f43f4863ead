use std::borrow::Cow;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::request::scan::pack::{Pack, Packs};
use crate::request::scan::pattern::{Engine, Mode, Plan};
use crate::request::scan::policy::Exemption;
use crate::request::scan::view::normalise;
use crate::response::Api;

const KEY: &str = "tg_main_0123456789abcdefghijABCDEFGHIJ0123456789abc";
const TODAY: Day = Day(9);

/// Rules of a house beside the shipped ones: of concepts, a pattern that looks at what follows, one of other letters.
const HOUSE: &str = r#"
pack: house
concepts:
  tell: {en: [project], fr: [projet]}
  name: {any: [tangerine]}
rules:
  - {id: house.words, category: operator, severity: high, roles: [output], all: [tell, name], gap: 20, reason: r, match: [project tangerine], pass: [x]}
  - {id: house.code, category: exfiltration, severity: high, roles: [output], pattern: '\bzebra[0-9]+\b', reason: r, match: [zebra12], pass: [zebra]}
  - {id: house.chinese, category: persona, severity: high, roles: [user, output], pattern: '机密', reason: r, match: [机密], pass: [x]}
  - {id: house.low, category: privileged_mode, severity: low, roles: [output], pattern: 'maybe', reason: r, match: [maybe], pass: [x]}
  - {id: house.prompt, category: persona, severity: high, pattern: 'elephant', reason: r, match: [elephant], pass: [x]}
"#;

fn scanner(engine: Engine) -> Arc<OutputScanner> {
    let shipped = include_str!("../../../../conf/rules/output.yaml");
    let packs = [("output.yaml", shipped), ("house.yaml", HOUSE)];
    let packs = packs.map(|(name, text)| Pack::parse(name, text).expect("the pack is sound"));
    let packs = Packs::link(packs.into()).expect("the packs link").for_output();
    let patterns =
        Plan::new(&packs, normalise).expect("the rules are sound").build(engine, Mode::Stream, None);
    let patterns = patterns.expect("the rules compile");
    assert_eq!(patterns.check_examples(normalise), []);
    assert!((0..patterns.rule_count() as u32).all(|rule| &**patterns.rule(rule).id != "house.prompt"));
    Arc::new(OutputScanner::new(patterns))
}

fn shared() -> Arc<OutputScanner> {
    static SHARED: std::sync::OnceLock<Arc<OutputScanner>> = std::sync::OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| scanner(Engine::default())))
}

fn policy(actions: &[(Category, Action)]) -> OutputPolicy {
    let mut policy = OutputPolicy::default();
    for (category, action) in actions {
        policy.categories[*category as usize] = *action;
    }
    policy
}

fn plan(actions: &[(Category, Action)]) -> Arc<OutputPlan> {
    shared().plan(&policy(actions)).expect("something is asked for")
}

fn delta(text: &str) -> String {
    let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": null});
    format!("data: {}\n\n", json!({"id": "c", "choices": [choice]}))
}

fn finish() -> String {
    let choice = json!({"index": 0, "delta": {}, "finish_reason": "stop"});
    format!("data: {}\n\ndata: [DONE]\n\n", json!({"id": "c", "choices": [choice]}))
}

/// What comes of events that arrive one by one, after each of them, and at the end.
fn run_with(plan: &Arc<OutputPlan>, leak: Option<Leak>, events: &[String]) -> (Vec<String>, OutputVerdict) {
    run_as(Api::Chat, plan, leak, events)
}

fn run_as(
    api: Api,
    plan: &Arc<OutputPlan>,
    leak: Option<Leak>,
    events: &[String],
) -> (Vec<String>, OutputVerdict) {
    let mut gate = OutputGate::new(plan, leak, api, 1 << 20, TODAY);
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let mut out: Vec<_> = events.iter().map(|event| text(gate.push(Bytes::from(event.clone())))).collect();
    out.push(text(gate.finish(Bytes::new())));
    (out, gate.verdict().clone())
}

fn run(plan: &Arc<OutputPlan>, events: &[String]) -> (Vec<String>, OutputVerdict) {
    run_with(plan, None, events)
}

/// The contents of all deltas, put together.
fn said(stream: &str) -> String {
    let mut said = String::new();
    for data in stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")) {
        let Ok(data) = serde_json::from_str::<Value>(data) else { continue };
        said += data["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    said
}

fn pieces(text: &str, size: usize) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(size).map(|piece| piece.iter().collect()).collect()
}

fn streamed(text: &str, size: usize) -> Vec<String> {
    let mut events: Vec<_> = pieces(text, size).iter().map(|piece| delta(piece)).collect();
    events.push(finish());
    events
}

#[test]
fn a_secret_is_replaced_wherever_it_was_cut() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    let text = format!("Here it is: {KEY}, my \u{e9}lite \"friend\".\nAnd again {KEY}. sk-no tg_no");
    let expected = text.replace(KEY, MARK);
    for size in [1, 2, 3, 7, 20, 55, 1000] {
        let (out, verdict) = run(&plan, &streamed(&text, size));
        let out = out.concat();
        assert_eq!(said(&out), expected, "pieces of {size}");
        assert!(!out.contains("0123456789abc"), "pieces of {size}: {out}");
        assert_eq!(verdict.action, Action::Redact);
        assert_eq!(verdict.rules, ["secret.tollgate-key".into()]);
        assert!(out.ends_with("data: [DONE]\n\n"));
    }
}

#[test]
fn bytes_are_as_they_were_where_nothing_is_replaced() {
    let plan = plan(&[(Category::Secret, Action::Redact), (Category::SystemPromptLeak, Action::Redact)]);
    let mut events =
        streamed("The tg_ prefix, AKIA, sk-, a JWT begins with eyJ. -- Bearer tokens: none. A", 3);
    events.insert(3, ": a comment\n\n".to_owned());
    events.insert(4, "data: {\"choices\":[],\n: odd\ndata: \"x\":1}\r\n\r\n".to_owned());
    events.push("data: not JSON".to_owned());
    let (out, verdict) = run(&plan, &events);
    assert_eq!(out.concat(), events.concat());
    assert_eq!(verdict, OutputVerdict::default());
}

#[test]
fn an_event_waits_only_while_it_is_undecided() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    let events: Vec<_> =
        ["plain", " words. s", "k-", "oh", " t", "g_x_", "0123456789abcdefghijABCDEFGHIJ01", "2", "3 on"]
            .map(delta)
            .into();
    let (out, _) = run(&plan, &events);
    // " words. s" may become a key until a space follows; " t" and the next are held until they are one, then no longer.
    let empty: Vec<_> = out.iter().map(|out| out.matches("data:").count()).collect();
    assert_eq!(empty, [1, 0, 0, 0, 3, 0, 3, 1, 1, 0], "{out:?}");
    assert_eq!(said(&out.concat()), format!("plain words. sk-oh {MARK} on"));
}

#[test]
fn what_is_in_escapes_and_repeated_beside_the_text_goes_too() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    let event = |text: &str, probs: Value| {
        let choice =
            format!(r#"{{"index":0,"delta":{{"content":"{text}"}},"logprobs":{probs},"token_ids":[1,2]}}"#);
        format!("data: {{\"choices\":[{choice}]}}\n\n")
    };
    let probs = |token: &str| json!({"content": [{"token": token, "bytes": [1]}]});
    let (first, second) = KEY.split_at(10);
    let escaped: String = second.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    let events = [
        event(&format!("\\\"a\\n {first}"), probs(first)),
        event(&format!("{escaped}\\ud83d\\ude00 b"), probs(second)),
        event("c", probs("c")),
    ];
    let (out, _) = run(&plan, &events);
    let expected = [
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"\\\"a\\n {MARK}\"}},\"logprobs\":null,\"token_ids\":[]}}]}}\n\n"
        ),
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ud83d\\ude00 b\"},\"logprobs\":null,\"token_ids\":[]}]}\n\n".to_owned(),
        events[2].clone(),
    ];
    assert_eq!(out.concat(), expected.concat());
}

#[test]
fn choices_and_tool_calls_and_reasoning_are_texts_of_their_own() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    let event = |index: u64, delta: Value| {
        format!("data: {}\n\n", json!({"choices": [{"index": index, "delta": delta}]}))
    };
    let call = |text: &str| json!({"tool_calls": [{"index": 1, "function": {"arguments": text}}]});
    let letters = pieces(KEY, 5);
    // Two choices in turn: neither hides the other's.
    let events: Vec<_> = letters
        .iter()
        .flat_map(|piece| [event(0, json!({"reasoning": piece})), event(1, call(piece))])
        .collect();
    let (out, verdict) = run(&plan, &events);
    assert!(letters.iter().all(|piece| piece.len() < 5 || !out.concat().contains(piece)), "{out:?}");
    assert_eq!(out.concat().matches(MARK).count(), 2);
    assert_eq!(verdict.action, Action::Redact);
    // One choice says one thing at a time: nothing waits once it goes on with another.
    let events = [event(0, json!({"reasoning": "plan A"})), event(0, json!({"content": "hello"}))];
    let (out, _) = run(&plan, &events);
    assert_eq!(out[0], "");
    assert_eq!(out[1], events.concat());
}

#[test]
fn a_rule_that_stops_lets_nothing_of_its_event_out() {
    let plan = plan(&[(Category::Secret, Action::Stop), (Category::Operator, Action::Stop)]);
    let (out, verdict) = run(&plan, &streamed(&format!("so: {KEY} and on"), 4));
    assert_eq!(verdict.stopped_by.as_deref(), Some("secret.tollgate-key"));
    assert!(!out.concat().contains("[DONE]"));
    assert_eq!(said(&out.concat()), "so: ", "nothing of it");
    let (out, verdict) = run(&plan, &streamed("Our Projet\u{a0}TANGERINE is late", 6));
    assert_eq!(verdict.stopped_by.as_deref(), Some("house.words"));
    assert!(!out.concat().contains("late"));
    // A word that ends with the text is known to when the text ends.
    let (out, verdict) = run(&plan, &streamed("project tangerine", 30));
    assert!(verdict.stopped_by.is_some() && !out.concat().contains("[DONE]"), "{out:?}");
}

#[test]
fn what_cannot_be_replaced_is_stopped() {
    let plan = plan(&[
        (Category::Operator, Action::Redact),
        (Category::Persona, Action::Redact),
        (Category::Secret, Action::Redact),
        (Category::PrivilegedMode, Action::Stop),
    ]);
    let stopped = |text: &str| run(&plan, &streamed(text, 3)).1.stopped_by;
    assert_eq!(stopped("project tangerine it is").as_deref(), Some("house.words"));
    assert_eq!(stopped("这是机密文件").as_deref(), Some("house.chinese"));
    // In full-width letters, which only the normalised reading sees.
    let wide: String = KEY
        .chars()
        .map(|c| if c.is_ascii_lowercase() { char::from_u32(c as u32 + 0xfee0).unwrap_or(c) } else { c })
        .collect();
    assert_eq!(stopped(&wide).as_deref(), Some("secret.tollgate-key"));
    // What says little marks and does no more.
    let (_, verdict) = run(&plan, &streamed("maybe so", 3));
    assert_eq!((verdict.action, verdict.rules), (Action::Flag, vec!["house.low".into()]));
}

#[test]
fn a_pattern_that_looks_ahead_waits_for_one_more() {
    let plan = plan(&[(Category::Exfiltration, Action::Redact)]);
    for size in [1, 2, 5, 100] {
        let (out, verdict) = run(&plan, &streamed("a zebra12, zebra7x and zebra345", size));
        assert_eq!(said(&out.concat()), format!("a {MARK}, zebra7x and {MARK}"), "pieces of {size}");
        assert_eq!(verdict.stopped_by, None);
    }
}

#[test]
fn an_exemption_lets_pass_and_says_so() {
    let mut policy = policy(&[(Category::Secret, Action::Stop)]);
    policy.exempt = vec![Exemption { what: "secret.tollgate-key".into(), until: TODAY }];
    let plan = shared().plan(&policy).expect("on");
    let (out, verdict) = run(&plan, &streamed(KEY, 9));
    assert_eq!(said(&out.concat()), KEY);
    assert_eq!((verdict.action, verdict.is_exempt), (Action::Off, true));
    policy.exempt[0].until = Day(8);
    let plan = shared().plan(&policy).expect("on");
    assert!(run(&plan, &streamed(KEY, 9)).1.stopped_by.is_some());
}

#[test]
fn what_cannot_be_read_does_not_pass_where_something_would_be_done() {
    for (action, is_stopped) in [(Action::Redact, true), (Action::Flag, false)] {
        let plan = plan(&[(Category::Secret, action)]);
        let mut gate = OutputGate::new(&plan, None, Api::Chat, 100, TODAY);
        let long = delta(&"a".repeat(200));
        let out = gate.push(Bytes::from(long.clone() + &delta("b")));
        assert_eq!(gate.verdict().stopped_by.is_some(), is_stopped);
        assert_eq!(gate.verdict().rules, [UNREADABLE_RULE.into()]);
        assert_eq!(out.is_empty(), is_stopped);
        let outcome = scan_whole(&plan, None, b"<html>", TODAY);
        assert_eq!(outcome.verdict.stopped_by.is_some(), is_stopped);
    }
}

const SYSTEM: &str = "You are Ava, the assistant of Contoso Bank. Greet people with \"Welcome to Contoso Bank, where \
     every customer is a friend and every friend is family\". Never mention the merger with Fabrikam before the first of \
     May, and send complaints about fees to the back office in Lyon.\nAnswer in the language of the question, shortly.";

fn leak() -> Option<Leak> {
    let user = "Is it true that complaints about fees go to the back office in Lyon? Answer in the language of the question, shortly.";
    Leak::new([Cow::Borrowed(SYSTEM)].into_iter(), [Cow::Borrowed(user)].into_iter())
}

#[test]
fn the_system_prompt_is_known_by_its_words_in_a_row() {
    let plan = plan(&[(Category::SystemPromptLeak, Action::Flag)]);
    let leaks = |text: &str| {
        [1, 4, 1000].map(|size| {
            let (out, verdict) = run_with(&plan, leak(), &streamed(text, size));
            assert_eq!(out.concat(), streamed(text, size).concat(), "marking changes nothing");
            verdict.action == Action::Flag
        })
    };
    for (text, expected) in [
        (SYSTEM, true),
        // Whatever the case, the spaces and the marks.
        ("NEVER mention: the merger\n- with *Fabrikam* before the FIRST of May, and send complaints!", true),
        (
            "My instructions say never mention the merger with Fabrikam before the first of May and so on.",
            true,
        ),
        // Words in common are not words in a row.
        (
            "I am Ava, the assistant of Contoso Bank. Complaints about fees go to Lyon; the merger is in May.",
            false,
        ),
        ("You are Ava, the assistant of Contoso Bank.", false),
        // What it is told to say, and what the user has said.
        ("Welcome to Contoso Bank, where every customer is a friend and every friend is family!", false),
        (
            "You ask if complaints about fees go to the back office in Lyon? Answer in the language of the question, shortly.",
            false,
        ),
    ] {
        assert_eq!(leaks(text), [expected; 3], "{text}");
    }
    // About as long in every language: twenty letters of Chinese.
    let chinese = "你是康托索银行的助理。在五月一日之前绝对不要提及与法布里坎公司的合并，把投诉转给里昂的后台办公室处理。";
    let leak = |text: &str| {
        let leak = Leak::new([Cow::Borrowed(chinese)].into_iter(), std::iter::empty());
        run_with(&plan, leak, &streamed(text, 2)).1.action == Action::Flag
    };
    assert!(leak("指示：在五月一日之前，绝对不要提及与法布里坎公司的合并，还有"));
    assert!(!leak("我是康托索银行的助理，很高兴为您服务。"));
    // A short prompt leaks when nearly all of it is said.
    let short = || {
        Leak::new(
            [Cow::Borrowed("The word is xylophone, tell nobody at all.")].into_iter(),
            std::iter::empty(),
        )
    };
    let of = |text: &str| run_with(&plan, short(), &streamed(text, 3)).1.action == Action::Flag;
    assert!(of("The word is xylophone, tell nobody at all."));
    assert!(!of("A word like xylophone, tell nobody."));
    assert!(Leak::new([Cow::Borrowed("Be brief.")].into_iter(), std::iter::empty()).is_none());
}

#[test]
fn a_leak_is_replaced_but_for_nothing_or_its_first_words() {
    let plan = plan(&[(Category::SystemPromptLeak, Action::Redact)]);
    let text = "Sure! Never mention the merger with Fabrikam before the first of May, and send complaints about fees. Bye.";
    for size in [1, 3, 12, 1000] {
        let (out, verdict) = run_with(&plan, leak(), &streamed(text, size));
        let said = said(&out.concat());
        assert!(said.starts_with("Sure! ") && said.ends_with("Bye."), "pieces of {size}: {said}");
        assert!(
            said.contains(MARK) && !said.contains("Fabrikam") && !said.contains("fees"),
            "{size}: {said}"
        );
        assert_eq!(verdict.rules, [LEAK_RULE.into()]);
    }
    let harmless = streamed("Sure! Never mention the merger with us. Bye.", 3);
    assert_eq!(run_with(&plan, leak(), &harmless).0.concat(), harmless.concat());
}

#[test]
fn a_whole_answer_is_searched_in_all_its_texts() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    let cases = [
        json!({"choices": [{"message": {"content": format!("a {KEY} b"), "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": format!("{{\"k\":\"{KEY}\"}}")}}]},
            "logprobs": {"content": [{"token": KEY}]}}]}),
        json!({"output": [{"type": "reasoning", "summary": [{"text": KEY}]}, {"content": [{"type": "output_text", "text": format!("\u{e9}\n{KEY}")}]}]}),
        json!({"content": [{"type": "tool_use", "input": {"deep": [{"er": KEY}]}}, {"type": "text", "text": KEY}]}),
    ];
    for body in cases {
        let body = Bytes::from(body.to_string());
        let outcome = scan_whole(&plan, None, &body, TODAY);
        assert_eq!(outcome.verdict.action, Action::Redact);
        let out = crate::request::body::splice(&body, outcome.edits).concat();
        let out: Value = serde_json::from_slice(&out).expect("still JSON");
        let out = out.to_string();
        assert!(!out.contains("0123456789abc"), "{out}");
        assert_eq!(out.matches(MARK).count(), 2, "{out}");
    }
    let clean = br#"{"choices":[{"message":{"content":"hello"}}],"usage":{}}"#;
    let outcome = scan_whole(&plan, None, clean, TODAY);
    assert!(outcome.edits.is_empty() && outcome.verdict == OutputVerdict::default());
}

#[test]
fn responses_and_messages_are_followed_and_what_they_repeat_is_searched() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    let event =
        |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default());
    let mut responses: Vec<String> = pieces(KEY, 6)
        .iter()
        .map(|piece| event(json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": piece})))
        .collect();
    responses.push(event(json!({"type": "response.output_text.done", "text": KEY})));
    responses.push(event(json!({"type": "response.completed", "response": {"instructions": KEY, "output": [{"content": [{"text": KEY}]}]}})));
    let out = run_as(Api::Responses, &plan, None, &responses).0.concat();
    // What the request itself said stays.
    assert_eq!((out.matches(MARK).count(), out.matches(KEY).count()), (3, 1), "{out}");
    let mut messages = vec![event(
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    )];
    for piece in pieces(KEY, 6) {
        messages.push(event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})));
    }
    messages.push(event(json!({"type": "content_block_stop", "index": 0})));
    messages.push(event(json!({"type": "message_stop"})));
    let out = run_as(Api::Messages, &plan, None, &messages).0.concat();
    assert_eq!(out.matches(MARK).count(), 1, "{out}");
    assert!(!out.contains("ABCDEF") && out.ends_with("{\"type\":\"message_stop\"}\n\n"), "{out}");
}

/// A letter with an accent stands apart: `étg_…` is one word in the normalised reading and two in the text, which stops the
/// answer where it is said letter by letter, and is replaced where it comes at once. Neither lets it out.
fn random_answer() -> impl Strategy<Value = String> {
    let words = [
        KEY,
        "tg_",
        "sk-",
        "sk-0123456789abcdef0123456789abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJ",
        "-----",
        "é ",
        "日本 ",
        "\"",
        "\\",
        "\n",
        " ",
        " ",
        "A",
        "s",
        "zebra",
        "12",
        "x",
        "Never mention the merger with ",
        "Fabrikam before the first of May",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..14).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However a text is cut into events and chunks, the same is said; and what a whole answer loses, a stream loses.
    #[test]
    fn cuts_change_nothing(text in random_answer(), sizes in prop::collection::vec(1..40_usize, 1..4), chunk in 1..300_usize) {
        let plan = plan(&[(Category::Secret, Action::Redact), (Category::Exfiltration, Action::Redact)]);
        let whole = json!({"choices": [{"message": {"content": text}}]}).to_string();
        let outcome = scan_whole(&plan, None, whole.as_bytes(), TODAY);
        let spliced = crate::request::body::splice(&Bytes::from(whole), outcome.edits).concat();
        let spliced: Value = serde_json::from_slice(&spliced).expect("still JSON");
        let expected = spliced["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
        for size in sizes {
            let stream = streamed(&text, size).concat();
            let mut gate = OutputGate::new(&plan, None, Api::Chat, 1 << 20, TODAY);
            let mut out = Vec::new();
            for chunk in stream.as_bytes().chunks(chunk) {
                out.extend(gate.push(Bytes::copy_from_slice(chunk)));
            }
            out.extend(gate.finish(Bytes::new()));
            let out = String::from_utf8(out).expect("UTF-8");
            prop_assert_eq!(&said(&out), &expected);
            prop_assert_eq!(gate.verdict(), &outcome.verdict);
            if expected == text {
                prop_assert_eq!(out, stream);
            }
        }
    }
}

#[test]
fn the_engine_in_rust_finds_the_same() {
    let plan = scanner(Engine::Reference)
        .plan(&policy(&[(Category::Secret, Action::Redact), (Category::Operator, Action::Stop)]))
        .expect("on");
    let (out, verdict) = run(&plan, &streamed(&format!("it is {KEY}. Project Tangerine"), 5));
    assert_eq!(verdict.rules, ["secret.tollgate-key".into(), "house.words".into()]);
    assert!(said(&out.concat()).starts_with(&format!("it is {MARK}. Proj")));
}

#[test]
fn the_shipped_rules_make_a_table_of_two_megabytes() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    let size = plan.redactor.as_ref().expect("they can be replaced").size();
    assert!(size < 3 << 20, "{size} bytes");
    let patterns = shared();
    let patterns = patterns.patterns();
    let secrets =
        (0..patterns.rule_count() as u32).filter(|rule| patterns.rule(*rule).category == Category::Secret);
    assert!(
        secrets.into_iter().all(|rule| plan.redactor.as_ref().is_some_and(|redactor| redactor.has(rule)))
    );
}

#[test]
fn a_secret_beside_a_letter_with_an_accent_does_not_go_out() {
    let plan = plan(&[(Category::Secret, Action::Redact)]);
    for text in [format!("tg_\u{e9}{KEY} x"), format!("\u{e9}{KEY}"), format!("{KEY}\u{e9}")] {
        for size in [1, 3, 100] {
            let (out, verdict) = run(&plan, &streamed(&text, size));
            assert!(!said(&out.concat()).contains("0123"), "{text} in pieces of {size}: {out:?}");
            assert!(verdict.action >= Action::Redact, "{text} in pieces of {size}");
        }
    }
}
