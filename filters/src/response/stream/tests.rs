use super::*;

const CHAT: &str =
    r#"data: {"model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#;
const STOP: &str = r#"data: {"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"data: {"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;

fn filter(api: Api, model: &str, withhold_usage: bool) -> StreamFilter {
    StreamFilter::new(StreamPlan {
        api,
        model: model.into(),
        withhold_usage,
        max_event_bytes: 4096,
        tokenizer: None,
    })
}

/// What comes out of a stream given whole, and of one given byte by byte; both must be the same.
fn run(mut filter: StreamFilter, input: &str) -> (String, bool, StreamFilter) {
    let mut bytewise = filter.clone();
    let mut out = filter.push(Bytes::copy_from_slice(input.as_bytes()), Duration::ZERO).to_vec();
    let mut slowly: Vec<u8> = Vec::new();
    for byte in input.bytes() {
        slowly.extend(bytewise.push(Bytes::copy_from_slice(&[byte]), Duration::ZERO));
    }
    let end = filter.finish();
    assert_eq!(end, bytewise.finish(), "{input}");
    out.extend(&end.bytes);
    slowly.extend(&end.bytes);
    assert_eq!(String::from_utf8_lossy(&slowly), String::from_utf8_lossy(&out), "byte by byte");
    assert!(filter.meter() == bytewise.meter(), "byte by byte: {input}");
    (String::from_utf8(out).expect("what goes in is text"), end.is_clean, filter)
}

/// A stream of `events`, each given without its blank line.
fn check(api: Api, withhold_usage: bool, events: &[&str], expected: &[&str]) {
    let join = |events: &[&str]| events.iter().map(|event| format!("{event}\n\n")).collect::<String>();
    let (out, ..) = run(filter(api, "m", withhold_usage), &join(events));
    assert_eq!(out, join(expected));
}

#[test]
fn an_untouched_chunk_is_the_very_same() {
    let mut filter = filter(Api::Chat, "m", true);
    let chunk = Bytes::from(format!("{CHAT}\n\n: note\n\n{CHAT}\r\n\r\n"));
    let out = filter.push(chunk.clone(), Duration::ZERO);
    assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), chunk.len()));
    let chunk = Bytes::from(format!("{CHAT}\n\ndata: {{\"mo"));
    let out = filter.push(chunk.clone(), Duration::ZERO);
    assert_eq!((out.as_ptr(), out.len()), (chunk.as_ptr(), CHAT.len() + 2));
    let out = filter.push(Bytes::from_static(b"del\":\"m\"}\n\n"), Duration::ZERO);
    assert_eq!(&out[..], b"data: {\"model\":\"m\"}\n\n");
}

#[test]
fn withholds_the_usage_event_and_nothing_else() {
    let azure = r#"data: {"choices":[],"model":"m","prompt_filter_results":[]}"#;
    let null = r#"data: {"choices":[],"model":"m","usage":null}"#;
    let beside = r#"data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let alone = r#"data: {"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    for api in [Api::Chat, Api::Completions] {
        check(api, true, &[azure, CHAT, STOP, USAGE, "data: [DONE]"], &[azure, CHAT, STOP, "data: [DONE]"]);
        check(
            api,
            true,
            &[null, beside, alone, STOP, "data: [DONE]"],
            &[null, beside, alone, STOP, "data: [DONE]"],
        );
        check(api, false, &[CHAT, STOP, USAGE, "data: [DONE]"], &[CHAT, STOP, USAGE, "data: [DONE]"]);
        let named = format!("id: 5\nevent: x\n{USAGE}");
        check(api, true, &[CHAT, STOP, &named, "data: [DONE]"], &[CHAT, STOP, "data: [DONE]"]);
    }
    check(Api::Other, true, &[USAGE], &[USAGE]);
    let (_, _, filter) = run(filter(Api::Chat, "m", true), &format!("{USAGE}\n\n"));
    assert_eq!(filter.meter().usage().and_then(|usage| usage.output), Some(2), "withheld and yet counted");
}

#[test]
fn sets_the_models_name_back() {
    for (api, name, input, expected) in [
        (Api::Chat, "m", r#"{"model":"x@main","choices":[]}"#, r#"{"model":"m","choices":[]}"#),
        (Api::Chat, "m", r#"{ "model" : "" }"#, r#"{ "model" : "m" }"#),
        (Api::Chat, "m", r#"{"model":null}"#, r#"{"model":null}"#),
        (Api::Chat, "m", r#"{"choices":[{"model":"x"}]}"#, r#"{"choices":[{"model":"x"}]}"#),
        (Api::Chat, "m", r#"{"response":{"model":"x"}}"#, r#"{"response":{"model":"x"}}"#),
        (Api::Chat, "a\"b/é", r#"{"model":"x"}"#, r#"{"model":"a\"b/é"}"#),
        (Api::Chat, "a/é", r#"{"model":"a\/\u00e9"}"#, r#"{"model":"a\/\u00e9"}"#),
        (Api::Completions, "m", r#"{"model":"x"}"#, r#"{"model":"m"}"#),
        (Api::Responses, "m", r#"{"response":{"id":1,"model":"x"}}"#, r#"{"response":{"id":1,"model":"m"}}"#),
        (Api::Responses, "m", r#"{"model":"x"}"#, r#"{"model":"x"}"#),
        (
            Api::Messages,
            "m",
            r#"{"type":"message_start","message":{"model":"x"}}"#,
            r#"{"type":"message_start","message":{"model":"m"}}"#,
        ),
        (Api::Other, "m", r#"{"model":"x"}"#, r#"{"model":"x"}"#),
    ] {
        for (before, after) in
            [("data: ", "\n\n"), ("\u{feff}data:", "\r\n\r\n"), ("event: e\r\ndata: ", "\nid: 1\n\n")]
        {
            let (out, ..) = run(filter(api, name, false), &format!("{before}{input}{after}"));
            assert!(out.starts_with(&format!("{before}{expected}{after}")), "{input}: {out}");
        }
    }
    let (out, ..) =
        run(filter(Api::Chat, "long", false), "data: {\"choices\":[],\ndata: \"model\":\"x\"}\n\n");
    assert_eq!(out, "data: {\"choices\":[],\ndata: \"model\":\"long\"}\n\n");
}

#[test]
fn brings_error_events_to_one_shape() {
    let server = r#"{"error":{"message":"the model server failed to answer; the request may be tried again","type":"server_error","param":null,"code":"upstream_error"}}"#;
    let mine = r#"{"error":{"message":"No","type":"invalid_request_error","param":null,"code":null}}"#;
    let beside = r#"{"error":{"code":400,"message":"x"},"choices":[{"index":0,"delta":{}}]}"#;
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"x"}}}"#;
    let own = r#"{"type":"error","code":null,"message":"x"}"#;
    let anthropic = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#;
    for (name, api, before, input, expected) in [
        ("number", Api::Chat, "", r#"{"error":{"message":"No","code":400}}"#, mine),
        ("flat", Api::Chat, "", r#"{"object":"error","message":"No","code":400}"#, mine),
        (
            "named",
            Api::Completions,
            "event: error\n",
            r#"{"error":{"message":"No","status_code":400}}"#,
            mine,
        ),
        ("text", Api::Chat, "", r#"{"error":"secret path"}"#, server),
        ("detail", Api::Chat, "", r#"{"detail":"secret path"}"#, server),
        ("no JSON", Api::Chat, "event: error\n", "boom", server),
        ("right already", Api::Chat, "", mine, mine),
        ("beside choices", Api::Chat, "", beside, beside),
        ("responses", Api::Responses, "", r#"{"error":{"message":"No","code":400}}"#, mine),
        ("responses' own", Api::Responses, "event: error\n", own, own),
        (
            "messages",
            Api::Messages,
            "",
            r#"{"error":{"message":"No","code":400}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"No"}}"#,
        ),
        ("messages' own", Api::Messages, "event: error\n", anthropic, anthropic),
    ] {
        let (out, is_clean, filter) = run(filter(api, "m", true), &format!("{before}data: {input}\n\n"));
        assert_eq!(out, format!("{before}data: {expected}\n\n"), "{name}");
        assert!(!is_clean && filter.saw_error_event(), "{name}");
    }
    let (out, is_clean, filter) = run(filter(Api::Responses, "m", false), &format!("data: {failed}\n\n"));
    assert_eq!((out, is_clean, filter.saw_error_event()), (format!("data: {failed}\n\n"), true, false));
}

#[test]
fn knows_a_clean_end() {
    let done = "data: [DONE]\n\n";
    let two = r#"data: {"choices":[{"index":1,"delta":{"content":"x"}}]}"#;
    for (name, api, input, added, is_clean) in [
        ("done", Api::Chat, format!("{CHAT}\n\ndata: [DONE]\n\n"), "", true),
        ("done, no space", Api::Chat, format!("{CHAT}\n\ndata:[DONE]\r\n\r\n"), "", true),
        ("done, unended", Api::Chat, format!("{CHAT}\n\ndata: [DONE]"), "", true),
        ("finished", Api::Chat, format!("{CHAT}\n\n{STOP}\n\n"), done, true),
        ("finished, unended", Api::Chat, format!("{CHAT}\n\n{STOP}"), "\n\ndata: [DONE]\n\n", true),
        ("finished, half ended", Api::Chat, format!("{CHAT}\n\n{STOP}\n"), "\ndata: [DONE]\n\n", true),
        (
            "finished, half ended, CRLF",
            Api::Chat,
            format!("{CHAT}\n\n{STOP}\r\n\r"),
            "\ndata: [DONE]\n\n",
            true,
        ),
        ("one of two finished", Api::Chat, format!("{two}\n\n{STOP}\n\n"), "", false),
        ("cut", Api::Chat, format!("{CHAT}\n\n"), "", false),
        ("cut in an event", Api::Chat, format!("{CHAT}\n\n{STOP}\n\ndata: {{\"mo"), "\n\n", false),
        ("empty", Api::Completions, String::new(), "", false),
        (
            "error before done",
            Api::Chat,
            format!("{STOP}\n\ndata: {{\"error\":{{}},\"choices\":[]}}\n\n{done}"),
            "",
            false,
        ),
        ("responses", Api::Responses, "data: {\"type\":\"response.completed\"}\n\n".into(), "", true),
        ("responses, named", Api::Responses, "event: response.incomplete\ndata: {}\n\n".into(), "", true),
        ("responses, cut", Api::Responses, "data: {\"type\":\"response.created\"}\n\n".into(), "", false),
        ("messages", Api::Messages, "data: {\"type\":\"message_stop\"}\n\n".into(), "", true),
        ("messages, cut", Api::Messages, "data: {\"type\":\"message_delta\"}\n\n".into(), "", false),
        ("other", Api::Other, "data: half".into(), "", true),
    ] {
        let (out, found, _) = run(filter(api, "m", false), &input);
        assert_eq!((out, found), (format!("{input}{added}"), is_clean), "{name}");
    }
    let (out, is_clean, _) = run(filter(Api::Chat, "m", true), &format!("{STOP}\n\n{USAGE}\n"));
    assert_eq!((out, is_clean), (format!("{STOP}\n\n{done}"), true), "withheld though unended");
}

#[test]
fn an_event_above_the_cap_passes_uncounted() {
    let long = format!(
        "data: {{\"model\":\"x\",\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}",
        "a".repeat(9000)
    );
    let (out, _, filter) = run(filter(Api::Chat, "m", true), &format!("{CHAT}\n\n{long}\n\n{STOP}\n\n"));
    assert_eq!(out, format!("{CHAT}\n\n{long}\n\n{STOP}\n\ndata: [DONE]\n\n"));
    assert_eq!((filter.meter().overlong_events(), filter.meter().visible_chars()), (1, 2));
    let last = format!("event: response.completed\ndata: {{\"x\":\"{}\"}}\n\n", "a".repeat(9000));
    let (out, is_clean, _) = run(self::filter(Api::Responses, "m", true), &last);
    assert_eq!((out, is_clean), (last, true), "its name tells that the stream has ended");
}

#[test]
fn a_comment_may_be_put_in_between_events_only() {
    let mut filter = filter(Api::Chat, "m", false);
    assert!(filter.is_at_event_boundary());
    let out = filter.push(Bytes::from_static(b"data: {"), Duration::ZERO);
    assert!(out.is_empty() && filter.is_at_event_boundary(), "what is held has not gone out");
    let out = filter.push(Bytes::from(vec![b' '; 5000]), Duration::ZERO);
    assert!(!out.is_empty() && !filter.is_at_event_boundary());
    filter.push(Bytes::from_static(b"\n\n"), Duration::ZERO);
    assert!(filter.is_at_event_boundary());
}

#[test]
fn garbage_passes_and_is_counted_once() {
    let (out, _, filter) =
        run(filter(Api::Chat, "m", true), "data: {nonsense\n\ndata: null\n\ndata: 5\n\ndata:\n\n: x\n\n");
    assert_eq!(out, "data: {nonsense\n\ndata: null\n\ndata: 5\n\ndata:\n\n: x\n\n");
    assert_eq!((filter.meter().events(), filter.meter().unparsed_events()), (4, 2));
}

#[test]
fn times_are_of_the_chunk_that_completed_the_event() {
    let mut filter = filter(Api::Chat, "m", false);
    let (first, second) = CHAT.split_at(20);
    let at = Duration::from_millis;
    filter.push(
        Bytes::from(r#"data: {"choices":[{"delta":{"role":"assistant"}}]}"#.to_owned() + "\n\n"),
        at(1),
    );
    filter.push(Bytes::copy_from_slice(first.as_bytes()), at(10));
    filter.push(Bytes::from(format!("{second}\n\n{CHAT}\n\n")), at(12));
    filter.push(Bytes::from(format!("{CHAT}\n\n")), at(20));
    let meter = filter.into_meter();
    assert_eq!((meter.first_token(), meter.last_content()), (Some(at(12)), Some(at(20))));
    assert_eq!((meter.content_events(), meter.gaps().count(), meter.gaps().sum), (3, 2, at(8)));
}

/// Holds a stream at `tokens` and gives what went out before, and with which events it was then ended.
fn held_at(api: Api, tokens: u64, input: &str, withhold_usage: bool) -> (String, String) {
    let mut filter = filter(api, "mine", withhold_usage);
    filter.hold_at(tokens);
    let out = filter.push(Bytes::copy_from_slice(input.as_bytes()), Duration::ZERO);
    assert!(filter.is_held(), "{input}");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (text(&out), text(&filter.close(Estimate { input: 7, ..Estimate::default() })))
}

#[test]
fn a_held_stream_stops_after_an_event_and_goes_on_where_it_stopped() {
    let delta = |text: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
    };
    let events = [delta("12345678"), delta("1234"), delta("1"), delta("2345"), delta("6")];
    let whole = events.concat();
    for cut in 0..whole.len() {
        let mut filter = filter(Api::Chat, "m", false);
        filter.hold_at(3);
        let mut out = Vec::new();
        let mut holds = Vec::new();
        for part in [&whole[..cut], &whole[cut..]] {
            out.extend(filter.push(Bytes::copy_from_slice(part.as_bytes()), Duration::ZERO));
            while filter.is_held() {
                holds.push(out.len());
                filter.hold_at(if holds.len() == 1 { 5 } else { u64::MAX });
                out.extend(filter.resume(Duration::ZERO));
            }
        }
        assert_eq!(String::from_utf8_lossy(&out), whole, "cut at {cut}");
        let lengths = [events[..2].concat().len(), events[..4].concat().len()];
        assert_eq!(holds, lengths, "cut at {cut}");
    }
}

#[test]
fn a_stream_is_ended_in_the_shape_of_its_interface() {
    let chat = "data: {\"id\":\"c-1\",\"created\":5,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"12345678\"}},\
                {\"index\":2,\"delta\":{\"content\":\"\"}},{\"index\":1,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let head = "data: {\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"mine\",\"choices\":";
    let last = format!(
        "{head}[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"length\"}},{{\"index\":2,\"delta\":{{}},\
         \"finish_reason\":\"length\"}}]}}\n\n"
    );
    let usage = "[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n";
    let (out, close) = held_at(Api::Chat, 2, &format!("{chat}{chat}data: {{\"cho"), true);
    assert_eq!(out, chat.replace("\"x\"", "\"mine\""), "and nothing after it");
    assert_eq!(close, format!("{last}data: [DONE]\n\n"));
    let (_, close) = held_at(Api::Chat, 2, chat, false);
    assert_eq!(close, format!("{last}{head}{usage}data: [DONE]\n\n"), "usage where the client asked for it");

    let completion = "data: {\"id\":\"c\",\"choices\":[{\"text\":\"abcd\"}]}\n\n";
    let (_, close) = held_at(Api::Completions, 1, completion, true);
    let choice = "\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}]}";
    assert!(close.contains("\"text_completion\"") && close.contains(choice), "{close}");

    let responses = "data: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"created_at\":9}}\n\n\
                     data: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"abcd\"}\n\n";
    let (_, close) = held_at(Api::Responses, 1, responses, false);
    let data = close.strip_prefix("event: response.incomplete\ndata: ").expect("one event");
    let json: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!((&json["sequence_number"], &json["response"]["id"]), (&5.into(), &"r".into()));
    assert_eq!(json["response"]["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(json["response"]["usage"]["total_tokens"], 8);

    let messages = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"abcd\"}}\n\n";
    let (_, close) = held_at(Api::Messages, 1, messages, false);
    assert_eq!(
        close,
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\",\"stop_sequence\":null},\
         \"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
    );
}
