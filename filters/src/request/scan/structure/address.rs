//! Does a hidden text speak to a model? Pages hide labels, templates and notes of their makers; none of those asks
//! for a particular *answer*. So four things are taken as an address, each of which needs a reader who writes:
//! 1. it names the model and gives an order;
//! 2. its first sentence presupposes an answer: an order about "your reply", where nobody had asked yet;
//! 3. it orders code that follows to be run or built in;
//! 4. it is up to three short sentences with an order such as people give a model, and nothing else ([`order`]).
//!
//! Longer tasks in many sentences are not taken: hidden prompts of that kind are found in harmless pages (drafts,
//! exercises, forms), and the learned layer reads them anyway.

use memchr::{memchr2_iter, memmem};

use super::super::Severity;
use super::Hiding;
use super::page::{contains, has_words};

mod far_east;
mod lexicon;
mod order;

/// How far a hidden text is read.
const REACH: usize = 1024;
/// The longest first sentence.
const SENTENCE: usize = 240;
/// Whether `text` may be what a template says under a heading about what to write there.
pub(super) fn fills_template(text: &str) -> bool {
    order::fills_template(text) && !order::calls_model(text) && !orders_model(text.as_bytes())
}

/// How surely `text`, hidden by `hiding`, speaks to a model; `None` if it does not seem to.
pub(super) fn to_model(text: &str, hiding: Hiding) -> Option<Severity> {
    let text = order::unwrapped(text);
    let text = &text[..text.floor_char_boundary(REACH)];
    let first = first_sentence(text);
    if orders_model(text.as_bytes())
        || presupposes_answer(first)
        || orders_code(text, first)
        || order::calls_model(text)
        || order::is_task(text, hiding)
    {
        return Some(Severity::High);
    }
    let beginning = &text.as_bytes()[..text.len().min(SENTENCE)];
    ANSWERS_ELSEWHERE.iter().any(|words| contains(beginning, words.as_bytes())).then_some(Severity::Medium)
}

fn first_sentence(text: &str) -> &[u8] {
    let bytes = text.as_bytes();
    let bytes = &bytes[..bytes.len().min(SENTENCE)];
    let ends = |at: usize| match bytes[at] {
        b'\n' => true,
        b'.' | b'?' | b'!' => bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace),
        _ => false,
    };
    let end = (0..bytes.len()).find(|&at| ends(at)).unwrap_or(bytes.len());
    &bytes[..end]
}

/// Who is spoken to, by first letter.
const MODELS: [(u8, &[&str]); 12] = [
    (0xD1, &["языковая модель", "языковой модел", "языковым модел"]),
    (
        b'a',
        &[
            "ai assistant",
            "ai assistants",
            "ai agent",
            "ai agents",
            "ai model",
            "ai models",
            "ai reviewer",
            "ai reviewers",
            "ai system",
            "ai systems",
            "ai tool",
            "ai tools",
            "ai bot",
            "ai bots",
            "ai crawler",
            "ai crawlers",
            "an ai",
            "attention ai",
            "automated assistant",
            "automated assistants",
            "assistant ia",
            "assistants ia",
            "asistente de ia",
            "asistentes de ia",
            "assistente de ia",
            "assistente ia",
        ],
    ),
    (b'c', &["chatgpt", "chatbot", "chatbots", "coding agent", "coding agents", "coding assistant"]),
    (b'd', &["dear assistant"]),
    (b'f', &["for ai"]),
    (b'k', &["ki-assistent", "ki-assistenten", "ki-modell", "ki-modelle", "ki-system"]),
    (b'l', &["language model", "language models", "llm", "llms"]),
    (b'm', &["modelo de lenguaje", "modelo de linguagem", "modello linguistico"]),
    (b'n', &["note to ai"]),
    (b'r', &["reviewer model", "reviewer models"]),
    (b's', &["sprachmodell"]),
    (b't', &["to ai"]),
];
/// What makes a sentence an order.
const ORDERS: [&[u8]; 16] = [
    b"must",
    b"should",
    b"please",
    b"do not",
    b"don't",
    b"always",
    b"never",
    b"instead",
    b"ignore",
    b"respond",
    b"reply",
    b"answer",
    b"include",
    b"follow",
    b"run",
    b"you are to",
];

fn orders_model(text: &[u8]) -> bool {
    names_model(text) && ORDERS.iter().any(|order| contains_word(text, order))
}

fn names_model(text: &[u8]) -> bool {
    name_end(text).is_some()
}

/// Where the first name of a model ends.
fn name_end(text: &[u8]) -> Option<usize> {
    let mut is_start = true;
    for (at, byte) in text.iter().enumerate() {
        if is_start
            && let Some((_, names)) = MODELS.iter().find(|(first, _)| *first == byte.to_ascii_lowercase())
        {
            let found = names.iter().find(|name| is_word_at(text, at, name.as_bytes()));
            if let Some(name) = found {
                return Some(at + name.len());
            }
        }
        is_start = !byte.is_ascii_alphanumeric();
    }
    None
}

/// What a model gives. Compared as beginnings of words.
const ANSWERS: [&[u8]; 11] = [
    b"response",
    b"answer",
    b"reply",
    b"replies",
    b"output",
    b"message",
    b"solution",
    b"code",
    b"implementation",
    b"summary",
    b"translation",
];
/// First words of sentences that speak to a person about an answer: forms, mails, notes.
const TO_PEOPLE: [&[u8]; 32] = [
    b"your", b"enter", b"type", b"submit", b"post", b"leave", b"edit", b"save", b"view", b"see", b"check",
    b"thank", b"thanks", b"rate", b"mark", b"select", b"choose", b"we", b"i", b"once", b"after", b"when",
    b"if", b"read", b"send", b"get", b"the", b"this", b"a", b"an", b"click", b"share",
];
/// Words that point at a form.
const FORMS: [&[u8]; 8] = [b"here", b"below", b"box", b"field", b"form", b"button", b"comment", b"contact"];

/// An order about "your reply".
fn presupposes_answer(sentence: &[u8]) -> bool {
    if !has_words(sentence, 4) || TO_PEOPLE.iter().any(|word| first_word(sentence).eq_ignore_ascii_case(word))
    {
        return false;
    }
    let has_answer = words_behind(sentence, b"your").any(|rest| {
        let next = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(3);
        next.into_iter().any(|word| ANSWERS.iter().any(|answer| starts_with(word, answer)))
    });
    has_answer && !points_at_form(sentence)
}

fn points_at_form(sentence: &[u8]) -> bool {
    FORMS.iter().any(|word| contains_word(sentence, word)) && !contains(sentence, b"from here on")
}

/// An order to take up code that follows.
fn orders_code(text: &str, sentence: &[u8]) -> bool {
    let is_order = !TO_PEOPLE.iter().any(|word| first_word(sentence).eq_ignore_ascii_case(word));
    let names_code =
        [&b"code"[..], b"snippet", b"script", b"command"].iter().any(|word| contains_word(sentence, word));
    let points_on = [&b"following"[..], b"subsequent", b"below", b"next"]
        .iter()
        .any(|word| contains_word(sentence, word));
    is_order && names_code && points_on && memmem::find(&text.as_bytes()[sentence.len()..], b"```").is_some()
}

/// "Your answer" in other languages. Forms say it too, and what else a form says is not listed here.
const ANSWERS_ELSEWHERE: [&str; 26] = [
    "votre réponse",
    "ta réponse",
    "tes réponses",
    "deiner antwort",
    "deine antwort",
    "ihre antwort",
    "ihrer antwort",
    "tu respuesta",
    "su respuesta",
    "tua risposta",
    "sua risposta",
    "sua resposta",
    "tua resposta",
    "你的回答",
    "您的回答",
    "你的回复",
    "回答中",
    "回复中",
    "あなたの回答",
    "回答に",
    "返答に",
    "응답에",
    "답변에",
    "твоём ответе",
    "вашем ответе",
    "yanıtında",
];

fn first_word(sentence: &[u8]) -> &[u8] {
    let sentence = sentence.trim_ascii_start();
    let end = sentence.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(sentence.len());
    &sentence[..end]
}

fn starts_with(word: &[u8], beginning: &[u8]) -> bool {
    word.get(..beginning.len()).is_some_and(|part| part.eq_ignore_ascii_case(beginning))
}

/// What stands behind each place of `word` in `bytes`.
fn words_behind<'a>(bytes: &'a [u8], word: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    memchr2_iter(word[0], word[0].to_ascii_uppercase(), bytes)
        .filter(move |&at| is_word_at(bytes, at, word))
        .map(move |at| &bytes[at + word.len()..])
}

fn contains_word(bytes: &[u8], word: &[u8]) -> bool {
    words_behind(bytes, word).next().is_some()
}

fn is_word_at(bytes: &[u8], at: usize, word: &[u8]) -> bool {
    starts_with(&bytes[at..], word)
        && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric())
        && !bytes.get(at + word.len()).is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests;
