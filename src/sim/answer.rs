//! What the simulated model says: sentences of plain words in six languages, or an instance of a JSON
//! schema. The same seed and prompt always give the same answer, and its tokens are those that the tokenizer
//! finds in it, so reported usage can be checked against the text.

use serde_json::Value;

use super::text::{self, mix};

const LATIN: &[&str] = &[
    "lorem", "ipsum", "dolor", "sit", "amet", "magna", "aliqua", "veniam", "nostrud", "labore", "tempor",
    "culpa",
];
const ENGLISH: &[&str] = &[
    "the", "river", "keeps", "its", "own", "time", "and", "every", "small", "light", "finds", "a", "window",
    "morning",
];
const GERMAN: &[&str] =
    &["der", "Zug", "fährt", "über", "die", "Brücke", "zum", "schönen", "grünen", "Tal", "heißt", "Straße"];
const FRENCH: &[&str] =
    &["la", "forêt", "était", "calme", "après", "l'été", "où", "chaque", "élève", "rêve", "d'un", "château"];
const JAPANESE: &[&str] =
    &["東京", "の", "朝", "は", "静か", "で", "電車", "が", "ゆっくり", "走る", "空", "青い"];
const CHINESE: &[&str] =
    &["春天", "的", "风", "吹过", "山谷", "我们", "在", "河边", "看", "月亮", "和", "远方"];

struct Tongue {
    words: &'static [&'static str],
    space: &'static str,
    stop: &'static str,
}

const TONGUES: [Tongue; 6] = [
    Tongue { words: LATIN, space: " ", stop: "." },
    Tongue { words: ENGLISH, space: " ", stop: "." },
    Tongue { words: GERMAN, space: " ", stop: "!" },
    Tongue { words: FRENCH, space: " ", stop: "." },
    Tongue { words: JAPANESE, space: "", stop: "。" },
    Tongue { words: CHINESE, space: "", stop: "，" },
];

/// Why an answer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    /// It was complete.
    Stop,
    /// A stop string of the request came up.
    StopString(String),
    /// It reached its token limit.
    Length,
    /// It was a tool call.
    ToolCalls,
}

impl Finish {
    /// As in `finish_reason`.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Stop | Self::StopString(_) => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// What to say and how much of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// Seed of the words.
    pub(super) seed: u64,
    /// Most tokens.
    pub(super) max_tokens: u32,
    /// Least tokens before the answer may end by itself.
    pub(super) min_tokens: u32,
    /// Never ends by itself.
    pub(super) ignore_eos: bool,
    /// Strings to end before.
    pub(super) stop: Vec<String>,
}

/// A whole answer, cut in tokens.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    text: String,
    /// Where each token ends. The last of a complete answer is the end-of-text token, which has no letters.
    ends: Vec<u32>,
    pub(super) finish: Finish,
}

impl Answer {
    /// Sentences.
    pub(super) fn prose(wish: &Wish) -> Self {
        // 24 to 151 tokens: a usual chat answer, short enough to watch.
        let natural = 24 + u32::try_from(mix(wish.seed, 1) % 128).unwrap_or(0);
        let length = if wish.ignore_eos { u32::MAX } else { natural.max(wish.min_tokens) };
        let wanted = length.min(wish.max_tokens);
        let mut answer = Self { text: String::new(), ends: Vec::new(), finish: Finish::Stop };
        let mut sentence = 0;
        while answer.ends.len() < wanted as usize {
            sentence += 1;
            let said = say(mix(wish.seed, 1 + sentence), answer.text.is_empty());
            answer.append(&said);
        }
        if length < wish.max_tokens && answer.ends.len() < wish.max_tokens as usize {
            answer.end_by_itself();
        } else {
            answer.truncate(wish.max_tokens);
        }
        answer.stop_before(&wish.stop, wish.min_tokens);
        answer
    }

    /// An instance of `schema`; a tool call when `is_tool_call`.
    pub(super) fn instance(schema: &Value, wish: &Wish, is_tool_call: bool) -> Self {
        let mut answer = Self { text: String::new(), ends: Vec::new(), finish: Finish::Stop };
        answer.append(&instance(schema, wish.seed, 0).to_string());
        if (answer.ends.len() as u64) < u64::from(wish.max_tokens) {
            answer.end_by_itself();
            answer.finish = if is_tool_call { Finish::ToolCalls } else { Finish::Stop };
        } else {
            answer.truncate(wish.max_tokens);
        }
        answer
    }

    /// Tokens, the end-of-text token included.
    pub(super) fn tokens(&self) -> u32 {
        u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    /// The text of the tokens `from..to`.
    pub(super) fn piece(&self, from: u32, to: u32) -> &str {
        let end_of = |token: u32| match token.checked_sub(1) {
            None => 0,
            Some(last) => self.ends.get(last as usize).map_or(self.text.len(), |end| *end as usize),
        };
        self.text.get(end_of(from)..end_of(to)).unwrap_or("")
    }

    /// All of it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn append(&mut self, said: &str) {
        let mut end = self.text.len();
        self.text.push_str(said);
        for (_, piece) in text::tokens(said) {
            end += piece.len();
            self.ends.push(u32::try_from(end).unwrap_or(u32::MAX));
        }
    }

    fn end_by_itself(&mut self) {
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.finish = Finish::Stop;
    }

    fn truncate(&mut self, tokens: u32) {
        self.ends.truncate(tokens as usize);
        self.text.truncate(self.ends.last().map_or(0, |end| *end as usize));
        self.finish = Finish::Length;
    }

    /// Cuts before the first stop string that ends after `min_tokens`.
    fn stop_before(&mut self, stops: &[String], min_tokens: u32) {
        let from = self.piece(0, min_tokens).len();
        let found = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| {
            let searched = self.text.get(from..)?;
            searched.find(stop.as_str()).map(|at| (from + at, stop))
        });
        let Some((at, stop)) = found.min_by_key(|(at, _)| *at) else { return };
        // The token that completes the stop string was generated; its text is not shown.
        let seen = self.ends.partition_point(|end| (*end as usize) < at + stop.len()) + 1;
        self.ends.truncate(seen);
        let cut = u32::try_from(at).unwrap_or(u32::MAX);
        for end in &mut self.ends {
            *end = (*end).min(cut);
        }
        self.text.truncate(at);
        self.finish = Finish::StopString(stop.clone());
    }
}

fn say(seed: u64, is_first: bool) -> String {
    let pick = |of: usize, salt: u64| usize::try_from(mix(seed, salt) % of as u64).unwrap_or(0);
    let tongue = &TONGUES[pick(TONGUES.len(), 1)];
    let mut said = String::from(if is_first { "" } else { tongue.space });
    let words = 4 + pick(9, 2);
    for at in 0..words {
        if at > 0 {
            said.push_str(tongue.space);
        }
        let word = tongue.words[pick(tongue.words.len(), 10 + at as u64)];
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if at == 0 => said.extend(first.to_uppercase().chain(letters)),
            _ => said.push_str(word),
        }
    }
    said.push_str(tongue.stop);
    said
}

/// Deepest schema that is followed; a recursive one ends here.
const DEEPEST: u32 = 8;

fn instance(schema: &Value, seed: u64, depth: u32) -> Value {
    let choices =
        ["enum", "anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array().map(|all| (*key, all)));
    if let Some((key, all)) = choices.filter(|(_, all)| !all.is_empty()) {
        let chosen = &all[usize::try_from(seed % all.len() as u64).unwrap_or(0)];
        return if key == "enum" || depth >= DEEPEST {
            chosen.clone()
        } else {
            instance(chosen, seed, depth + 1)
        };
    }
    if let Some(fixed) = schema.get("const") {
        return fixed.clone();
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or("string"),
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    };
    match kind {
        "object" if depth < DEEPEST => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties.into_iter().flatten().zip(0..);
            Value::Object(
                members
                    .map(|((name, of), at)| (name.clone(), instance(of, mix(seed, at), depth + 1)))
                    .collect(),
            )
        }
        "array" if depth < DEEPEST => {
            let items = schema.get("items").unwrap_or(&Value::Null);
            Value::Array((0..1 + seed % 3).map(|at| instance(items, mix(seed, at), depth + 1)).collect())
        }
        "object" => Value::Object(serde_json::Map::new()),
        "array" => Value::Array(Vec::new()),
        "integer" => Value::from(seed % 100),
        "number" => Value::from((seed % 1_000) as f64 / 10.0),
        "boolean" => Value::from(seed.is_multiple_of(2)),
        "null" => Value::Null,
        _ => {
            let words = TONGUES[1].words;
            Value::from(words[usize::try_from(seed % words.len() as u64).unwrap_or(0)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wish(seed: u64, max_tokens: u32) -> Wish {
        Wish { seed, max_tokens, ..Wish::default() }
    }

    #[test]
    fn the_tokens_reported_are_those_in_the_text() {
        for seed in 0..200 {
            let answer = Answer::prose(&wish(seed, 1 + u32::try_from(seed).expect("small")));
            let found = u32::try_from(text::tokens(answer.text()).count()).expect("small");
            let silent = u32::from(answer.finish == Finish::Stop);
            assert_eq!(answer.tokens(), found + silent, "seed {seed}: {:?}", answer.text());
            let joined: String = (0..answer.tokens()).map(|at| answer.piece(at, at + 1)).collect();
            assert_eq!(joined, answer.text());
        }
    }

    #[test]
    fn answers_repeat_by_seed_and_speak_beyond_ascii() {
        assert_eq!(Answer::prose(&wish(5, 900)).text(), Answer::prose(&wish(5, 900)).text());
        assert_ne!(Answer::prose(&wish(5, 900)).text(), Answer::prose(&wish(6, 900)).text());
        let long = Answer::prose(&Wish { ignore_eos: true, ..wish(1, 2_000) });
        assert_eq!((long.tokens(), long.finish.reason()), (2_000, "length"));
        for sign in ['ü', 'é', '東', '春'] {
            assert!(long.text().contains(sign), "{sign}");
        }
    }

    #[test]
    fn limits_hold() {
        for (max, min) in [(1, 0), (10, 10), (400, 300), (400, 0)] {
            let answer = Answer::prose(&Wish { min_tokens: min, ..wish(3, max) });
            assert!(
                answer.tokens() <= max && answer.tokens() >= min.min(max),
                "{max} {min}: {}",
                answer.tokens()
            );
        }
    }

    #[test]
    fn a_stop_string_ends_the_answer_before_itself() {
        let full = Answer::prose(&wish(9, 500));
        let middle = text::tokens(full.text()).nth(7).map(|(_, piece)| piece.to_owned()).expect("longer");
        let cut =
            Answer::prose(&Wish { stop: vec!["\u{1}never".to_owned(), middle.clone()], ..wish(9, 500) });
        let at = full.text().find(&middle).expect("it is there");
        assert_eq!(cut.text(), &full.text()[..at]);
        assert_eq!(cut.finish, Finish::StopString(middle));
        assert!(cut.tokens() <= 8);
    }

    #[test]
    fn a_schema_is_obeyed() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "unit": {"enum": ["c", "f"]}, "n": {"type": ["integer", "null"]},
            "tags": {"type": "array", "items": {"type": "boolean"}}, "odd": {"anyOf": []}}});
        let answer = Answer::instance(&schema, &wish(4, 500), true);
        let value: Value = serde_json::from_str(answer.text()).expect("JSON");
        assert!(value["city"].is_string() && value["n"].is_u64() && value["tags"][0].is_boolean());
        assert!(value["unit"] == "c" || value["unit"] == "f");
        assert_eq!(answer.finish, Finish::ToolCalls);
        assert_eq!(Answer::instance(&schema, &wish(4, 3), true).finish, Finish::Length);
    }
}
