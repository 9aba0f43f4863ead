//! Every reason to say no, and the one table that gives each its status, type, code and message. Stages name
//! the reason; what the client reads is decided here and nowhere else. There is no `_` arm: a new reason does
//! not compile until it has an answer. Messages say what was wrong, what was allowed and what to do, and never
//! repeat prompt text or secrets.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::request::body::Place;
use crate::request::quota::{Date, Measure, Scope};

/// Why a request is not, or no longer, answered by a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    // 400
    /// The HTTP framing or a header is one that two parsers could read differently.
    MalformedRequest(&'static str),
    /// The body is not JSON.
    InvalidJson(String),
    /// The body is not the multipart form that the endpoint needs.
    InvalidMultipart(&'static str),
    /// No model is named.
    MissingModel,
    /// A field has a type or value that cannot be served.
    UnsupportedValue {
        /// Path of the field.
        param: &'static str,
        /// What was expected and found.
        message: String,
    },
    /// The prompt and the answer asked for do not fit the model.
    ContextLengthExceeded {
        /// Tokens that the model has room for.
        limit: u64,
        /// Tokens that were asked for.
        asked: u64,
        /// Whether it is the tier that has no more room, not the model.
        is_tier: bool,
    },
    /// The scanner found an attack.
    PromptBlocked {
        /// The text.
        place: Place,
        /// The rule that says the most.
        rule: Arc<str>,
    },
    /// The answer holds what must not go out.
    OutputBlocked {
        /// The rule that says so.
        rule: Arc<str>,
    },
    // 401, 403
    /// Missing, unknown, expired or revoked key: one answer for all.
    InvalidApiKey,
    /// The key is good, but not from this address.
    SourceAddressDenied,
    /// The key is good, but may not call this endpoint.
    EndpointNotAllowed(&'static str),
    // 404, 405, 410
    /// Unknown model, or one that this key may not see.
    ModelNotFound(String),
    /// No such path.
    NotFound,
    /// Known path, other method.
    MethodNotAllowed {
        /// Value of the `allow` header.
        allow: &'static str,
    },
    /// The model is past its end of support.
    ModelRetired {
        /// The name asked for.
        model: String,
        /// The day it ended.
        since: String,
        /// What to use instead.
        successor: Option<String>,
    },
    // 408, 413, 415, 431
    /// The body did not arrive in time.
    BodyTimeout(Duration),
    /// The body is over the cap, in bytes.
    RequestTooLarge(usize),
    /// The request has more text than the scanner looks at, in bytes.
    TooMuchText(usize),
    /// The body is of a type or coding that cannot be read.
    UnsupportedMediaType(&'static str),
    /// The header section is over the cap, in bytes.
    HeadersTooLarge(usize),
    // 429
    /// Too many requests, tokens or concurrent requests for now.
    RateLimited {
        /// What is limited.
        measure: Measure,
        /// Whose limit it is.
        scope: Scope,
        /// Its value.
        limit: u64,
        /// When a retry can succeed.
        retry_after: Duration,
    },
    /// A budget has too little left for the request.
    QuotaExhausted {
        /// Which budget.
        measure: Measure,
        /// Whose budget it is.
        scope: Scope,
        /// All of it.
        limit: u64,
        /// The day on which it is there again.
        frees: Date,
        /// How long until then.
        retry_after: Duration,
    },
    // 5xx
    /// Every server that could have answered failed before the first byte.
    UpstreamError,
    /// Several servers answered this very request with an error of their own: another try would meet the same.
    UpstreamRejects,
    /// No server for the model is up.
    NoUpstreamAvailable {
        /// When one may be.
        retry_after: Duration,
    },
    /// Every server for the model is full.
    Overloaded {
        /// When one may have room.
        retry_after: Duration,
    },
    /// What the request used could not be recorded, and the operator wants nothing unrecorded.
    NoLedger {
        /// When there may be room.
        retry_after: Duration,
    },
    /// The store that gateways share their limits in is away, and the limit must not be counted without it.
    NoLimits {
        /// When it may be back.
        retry_after: Duration,
    },
    /// No server answered in time.
    UpstreamTimeout,
    /// The gateway itself is going away or has a fault.
    Unavailable,
}

/// What the client reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `error.type`
    pub kind: &'static str,
    /// `error.code`
    pub code: &'static str,
    /// `error.param`
    pub param: Option<Cow<'static, str>>,
    /// `error.message`
    pub message: String,
    /// `retry-after` and `retry-after-ms`
    pub retry_after: Option<Duration>,
    /// `x-should-retry: false`: SDKs would retry, and it cannot help.
    pub must_not_retry: bool,
    /// `allow`
    pub allow: Option<&'static str>,
}

const INVALID: &str = "invalid_request_error";
const SERVER: &str = "server_error";

impl Refusal {
    /// The one table from reason to answer.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let invalid = |status, code, message: String| Answer::new(status, INVALID, code, message);
        match self {
            Self::MalformedRequest(what) => {
                invalid(400, "malformed_request", format!("The request is malformed: {what}."))
            }
            Self::InvalidJson(what) => invalid(
                400,
                "invalid_json",
                format!("The request body is not valid JSON: {what}. Send one JSON object in UTF-8."),
            ),
            Self::InvalidMultipart(what) => invalid(
                400,
                "invalid_multipart",
                format!("The request body is not a multipart form that can be read: {what}."),
            ),
            Self::MissingModel => Answer {
                param: Some("model".into()),
                ..invalid(
                    400,
                    "missing_model",
                    "The request names no model. Set \"model\" to one of the names that GET /v1/models lists."
                        .to_owned(),
                )
            },
            Self::UnsupportedValue { param, message } => {
                Answer { param: Some((*param).into()), ..invalid(400, "unsupported_value", message.clone()) }
            }
            Self::ContextLengthExceeded { limit, asked, is_tier } => {
                let whose = if *is_tier { " in your subscription" } else { "" };
                invalid(
                    400,
                    "context_length_exceeded",
                    format!(
                        "This model's maximum context length{whose} is {limit} tokens, but about {asked} were asked \
                         for in prompt and answer together. Shorten the prompt or lower max_tokens."
                    ),
                )
            }
            Self::PromptBlocked { place, rule } => Answer {
                param: Some(place.to_string().into()),
                ..invalid(
                    400,
                    "prompt_blocked",
                    format!(
                        "The prompt was refused by the rule `{rule}` of this service's prompt security. Rephrase \
                         {place}, or give the rule and the request's id (x-request-id) to your administrator."
                    ),
                )
            },
            Self::OutputBlocked { rule } => invalid(
                400,
                "output_blocked",
                format!(
                    "The model's answer was withheld by the rule `{rule}` of this service. Change what you ask for, or \
                     give the rule and the request's id (x-request-id) to your administrator."
                ),
            ),
            Self::InvalidApiKey => invalid(
                401,
                "invalid_api_key",
                "Missing or invalid API key. Send a valid key as \"Authorization: Bearer <key>\".".to_owned(),
            ),
            Self::SourceAddressDenied => Answer::new(
                403,
                "permission_error",
                "source_address_denied",
                "This API key may not be used from your network address. Ask your administrator to allow it."
                    .to_owned(),
            ),
            Self::EndpointNotAllowed(endpoint) => Answer::new(
                403,
                "permission_error",
                "endpoint_not_allowed",
                format!("This API key may not call the endpoint `{endpoint}`. Ask your administrator to allow it."),
            ),
            Self::ModelNotFound(model) => Answer {
                param: Some("model".into()),
                ..invalid(
                    404,
                    "model_not_found",
                    format!(
                        "The model `{}` does not exist or you do not have access to it. GET /v1/models lists \
                         the models of your key.",
                        bounded(model)
                    ),
                )
            },
            Self::NotFound => invalid(
                404,
                "not_found",
                "Unknown path. The API is that of OpenAI under /v1, for example POST /v1/chat/completions."
                    .to_owned(),
            ),
            Self::MethodNotAllowed { allow } => Answer {
                allow: Some(allow),
                ..invalid(
                    405,
                    "method_not_allowed",
                    format!("This method is not allowed here. Allowed: {allow}."),
                )
            },
            Self::ModelRetired { model, since, successor } => {
                let instead = successor.as_ref().map_or_else(
                    || "GET /v1/models lists the models in service.".to_owned(),
                    |successor| format!("Use `{successor}` instead."),
                );
                Answer {
                    param: Some("model".into()),
                    ..invalid(
                        410,
                        "model_retired",
                        format!(
                            "The model `{}` reached its end of support on {since}. {instead}",
                            bounded(model)
                        ),
                    )
                }
            }
            Self::BodyTimeout(limit) => invalid(
                408,
                "request_timeout",
                format!(
                    "The request body did not arrive within {} ms. Send it without pauses.",
                    limit.as_millis()
                ),
            ),
            Self::RequestTooLarge(limit) => invalid(
                413,
                "request_too_large",
                format!("The request body is larger than the {limit} bytes allowed. Send a smaller one."),
            ),
            Self::TooMuchText(limit) => invalid(
                413,
                "request_too_large",
                format!(
                    "The request holds more text than the {limit} bytes that prompt security can look at. Send less \
                     text at a time."
                ),
            ),
            Self::UnsupportedMediaType(expected) => invalid(
                415,
                "unsupported_media_type",
                format!("The request body is of a type that cannot be read here. Send {expected}."),
            ),
            Self::HeadersTooLarge(limit) => invalid(
                431,
                "headers_too_large",
                format!("The request headers are larger than the {limit} bytes allowed. Send fewer."),
            ),
            Self::RateLimited { measure, scope, limit, retry_after } => {
                let kind = match measure {
                    Measure::Requests | Measure::InFlight => "requests",
                    Measure::Tokens | Measure::Input | Measure::Output | Measure::Day | Measure::Month => {
                        "tokens"
                    }
                };
                Answer {
                    retry_after: Some(*retry_after),
                    ..Answer::new(
                        429,
                        kind,
                        "rate_limit_exceeded",
                        format!(
                            "Rate limit reached for {}: {}. Try again in {} ms.",
                            whose(*scope),
                            measure.words(*limit),
                            retry_after.as_millis().max(1)
                        ),
                    )
                }
            }
            Self::QuotaExhausted { measure, scope, limit, frees, retry_after } => Answer {
                retry_after: Some(*retry_after),
                must_not_retry: true,
                ..Answer::new(
                    429,
                    "insufficient_quota",
                    "insufficient_quota",
                    format!(
                        "The quota of {} has too little left for this request: {}. It is full again on {frees} (UTC). \
                         Until then, ask for less (max_tokens) or have it raised by your administrator.",
                        whose(*scope),
                        measure.words(*limit)
                    ),
                )
            },
            Self::UpstreamError => Answer::new(
                502,
                SERVER,
                "upstream_error",
                "The model servers failed to answer. Try again; if it persists, contact your administrator."
                    .to_owned(),
            ),
            Self::UpstreamRejects => Answer {
                must_not_retry: true,
                ..Answer::new(
                    502,
                    SERVER,
                    "upstream_error",
                    "Several model servers failed over this request. Change it, or contact your administrator."
                        .to_owned(),
                )
            },
            Self::NoUpstreamAvailable { retry_after } => Answer {
                retry_after: Some(*retry_after),
                ..Answer::new(
                    503,
                    SERVER,
                    "no_upstream_available",
                    "No server for this model is available at the moment. Try again shortly.".to_owned(),
                )
            },
            Self::NoLedger { retry_after } => Answer {
                retry_after: Some(*retry_after),
                ..Answer::new(
                    503,
                    SERVER,
                    "overloaded",
                    "The gateway cannot record usage at the moment. Try again shortly.".to_owned(),
                )
            },
            Self::NoLimits { retry_after } => Answer {
                retry_after: Some(*retry_after),
                ..Answer::new(
                    503,
                    SERVER,
                    "overloaded",
                    "The gateway cannot check limits at the moment. Try again shortly.".to_owned(),
                )
            },
            Self::Overloaded { retry_after } => Answer {
                retry_after: Some(*retry_after),
                ..Answer::new(
                    503,
                    SERVER,
                    "overloaded",
                    "All servers for this model are busy. Try again shortly.".to_owned(),
                )
            },
            Self::UpstreamTimeout => Answer::new(
                504,
                SERVER,
                "upstream_timeout",
                "The model server did not answer in time. Try again, or ask for a shorter answer.".to_owned(),
            ),
            Self::Unavailable => Answer::new(
                503,
                SERVER,
                "overloaded",
                "The gateway cannot take this request now. Try again shortly.".to_owned(),
            ),
        }
    }

    /// Whether a server or the gateway is to blame, which alarms, and not the request, which is counted.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.answer().status >= 500
    }
}

impl Answer {
    fn new(status: u16, kind: &'static str, code: &'static str, message: String) -> Self {
        Self {
            status,
            kind,
            code,
            param: None,
            message,
            retry_after: None,
            must_not_retry: false,
            allow: None,
        }
    }

    /// The body in OpenAI's shape.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({"error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        }})
        .to_string()
    }

    /// The body in Anthropic's shape, for clients of `/v1/messages`
    /// (<https://docs.anthropic.com/en/api/errors>).
    #[must_use]
    pub fn to_anthropic_json(&self) -> String {
        let kind = match self.status {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            status if status >= 500 => "api_error",
            _ => "invalid_request_error",
        };
        serde_json::json!({"type": "error", "error": {"type": kind, "message": self.message}}).to_string()
    }
}

/// Whose limit it is, as its clients would say.
fn whose(scope: Scope) -> &'static str {
    match (scope.is_key, scope.is_model) {
        (false, false) => "your organisation",
        (false, true) => "your organisation and this model",
        (true, false) => "this API key",
        (true, true) => "this API key and this model",
    }
}

/// A name from the client, short enough to repeat and without control characters.
fn bounded(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    if clean.len() < name.len() { format!("{clean}…") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_follow_the_contract() {
        let second = Duration::from_secs(1);
        for (refusal, status, kind, code) in [
            (Refusal::InvalidJson("x".into()), 400, "invalid_request_error", "invalid_json"),
            (Refusal::MissingModel, 400, "invalid_request_error", "missing_model"),
            (Refusal::OutputBlocked { rule: "r".into() }, 400, "invalid_request_error", "output_blocked"),
            (Refusal::InvalidApiKey, 401, "invalid_request_error", "invalid_api_key"),
            (Refusal::SourceAddressDenied, 403, "permission_error", "source_address_denied"),
            (Refusal::EndpointNotAllowed("score"), 403, "permission_error", "endpoint_not_allowed"),
            (Refusal::ModelNotFound("m".into()), 404, "invalid_request_error", "model_not_found"),
            (Refusal::NotFound, 404, "invalid_request_error", "not_found"),
            (Refusal::MethodNotAllowed { allow: "GET" }, 405, "invalid_request_error", "method_not_allowed"),
            (Refusal::BodyTimeout(second), 408, "invalid_request_error", "request_timeout"),
            (Refusal::RequestTooLarge(1), 413, "invalid_request_error", "request_too_large"),
            (Refusal::UnsupportedMediaType("x"), 415, "invalid_request_error", "unsupported_media_type"),
            (Refusal::HeadersTooLarge(1), 431, "invalid_request_error", "headers_too_large"),
            (
                Refusal::RateLimited {
                    measure: Measure::Tokens,
                    scope: Scope { is_key: false, is_model: false },
                    limit: 1,
                    retry_after: second,
                },
                429,
                "tokens",
                "rate_limit_exceeded",
            ),
            (Refusal::UpstreamError, 502, "server_error", "upstream_error"),
            (Refusal::UpstreamRejects, 502, "server_error", "upstream_error"),
            (
                Refusal::NoUpstreamAvailable { retry_after: second },
                503,
                "server_error",
                "no_upstream_available",
            ),
            (Refusal::Overloaded { retry_after: second }, 503, "server_error", "overloaded"),
            (Refusal::NoLedger { retry_after: second }, 503, "server_error", "overloaded"),
            (Refusal::NoLimits { retry_after: second }, 503, "server_error", "overloaded"),
            (Refusal::UpstreamTimeout, 504, "server_error", "upstream_timeout"),
        ] {
            let answer = refusal.answer();
            assert_eq!((answer.status, answer.kind, answer.code), (status, kind, code), "{refusal:?}");
            let json: serde_json::Value = serde_json::from_str(&answer.to_json()).expect("JSON");
            let error = json["error"].as_object().expect("an object");
            assert_eq!(error.len(), 4, "{json}");
            assert_eq!(error["code"], code);
        }
    }

    #[test]
    fn a_retry_is_discouraged_only_where_it_cannot_help() {
        assert!(Refusal::UpstreamRejects.answer().must_not_retry);
        assert!(!Refusal::UpstreamError.answer().must_not_retry);
        assert!(!Refusal::UpstreamTimeout.answer().must_not_retry);
    }

    #[test]
    fn a_hostile_model_name_is_cut_and_cleaned() {
        let name = format!("x\u{0}\n{}", "y".repeat(10_000));
        let message = Refusal::ModelNotFound(name).answer().message;
        assert!(message.len() < 400, "{}", message.len());
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
}
