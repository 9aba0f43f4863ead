//! Every recorded error: whose fault it was and what the client is told. A recording without a row in the table
//! fails the test, and so does a message that lets out a path or a piece of a request.

use tollgate_filters::response::error::{Fault, is_openai_shape, normalise};

use crate::recordings::every;

const CONTEXT: Option<&str> = Some("context_length_exceeded");
const UPSTREAM: Option<&str> = Some("upstream_error");
const NOT_FOUND: Option<&str> = Some("not_found");
const METHOD: Option<&str> = Some("method_not_allowed");
const JSON: Option<&str> = Some("invalid_json");

/// Engine and case, then status, code, param and fault of what is answered, and how its message begins.
type Row = (&'static str, u16, Option<&'static str>, Option<&'static str>, Fault, &'static str);

const NO_ENDPOINT: &str = "the server of this model does not offer this endpoint";
const SETUP: &str = "the gateway is not set up rightly";

const TABLE: [Row; 47] = [
    (
        "azure/err_rate_limited",
        429,
        Some("rate_limit_exceeded"),
        None,
        Fault::Busy,
        "the model server is taking no more",
    ),
    ("deepseek/err_unauthorized", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("groq/err_unknown_model", 502, UPSTREAM, None, Fault::Ours, SETUP),
    (
        "llama.cpp-embeddings/chat_on_embedding_model",
        400,
        None,
        None,
        Fault::Client,
        "the current context does not support logits computation. skipping",
    ),
    (
        "llama.cpp-embeddings/embeddings_too_long",
        400,
        CONTEXT,
        None,
        Fault::Client,
        "input (3002 tokens) is too large to process.",
    ),
    (
        "llama.cpp-embeddings/rerank",
        400,
        None,
        None,
        Fault::Client,
        "This server does not support reranking.",
    ),
    (
        "llama.cpp/err_context_too_long",
        400,
        CONTEXT,
        None,
        Fault::Client,
        "request (6031 tokens) exceeds the available context size (1024 tokens)",
    ),
    (
        "llama.cpp/err_malformed_json",
        400,
        JSON,
        None,
        Fault::Client,
        "[json.exception.parse_error.101] parse error at line 1, column 49: syntax error",
    ),
    ("llama.cpp/err_method_not_allowed", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    ("llama.cpp/err_missing_messages", 400, None, None, Fault::Client, "'messages' is required"),
    ("llama.cpp/err_no_key", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("llama.cpp/err_not_found_path", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    ("llama.cpp/messages_err_context_too_long", 400, CONTEXT, None, Fault::Client, "request (6031 tokens)"),
    ("llama.cpp/messages_err_missing_messages", 400, None, None, Fault::Client, "'messages' is required"),
    ("llama.cpp/model_get_unknown", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    (
        "llama.cpp/rerank_on_generate_model",
        400,
        None,
        None,
        Fault::Client,
        "This server does not support reranking.",
    ),
    (
        "llama.cpp/responses_err_bad_input",
        400,
        None,
        None,
        Fault::Client,
        "'input' must be a string or array of objects",
    ),
    ("mistral/err_unauthorized", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("ollama/cloud_err_unauthorized", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("openai/err_unknown_model", 502, UPSTREAM, None, Fault::Ours, SETUP),
    (
        "openai/err_unsupported_role",
        400,
        Some("unsupported_value"),
        Some("messages[0].role"),
        Fault::Client,
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
    ),
    ("openai/responses_err_unauthorized", 502, UPSTREAM, None, Fault::Ours, SETUP),
    (
        "openrouter/err_rate_limited",
        429,
        Some("rate_limit_exceeded"),
        None,
        Fault::Busy,
        "the model server is taking no more",
    ),
    ("perplexity/err_unauthorized", 502, UPSTREAM, None, Fault::Ours, SETUP),
    (
        "sglang/err_context_too_long",
        400,
        CONTEXT,
        None,
        Fault::Client,
        "The input (6031 tokens) is longer than the model's context length (2048 tokens).",
    ),
    ("sglang/err_malformed_json", 400, JSON, None, Fault::Client, "JSON decode error"),
    ("sglang/err_method_not_allowed", 405, METHOD, None, Fault::Client, "Method Not Allowed"),
    ("sglang/err_missing_messages", 400, None, Some("messages"), Fault::Client, "messages: Field required"),
    ("sglang/err_no_key", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("sglang/err_not_found_path", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    ("sglang/model_get_unknown", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("transformers-serve/err_malformed_json", 400, JSON, None, Fault::Client, "JSON decode error"),
    ("transformers-serve/err_method_not_allowed", 405, METHOD, None, Fault::Client, "Method Not Allowed"),
    // Nothing in `Internal Server Error` tells that the client left out `messages`.
    (
        "transformers-serve/err_missing_messages",
        502,
        UPSTREAM,
        None,
        Fault::Server,
        "the model server failed to answer",
    ),
    ("transformers-serve/err_not_found_path", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    ("transformers-serve/err_unknown_model", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("transformers-serve/model_get_unknown", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    ("vllm-embeddings/chat_on_embedding_model", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    (
        "vllm-embeddings/embeddings_too_long",
        400,
        CONTEXT,
        Some("input_text"),
        Fault::Client,
        "This model's maximum context length is 256 tokens.",
    ),
    (
        "vllm/err_context_too_long",
        400,
        CONTEXT,
        Some("input_tokens"),
        Fault::Client,
        "This model's maximum context length is 2048 tokens.",
    ),
    ("vllm/err_malformed_json", 400, JSON, None, Fault::Client, "JSON decode error"),
    ("vllm/err_method_not_allowed", 405, METHOD, None, Fault::Client, "Method Not Allowed"),
    ("vllm/err_missing_messages", 400, None, Some("messages"), Fault::Client, "messages: Field required"),
    ("vllm/err_no_key", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("vllm/err_not_found_path", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
    ("vllm/err_unknown_model", 502, UPSTREAM, None, Fault::Ours, SETUP),
    ("vllm/model_get_unknown", 404, NOT_FOUND, None, Fault::Client, NO_ENDPOINT),
];

#[test]
fn every_recorded_error_gets_its_answer() {
    let mut checked = 0;
    for recording in every() {
        let is_model_call =
            !["/metrics", "/models", "/tokenize"].iter().any(|end| recording.name.ends_with(end));
        if recording.status < 400 || !is_model_call {
            continue;
        }
        let name = &*recording.name;
        let row = TABLE.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("{name} has no row"));
        let error = normalise(recording.status, &recording.body);
        let found =
            (name, error.status, error.code.as_deref(), error.param.as_deref(), error.fault, &*error.message);
        let begins = if error.message.starts_with(row.5) { &*error.message } else { row.5 };
        assert_eq!(found, (row.0, row.1, row.2, row.3, row.4, begins));
        for secret in ["File", "/usr", "'input':", "'model'", "\n", "python"] {
            assert!(!error.message.contains(secret), "{name}: {}", error.message);
        }
        assert!(is_openai_shape(error.to_json().as_bytes()), "{name}");
        checked += 1;
    }
    assert!(checked >= 35, "found {checked} errors");
}

#[test]
fn only_openais_own_bodies_may_pass_as_they_are() {
    let passing: Vec<String> = every()
        .into_iter()
        .filter(|found| found.status >= 400 && is_openai_shape(&found.body))
        .map(|found| found.name)
        .collect();
    let expected = [
        "deepseek/err_unauthorized",
        "ollama/cloud_err_unauthorized",
        "openai/err_unknown_model",
        "openai/err_unsupported_role",
        "openai/responses_err_unauthorized",
        "sglang/model_get_unknown",
    ];
    for name in &passing {
        assert!(expected.contains(&&**name), "{name}");
    }
    assert!(passing.contains(&"sglang/model_get_unknown".to_owned()));
}
