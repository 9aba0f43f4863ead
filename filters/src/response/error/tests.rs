use super::*;

/// Status, type, code, param, fault and message of what `normalise` gives.
type Expected<'a> = (u16, &'a str, Option<&'a str>, Option<&'a str>, Fault, &'a str);

fn check(name: &str, status: u16, body: &str, expected: Expected<'_>) {
    let error = normalise(status, body.as_bytes());
    let found = (
        error.status,
        error.kind,
        error.code.as_deref(),
        error.param.as_deref(),
        error.fault,
        &*error.message,
    );
    assert_eq!(found, expected, "{name}");
    assert!(is_openai_shape(error.to_json().as_bytes()), "{name}: {}", error.to_json());
}

const REFUSED: &str = "the model server refused the request without a reason";
const INVALID: &str = INVALID_REQUEST;

#[test]
fn the_clients_faults_keep_their_text() {
    let too_long = Some("context_length_exceeded");
    for (name, status, body, code, param, message) in [
        (
            "vLLM context",
            400,
            r#"{"error":{"message":"This model's maximum context length is 2048 tokens.","type":"BadRequestError","param":"input_tokens","code":400}}"#,
            too_long,
            Some("input_tokens"),
            "This model's maximum context length is 2048 tokens.",
        ),
        (
            "llama.cpp context",
            400,
            r#"{"error":{"code":400,"message":"request (6031 tokens) exceeds the available context size (1024 tokens), try increasing it","type":"exceed_context_size_error","n_ctx":1024}}"#,
            too_long,
            None,
            "request (6031 tokens) exceeds the available context size (1024 tokens), try increasing it",
        ),
        (
            "SGLang context",
            400,
            r#"{"object":"error","message":"The input (6031 tokens) is longer than the model's context length (2048 tokens).","type":"BadRequestError","param":null,"code":400}"#,
            too_long,
            None,
            "The input (6031 tokens) is longer than the model's context length (2048 tokens).",
        ),
        (
            "TGI context",
            422,
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4090 `inputs` tokens and 20 `max_new_tokens`","error_type":"validation"}"#,
            too_long,
            None,
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4090 `inputs` tokens and 20 `max_new_tokens`",
        ),
        (
            "llama.cpp batch",
            500,
            r#"{"error":{"code":500,"message":"input (3002 tokens) is too large to process. increase the physical batch size (current batch size: 512)","type":"server_error"}}"#,
            too_long,
            None,
            "input (3002 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
        ),
        (
            "llama.cpp logits",
            500,
            r#"{"error":{"code":500,"message":"the current context does not support logits computation. skipping","type":"server_error"}}"#,
            None,
            None,
            "the current context does not support logits computation. skipping",
        ),
        (
            "llama.cpp required",
            500,
            r#"{"error":{"code":500,"message":"'messages' is required","type":"server_error"}}"#,
            None,
            None,
            "'messages' is required",
        ),
        ("FastAPI text", 422, r#"{"detail":"Bad temperature"}"#, None, None, "Bad temperature"),
        (
            "FastAPI list",
            422,
            r#"{"detail":[{"type":"missing","loc":["body","messages",0,"content"],"msg":"Field required","input":{"secret":1}}]}"#,
            None,
            Some("messages[0].content"),
            "messages[0].content: Field required",
        ),
        (
            "FastAPI JSON",
            422,
            r#"{"detail":[{"type":"json_invalid","loc":["body",48],"msg":"JSON decode error","input":{}}]}"#,
            Some("invalid_json"),
            None,
            "JSON decode error",
        ),
        ("error text", 400, r#"{"error":"no such thing"}"#, None, None, "no such thing"),
        (
            "text code",
            400,
            r#"{"error":{"message":"m","type":"t","param":"messages[0].role","code":"unsupported_value"}}"#,
            Some("unsupported_value"),
            Some("messages[0].role"),
            "m",
        ),
        ("plain text", 400, "bad request: no body", None, None, "bad request: no body"),
        ("empty", 400, "", None, None, REFUSED),
        ("HTML", 400, "<html><body>nginx/1.2 at 10.0.0.7</body></html>", None, None, REFUSED),
        ("broken JSON", 400, r#"{"error":{"message":"half"#, None, None, REFUSED),
        ("not UTF-8", 400, "{\"error\":\"\\ud800\"}", None, None, "\u{fffd}"),
        ("teapot", 418, r#"{"error":"short and stout"}"#, None, None, "short and stout"),
    ] {
        check(name, status, body, (400, INVALID, code, param, Fault::Client, message));
    }
    let no_endpoint = "the server of this model does not offer this endpoint";
    for (name, status, body, code, message) in [
        ("unknown path", 404, r#"{"detail":"Not Found"}"#, "not_found", no_endpoint),
        (
            "llama.cpp unknown path",
            404,
            r#"{"error":{"message":"File Not Found","type":"not_found_error","code":404}}"#,
            "not_found",
            no_endpoint,
        ),
        ("method", 405, r#"{"detail":"Method Not Allowed"}"#, "method_not_allowed", "Method Not Allowed"),
        ("too large", 413, "Payload Too Large", "request_too_large", "Payload Too Large"),
        ("media type", 415, "", "unsupported_media_type", REFUSED),
    ] {
        check(name, status, body, (status, INVALID, Some(code), None, Fault::Client, message));
    }
}

#[test]
fn other_faults_say_nothing_of_the_server() {
    for (name, status, body, expected_status, kind, code, fault) in [
        ("no key", 401, r#"{"error":"Unauthorized"}"#, 502, SERVER_ERROR, "upstream_error", Fault::Ours),
        ("forbidden", 403, "nope", 502, SERVER_ERROR, "upstream_error", Fault::Ours),
        ("no credit", 402, "pay", 502, SERVER_ERROR, "upstream_error", Fault::Ours),
        (
            "our quota",
            429,
            r#"{"error":{"message":"m","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            502,
            SERVER_ERROR,
            "upstream_error",
            Fault::Ours,
        ),
        (
            "unknown model",
            404,
            r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":"model","code":404}}"#,
            502,
            SERVER_ERROR,
            "upstream_error",
            Fault::Ours,
        ),
        (
            "Ollama's unknown model",
            404,
            r#"{"error":"model 'x' not found"}"#,
            502,
            SERVER_ERROR,
            "upstream_error",
            Fault::Ours,
        ),
        (
            "pinned model",
            400,
            r#"{"detail":"Server is pinned to 'a'; requested 'b'."}"#,
            502,
            SERVER_ERROR,
            "upstream_error",
            Fault::Ours,
        ),
        ("plain 500", 500, "Internal Server Error", 502, SERVER_ERROR, "upstream_error", Fault::Server),
        (
            "a 500 that sounds like a mistake",
            500,
            "device must be a CUDA device",
            502,
            SERVER_ERROR,
            "upstream_error",
            Fault::Server,
        ),
        ("bad gateway", 502, "<html>", 502, SERVER_ERROR, "upstream_error", Fault::Server),
        ("redirect", 302, "", 502, SERVER_ERROR, "upstream_error", Fault::Server),
        ("slow", 504, "", 504, SERVER_ERROR, "upstream_timeout", Fault::Server),
        ("slow request", 408, "", 504, SERVER_ERROR, "upstream_timeout", Fault::Server),
        (
            "loading",
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            503,
            SERVER_ERROR,
            "overloaded",
            Fault::Busy,
        ),
        (
            "limited",
            429,
            r#"{"error":{"code":429,"message":"Provider returned error"}}"#,
            429,
            "requests",
            "rate_limit_exceeded",
            Fault::Busy,
        ),
        (
            "limited by tokens",
            429,
            r#"{"error":{"message":"too many tokens per minute"}}"#,
            429,
            "tokens",
            "rate_limit_exceeded",
            Fault::Busy,
        ),
    ] {
        let error = normalise(status, body.as_bytes());
        let found = (error.status, error.kind, error.code.as_deref(), error.fault);
        assert_eq!(found, (expected_status, kind, Some(code), fault), "{name}");
        assert_eq!(error.param, None, "{name}");
        let message = normalise(status, b"").message;
        assert!(
            status == 404 || status == 400 || code == "upstream_error" || error.message == message,
            "{name}"
        );
        assert!(error.message.starts_with("the "), "{name}: {}", error.message);
    }
}

#[test]
fn within_a_stream_the_body_tells_the_status() {
    for (name, body, status, fault) in [
        ("number", r#"{"error":{"code":400,"message":"m"}}"#, 400, Fault::Client),
        (
            "number beside",
            r#"{"error":{"code":"tool_use_failed","message":"m","status_code":400}}"#,
            400,
            Fault::Client,
        ),
        ("type", r#"{"error":{"type":"invalid_request_error","message":"m"}}"#, 400, Fault::Client),
        (
            "overloaded",
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
            503,
            Fault::Busy,
        ),
        ("limit", r#"{"error":{"code":"rate_limit_exceeded","message":"m"}}"#, 429, Fault::Busy),
        ("nothing", r#"{"error":"m"}"#, 502, Fault::Server),
        ("nonsense", r#"{"error":{"code":70000,"message":"m"}}"#, 502, Fault::Server),
        ("plain", "boom", 502, Fault::Server),
    ] {
        let error = normalise(200, body.as_bytes());
        assert_eq!((error.status, error.fault), (status, fault), "{name}");
    }
}

#[test]
fn messages_are_cleaned() {
    let long = "é".repeat(2000);
    for (name, message, expected) in [
        (
            "SGLang",
            "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required', 'input': {'model': 'secret'}}\n\n  File \"/usr/local/lib/x.py\", line 1",
            "messages: Field required",
        ),
        (
            "SGLang index",
            "1 validation error:\n  {'type': 'x', 'loc': ('body', 'messages', 0, 'role'), 'msg': 'Bad', 'input': 5}",
            "messages[0].role: Bad",
        ),
        (
            "vLLM",
            "1 validation error:\n  {'type': 'missing', 'loc': 'body.messages', 'msg': 'Field required', 'input': '<dict of 1 items>'}",
            "messages: Field required",
        ),
        (
            "Pydantic",
            "1 validation error for Chat\ntop_p\n  Input should be less than 1 [type=less_than, input_value=7, input_type=int]\n    For further information visit https://errors.pydantic.dev",
            "1 validation error for Chat top_p Input should be less than 1",
        ),
        ("stack", "it broke\nTraceback (most recent call last):\n  File \"/app/x.py\"", "it broke"),
        ("stack line", "it broke\n  File \"x.py\", line 1, in f", "it broke"),
        ("path", "cannot open '/opt/models/x/config.json', sorry", "cannot open '[path]', sorry"),
        ("bare path", "cannot open /opt/models/x", "cannot open [path]"),
        ("drive", "cannot open C:\\models\\x", "cannot open [path]"),
        ("file URL", "cannot open file:///opt/x", "cannot open [path]"),
        (
            "no path",
            "and/or 1/2 https://example.com/a/b POST /v1/chat/completions meta-llama/Llama-3 /health",
            "and/or 1/2 https://example.com/a/b POST /v1/chat/completions meta-llama/Llama-3 /health",
        ),
        ("control characters", "a\u{0}b\r\n\tc\u{1b}[31m", "a b c [31m"),
        ("quotes", "say \"hi\" \\ there", "say \"hi\" \\ there"),
    ] {
        let body = format!(r#"{{"error":{}}}"#, serde_json::Value::from(message));
        assert_eq!(normalise(400, body.as_bytes()).message, expected, "{name}");
    }
    let message = normalise(400, long.as_bytes()).message;
    assert_eq!(message.chars().count(), 513);
    assert!(message.ends_with("é…"));
}

#[test]
fn knows_openais_shape() {
    for (body, expected) in [
        (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, true),
        (r#" { "error" : { "code" : null, "param" : "p", "type" : "t", "message" : "m" } } "#, true),
        (r#"{"error":{"message":"m","type":"t","param":null,"code":400}}"#, false),
        (r#"{"error":{"message":"m","type":"t","param":null}}"#, false),
        (r#"{"error":{"message":"m","type":null,"param":null,"code":null}}"#, false),
        (r#"{"error":{"message":"m","type":"t","param":null,"code":null,"x":1}}"#, false),
        (r#"{"error":{"message":"m","message":"t","type":"t","param":null,"code":null}}"#, false),
        (r#"{"error":{"message":"m","type":"t","param":null,"code":null},"user_id":"u"}"#, false),
        (r#"{"error":"Unauthorized"}"#, false),
        (r#"{"detail":"Not Found"}"#, false),
        ("[]", false),
        ("", false),
    ] {
        assert_eq!(is_openai_shape(body.as_bytes()), expected, "{body}");
    }
    assert!(!is_openai_shape(
        b"{\"error\":{\"message\":\"\xFF\",\"type\":\"t\",\"param\":null,\"code\":null}}"
    ));
}

#[test]
fn knows_what_clients_can_read() {
    for (body, expected) in [
        (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, true),
        (r#"{"error":{"message":"m","type":"t","code":"c","failed_generation":"x"},"id":1}"#, true),
        (r#"{"error":{"message":"m"}}"#, false),
        (r#"{"error":{"message":"m","type":"t"}}"#, true),
        (r#"{"error":{"message":"m","type":"t","code":400}}"#, false),
        (r#"{"error":{"message":null}}"#, false),
        (r#"{"error":"m"}"#, false),
        (r#"{"message":"m"}"#, false),
        ("", false),
    ] {
        assert_eq!(is_readable(body.as_bytes(), &normalise(400, body.as_bytes())), expected, "{body}");
    }
}

#[test]
fn anthropics_shape() {
    let error =
        normalise(400, br#"{"error":{"code":400,"message":"a \"b\"","type":"invalid_request_error"}}"#);
    let expected = r#"{"type":"error","error":{"type":"invalid_request_error","message":"a \"b\""}}"#;
    assert_eq!(error.to_messages_json(), expected);
    assert!(normalise(500, b"").to_messages_json().contains(r#""type":"api_error""#));
    assert!(normalise(503, b"").to_messages_json().contains(r#""type":"overloaded_error""#));
}

#[test]
fn deep_nesting_is_no_danger() {
    let body = format!("{}1{}", r#"{"error":"#.repeat(100_000), "}".repeat(100_000));
    assert_eq!(normalise(500, body.as_bytes()).fault, Fault::Server);
    let body = format!("{}1{}", r#"{"error":"#.repeat(200), "}".repeat(200));
    assert_eq!(normalise(500, body.as_bytes()).fault, Fault::Server);
}
