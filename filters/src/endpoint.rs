//! Which endpoint a request addresses. An exact table: what is not in it does not exist, so no spelling of a
//! path can reach a server that the table does not name.

/// An endpoint of the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/rerank` and the servers' other spellings of it
    Rerank,
    /// `POST /v1/score`
    Score,
    /// `POST /v1/moderations`
    Moderations,
    /// `POST /tokenize`
    Tokenize,
    /// `POST /detokenize`
    Detokenize,
    /// `POST /v1/audio/transcriptions`
    Transcriptions,
    /// `POST /v1/audio/translations`
    Translations,
    /// `POST /v1/audio/speech`
    Speech,
    /// `GET /v1/models`
    Models,
    /// `GET /v1/models/{id}`
    Model,
    /// `GET /health`
    Health,
}

/// Endpoints, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointSet(u32);

impl EndpointSet {
    /// Every endpoint.
    pub const ALL: Self = Self(u32::MAX);

    /// These.
    #[must_use]
    pub fn of(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self(endpoints.into_iter().fold(0, |set, endpoint| set | 1 << endpoint as u32))
    }

    /// The labels that stand for these endpoints; see [`Endpoint::called`].
    pub fn labels(self) -> impl Iterator<Item = &'static str> {
        let listed = Endpoint::KEYED.into_iter().filter(|endpoint| *endpoint != Endpoint::Model);
        listed.filter(move |endpoint| self.contains(*endpoint)).map(Endpoint::label)
    }

    /// Whether `endpoint` is one of them.
    #[must_use]
    pub fn contains(self, endpoint: Endpoint) -> bool {
        self.0 & 1 << endpoint as u32 != 0
    }
}

/// How the body of a request to an endpoint names its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// A JSON object with a `model` key.
    Json,
    /// `multipart/form-data` with a `model` field.
    Multipart,
    /// No body.
    None,
}

impl Endpoint {
    /// Those that need a key.
    pub const KEYED: [Self; 15] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::Rerank,
        Self::Score,
        Self::Moderations,
        Self::Tokenize,
        Self::Detokenize,
        Self::Transcriptions,
        Self::Translations,
        Self::Speech,
        Self::Models,
        Self::Model,
    ];

    /// The endpoints that `label` stands for in a list of what a key may call: one, but `models` is the list of
    /// models and each model in it.
    pub fn called(label: &str) -> impl Iterator<Item = Self> {
        let is_meant = move |endpoint: &Self| {
            let own = if *endpoint == Self::Model { Self::Models.label() } else { endpoint.label() };
            own == label
        };
        Self::KEYED.into_iter().filter(is_meant)
    }

    /// The endpoint at `path` (without query), or `None`.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::ChatCompletions,
            "/v1/completions" => Self::Completions,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/responses" => Self::Responses,
            "/v1/messages" => Self::Messages,
            "/v1/rerank" | "/rerank" | "/v2/rerank" => Self::Rerank,
            "/v1/score" | "/score" => Self::Score,
            "/v1/moderations" => Self::Moderations,
            "/tokenize" | "/v1/tokenize" => Self::Tokenize,
            "/detokenize" | "/v1/detokenize" => Self::Detokenize,
            "/v1/audio/transcriptions" => Self::Transcriptions,
            "/v1/audio/translations" => Self::Translations,
            "/v1/audio/speech" => Self::Speech,
            "/v1/models" => Self::Models,
            "/health" => Self::Health,
            _ => match path.strip_prefix("/v1/models/") {
                Some(id) if !id.is_empty() => Self::Model,
                _ => return None,
            },
        })
    }

    /// The label that metrics and records use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Rerank => "rerank",
            Self::Score => "score",
            Self::Moderations => "moderations",
            Self::Tokenize => "tokenize",
            Self::Detokenize => "detokenize",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Speech => "speech",
            Self::Models => "models",
            Self::Model => "model",
            Self::Health => "health",
        }
    }

    /// The methods it answers to, as an `allow` header value; the first is the real one.
    #[must_use]
    pub fn allow(self) -> &'static str {
        match self {
            Self::Models | Self::Model | Self::Health => "GET, HEAD, OPTIONS",
            _ => "POST, OPTIONS",
        }
    }

    /// How its requests name their model.
    #[must_use]
    pub fn body_kind(self) -> BodyKind {
        match self {
            Self::Models | Self::Model | Self::Health => BodyKind::None,
            Self::Transcriptions | Self::Translations => BodyKind::Multipart,
            _ => BodyKind::Json,
        }
    }

    /// Whether a streamed answer must be asked for its usage with `stream_options.include_usage`.
    #[must_use]
    pub fn asks_for_usage(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }

    /// Whether a request to it makes a model generate, so that output tokens are reserved and charged.
    #[must_use]
    pub fn generates(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses | Self::Messages)
    }

    /// Whether its requests are chats, which a template makes one text of.
    #[must_use]
    pub fn is_chat(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Responses | Self::Messages)
    }

    /// The top-level keys of which a request must have one; a server's 500 for a request without any is the
    /// client's mistake.
    #[must_use]
    pub fn required_keys(self) -> &'static [&'static str] {
        match self {
            Self::ChatCompletions | Self::Messages => &["messages"],
            Self::Completions => &["prompt", "prompt_embeds"],
            Self::Embeddings => &["input", "messages"],
            Self::Responses => &["input", "prompt", "previous_response_id"],
            _ => &[],
        }
    }
}

/// The model id in the path of [`Endpoint::Model`], percent-decoded. `None` if it is not valid.
#[must_use]
pub fn model_in_path(path: &str) -> Option<String> {
    let id = path.strip_prefix("/v1/models/")?.as_bytes();
    let mut out = Vec::with_capacity(id.len());
    let mut at = 0;
    while at < id.len() {
        if id[at] == b'%' {
            let hex = std::str::from_utf8(id.get(at + 1..at + 3)?).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            out.push(id[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_paths_exist() {
        for (path, expected) in [
            ("/v1/chat/completions", Some(Endpoint::ChatCompletions)),
            ("/rerank", Some(Endpoint::Rerank)),
            ("/v1/models/org/name", Some(Endpoint::Model)),
            ("/v1/models/", None),
            ("/v1/chat/completions/", None),
            ("/V1/chat/completions", None),
            ("/v1//chat/completions", None),
            ("/v1/chat/completions/../models", None),
            ("/metrics", None),
            ("/", None),
        ] {
            assert_eq!(Endpoint::at(path), expected, "{path}");
        }
    }

    #[test]
    fn a_set_holds_what_its_labels_stand_for() {
        let set = EndpointSet::of(["chat_completions", "models"].into_iter().flat_map(Endpoint::called));
        for endpoint in Endpoint::KEYED {
            let expected = matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Models | Endpoint::Model);
            assert_eq!(set.contains(endpoint), expected, "{endpoint:?}");
            assert!(EndpointSet::ALL.contains(endpoint));
        }
        assert_eq!(set.labels().collect::<Vec<_>>(), ["chat_completions", "models"]);
        for label in ["", "model", "health", "chat", "CHAT_COMPLETIONS"] {
            assert_eq!(Endpoint::called(label).count(), 0, "{label}");
        }
    }

    #[test]
    fn model_ids_are_decoded() {
        for (path, expected) in [
            ("/v1/models/a/b", Some("a/b")),
            ("/v1/models/a%2Fb", Some("a/b")),
            ("/v1/models/gemma3%3A1b", Some("gemma3:1b")),
            ("/v1/models/a%2", None),
            ("/v1/models/a%zz", None),
            ("/v1/models/a%ff", None),
        ] {
            assert_eq!(model_in_path(path).as_deref(), expected, "{path}");
        }
    }
}
