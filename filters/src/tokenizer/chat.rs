//! Tokens that a chat template adds to the texts of a request: they mark who speaks, and where the model is to go on.
//! The number is told by the family that a model's template belongs to, which its special tokens betray. It is an
//! estimate (some templates put in a system prompt or a date of their own); what the server reports corrects it.

use std::collections::HashSet;

/// What a template adds, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overhead {
    /// To a request: its beginning, and the beginning of the answer.
    pub request: u64,
    /// To each message: who speaks, and where the message begins and ends.
    pub message: u64,
    /// To a request with tools: the words around their definitions.
    pub tools: u64,
}

/// Templates that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `<|im_start|>user\n…<|im_end|>\n`: Qwen, SmolLM, Yi and many others.
    ChatMl,
    /// `<|start_header_id|>user<|end_header_id|>\n\n…<|eot_id|>`.
    Llama3,
    /// `<start_of_turn>user\n…<end_of_turn>\n`.
    Gemma,
    /// `[INST]…[/INST]`.
    Mistral,
    /// `<｜User｜>…<｜Assistant｜>`.
    DeepSeek,
    /// `<|start|>user<|message|>…<|end|>`, and what OpenAI says of its own models.
    OpenAi,
}

impl Family {
    /// The special token by which a family is known.
    const SIGNS: [(&'static str, Self); 6] = [
        ("<|im_start|>", Self::ChatMl),
        ("<|start_header_id|>", Self::Llama3),
        ("<start_of_turn>", Self::Gemma),
        ("[INST]", Self::Mistral),
        ("<\u{ff5c}User\u{ff5c}>", Self::DeepSeek),
        ("<|message|>", Self::OpenAi),
    ];

    /// The family of a tokenizer with these special tokens.
    #[must_use]
    pub fn of_special_tokens(tokens: &HashSet<String>) -> Option<Self> {
        Self::SIGNS.iter().find(|(sign, _)| tokens.contains(*sign)).map(|(_, family)| *family)
    }

    /// The family of the models that an encoding of [`super::ENCODINGS`] was made for.
    #[must_use]
    pub(super) fn of_encoding(name: &str) -> Self {
        match name {
            "qwen2" => Self::ChatMl,
            "deepseek_v3" => Self::DeepSeek,
            "mistral_v3" => Self::Mistral,
            _ => Self::OpenAi,
        }
    }

    /// What its template adds. Counted in the templates that the models ship
    /// (`tokenizer_config.json: chat_template`); for OpenAI as its cookbook says
    /// (<https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken>).
    #[must_use]
    pub fn overhead(self) -> Overhead {
        let (request, message, tools) = match self {
            // `<|im_start|>assistant\n`
            Self::ChatMl => (3, 5, 90),
            // `<|begin_of_text|>`, `<|start_header_id|>assistant<|end_header_id|>\n\n`
            Self::Llama3 => (5, 5, 60),
            // `<bos>`, `<start_of_turn>model\n`
            Self::Gemma => (4, 5, 0),
            // `<s>`
            Self::Mistral => (1, 2, 2),
            // `<｜begin▁of▁sentence｜>`, `<｜Assistant｜>`
            Self::DeepSeek => (2, 1, 60),
            // `<|start|>assistant<|message|>`
            Self::OpenAi => (3, 3, 10),
        };
        Overhead { request, message, tools }
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatMl => "chatml",
            Self::Llama3 => "llama3",
            Self::Gemma => "gemma",
            Self::Mistral => "mistral",
            Self::DeepSeek => "deepseek",
            Self::OpenAi => "openai",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_tokens_betray_the_family() {
        let family = |tokens: &[&str]| {
            Family::of_special_tokens(&tokens.iter().map(|token| (*token).to_owned()).collect())
        };
        assert_eq!(family(&["<|endoftext|>", "<|im_start|>"]), Some(Family::ChatMl));
        assert_eq!(family(&["<s>", "[INST]"]), Some(Family::Mistral));
        assert_eq!(family(&["[CLS]", "[SEP]"]), None);
        assert_eq!(family(&[]), None);
    }
}
