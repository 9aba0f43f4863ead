//! ROT13 and other moves of the alphabet, the alphabet from its end, and text written backwards. None has a sign of its own; what
//! gives them away is that letters follow each other as in words only after the change. A text is judged line by line and sentence by
//! sentence, and of the middle of a long one samples are: a short sentence of that kind in the middle of a long document is not seen.
//!
//! Of other alphabets than the Latin one it is not known how letters follow each other. Cyrillic words backwards are told by their
//! beginnings and ends; short texts in Chinese, Japanese and Korean are read backwards if none of the commonest pairs of their characters
//! is there, and longer ones that speak of it.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use memchr::memchr3_iter;

use super::super::view::{Likelihood, Trace, mirrored, moved_by};
use super::{Budget, Encoding, Piece};

/// Letters that are judged together: two lines.
const WINDOW: usize = 96;
/// Letters of a window that are looked at first: in nearly all texts they read best as they stand.
const FIRST: usize = 36;
/// The same where that is clear: of six windows in ten. Of sentences in one of the ciphers one in two hundred is not seen for it.
const FEW: usize = 16;
const FEW_MARGIN: i32 = 4;
/// How far apart windows of one sentence begin.
const STEP: usize = 192;
/// Shorter sentences are judged with the next one.
const SENTENCE: usize = 24;
/// What is judged in full, half of it at either end of a text; in between a window in each of as many bytes is.
const FULL: usize = 4096;
const APART: usize = 1024;
/// Texts in Chinese, Japanese and Korean up to this length are read backwards: some 200 letters.
const SHORT: usize = 600;
/// What is read around a window that was recognised: the sentences beside it, or up to the next ones where samples are taken.
const AROUND: usize = 256;
const AROUND_SAMPLE: usize = APART + WINDOW;

static PAIRS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(FORWARDS).ok());
static SAYINGS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(BACKWARDS).ok());

/// Makes what the first text would wait for.
pub(super) fn prepare() {
    LazyLock::force(&PAIRS);
    LazyLock::force(&SAYINGS);
}

/// Reads the parts that look like one of the ciphers, but for that one which would undo what `text` was taken out of.
pub(super) fn find(text: &str, outer: Option<Encoding>, budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let bytes = text.as_bytes();
    // What each cipher was recognised in last, to be read once it is known how far it goes.
    let mut parts: Vec<(Encoding, Range<usize>)> = Vec::new();
    let mut is_reversed = outer == Some(Encoding::Reversed);
    for_each_window(bytes, |window, around| {
        let letters = &bytes[window.clone()];
        // None is told by letters of other alphabets.
        if letters.iter().take(FIRST).filter(|byte| byte.is_ascii()).count() * 2 < FIRST.min(letters.len()) {
            return;
        }
        let (few, rest) = letters[..letters.len().min(FIRST)].split_at(letters.len().min(FEW));
        let few_sum = Likelihood::of(few);
        if few_sum.is_plain_by(FEW_MARGIN) || few_sum.with(rest, few.last()).is_plain_by(1) {
            return;
        }
        let sum = Likelihood::of(letters);
        let turned = [(Encoding::Rot13, sum.is_rot13()), (Encoding::Reversed, sum.is_reversed())];
        let turned = turned.into_iter().filter(|(_, is_seen)| *is_seen).map(|(encoding, _)| encoding);
        let is_neither = !sum.is_rot13() && !sum.is_reversed();
        let moved = || sum.moved(letters).map(Encoding::Caesar);
        let mirrored = || sum.is_mirrored(letters).then_some(Encoding::Atbash);
        let other = is_neither.then(|| moved().or_else(mirrored)).flatten();
        for encoding in turned.chain(other) {
            if outer == Some(encoding.undone_by()) || !has_few_digits(letters) {
                continue;
            }
            is_reversed |= encoding == Encoding::Reversed;
            let around = window.start.saturating_sub(around)..(window.end + around).min(bytes.len());
            match parts.iter_mut().find(|(other, _)| *other == encoding) {
                Some((_, part)) if part.end >= around.start => part.end = around.end,
                Some((_, part)) => read(text, std::mem::replace(part, around), encoding, budget, pieces),
                None => parts.push((encoding, around)),
            }
        }
    });
    for (encoding, part) in parts {
        read(text, part, encoding, budget, pieces);
    }
    if !is_reversed && may_be_reversed(text) {
        read(text, 0..text.len(), Encoding::Reversed, budget, pieces);
    }
}

/// The lines and sentences of a text, cut to windows, each with how much is to be read around it.
fn for_each_window(bytes: &[u8], mut see: impl FnMut(Range<usize>, usize)) {
    let mut see_sentence = |window| see(window, AROUND);
    if bytes.len() <= FULL {
        return for_each_sentence(bytes, 0..bytes.len(), &mut see_sentence);
    }
    let middle = FULL / 2..bytes.len() - FULL / 2;
    for_each_sentence(bytes, 0..middle.start, &mut see_sentence);
    middle.clone().step_by(APART).for_each(|at| see(at..(at + WINDOW).min(bytes.len()), AROUND_SAMPLE));
    for_each_sentence(bytes, middle.end..bytes.len(), &mut |window| see(window, AROUND));
}

fn for_each_sentence(bytes: &[u8], of: Range<usize>, see: &mut impl FnMut(Range<usize>)) {
    let mut start = of.start;
    let ends = memchr3_iter(b'.', b'\n', b':', &bytes[of.clone()]).map(|at| of.start + at + 1);
    for end in ends.chain([of.end]) {
        if end - start < SENTENCE && end != of.end || end - start < MIN_TAIL {
            continue;
        }
        let mut at = start;
        while at < end {
            see(at..(at + WINDOW).min(end));
            at += STEP;
        }
        start = end;
    }
}

/// Whether a text is in another alphabet and reads as if it were backwards, is too short to tell, or speaks of it.
fn may_be_reversed(text: &str) -> bool {
    if text.len() > FULL || text.is_ascii() {
        return false;
    }
    // Its beginning tells which alphabet it is in.
    let head = &text.as_bytes()[..text.len().min(SHORT)];
    let count = |of: fn(&u8) -> bool| head.iter().filter(|byte| of(byte)).count();
    if count(|byte| !byte.is_ascii()) * 3 < head.len() {
        return false;
    }
    // Han, kana and Hangul.
    let is_short = text.len() <= SHORT && count(|byte| matches!(byte, 0xe3..=0xed)) * 6 > head.len();
    let is_cyrillic = || count(|byte| matches!(byte, 0xd0 | 0xd1)) * 6 > head.len();
    (is_short && !reads_forwards(text))
        || (is_cyrillic() && has_reversed_words(text))
        || speaks_of_reversing(text)
}

/// Whether a text in Chinese, Japanese or Korean has what only a text has that reads forwards.
fn reads_forwards(text: &str) -> bool {
    PAIRS.as_ref().is_some_and(|pairs| pairs.is_match(text))
}

/// Characters that often follow each other and seldom the other way round; particles of Korean with the blank behind them.
const FORWARDS: [&str; 96] = [
    "什么",
    "什麼",
    "怎么",
    "怎麼",
    "如何",
    "我们",
    "我們",
    "可以",
    "一个",
    "一個",
    "这个",
    "這個",
    "以下",
    "不是",
    "没有",
    "沒有",
    "帮我",
    "幫我",
    "给我",
    "請你",
    "请你",
    "我的",
    "你的",
    "因为",
    "所以",
    "如果",
    "自己",
    "现在",
    "知道",
    "时候",
    "使用",
    "进行",
    "需要",
    "应该",
    "问题",
    "問題",
    "关于",
    "介绍",
    "解释",
    "推荐",
    "哪些",
    "这些",
    "一些",
    "起来",
    "出来",
    "一下",
    "多少",
    "根据",
    "生成",
    "内容",
    "文章",
    "翻译",
    "分析",
    "设计",
    "写一",
    "です",
    "ます",
    "した",
    "して",
    "から",
    "こと",
    "ない",
    "する",
    "いる",
    "この",
    "その",
    "もの",
    "さい",
    "とは",
    "では",
    "には",
    "という",
    "について",
    "どう",
    "教えて",
    "를 ",
    "을 ",
    "는 ",
    "은 ",
    "의 ",
    "에 ",
    "이 ",
    "가 ",
    "에서",
    "으로",
    "니다",
    "세요",
    "해줘",
    "어떻",
    "무엇",
    "대한",
    "있는",
    "하고",
    "에게",
    "것은",
    "하는",
];

/// Whether Cyrillic words begin as they can only end, or end in a capital.
fn has_reversed_words(text: &str) -> bool {
    // The standard library takes long to look up letters outside ASCII.
    let is_letter = |c: char| c.is_ascii_alphabetic() || ('\u{400}'..='\u{52f}').contains(&c);
    let mut last = [' '; 3];
    text[..text.floor_char_boundary(2 * SHORT)].chars().chain([' ']).any(|c| {
        let [first, second, third] = last;
        last = [second, third, c];
        let is_end =
            matches!((second, third), ('ь' | 'ъ' | 'ы', _) | ('й', 'а' | 'е' | 'и' | 'у' | 'ы' | 'я'));
        let is_capital_last = matches!((first, second, third), ('а'..='я', 'а'..='я', 'А'..='Я'));
        (is_end && !is_letter(first) && is_letter(c) && is_letter(third))
            || (is_capital_last && !is_letter(c))
    })
}

/// Whether it says so at one of its ends.
fn speaks_of_reversing(text: &str) -> bool {
    let head = &text[..text.floor_char_boundary(SAID)];
    let tail = &text[text.ceil_char_boundary(text.len().saturating_sub(SAID))..];
    SAYINGS.as_ref().is_some_and(|words| words.is_match(head) || (text.len() > SAID && words.is_match(tail)))
}

/// Bytes at an end of a text where it is said what to do with it.
const SAID: usize = 256;

/// Words for it.
const BACKWARDS: [&str; 10] =
    ["backward", "revers", "наоборот", "задом", "обратном", "逆", "倒", "后往前", "거꾸로", "뒤집"];

/// A window with less in it decides nothing.
const MIN_TAIL: usize = 16;

/// The letters of hashes are those of hex digits, which ROT13 turns into more frequent ones.
fn has_few_digits(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| byte.is_ascii_digit()).count() * 10 < bytes.len()
}

fn read(text: &str, part: Range<usize>, encoding: Encoding, budget: &mut Budget, pieces: &mut Vec<Piece>) {
    let start = text.floor_char_boundary(part.start);
    let end = part.end.min(start + budget.bytes);
    budget.is_spent |= end < part.end;
    let span = start..text.floor_char_boundary(end).max(start);
    if span.len() < MIN_TAIL {
        return;
    }
    let part = &text[span.clone()];
    let text = match encoding {
        Encoding::Rot13 => move_letters(part, 13),
        Encoding::Caesar(by) => move_letters(part, by),
        Encoding::Atbash => {
            part.chars().map(|c| if c.is_ascii() { char::from(mirrored(c as u8)) } else { c }).collect()
        }
        Encoding::Reversed => part.chars().rev().collect(),
        _ => return,
    };
    budget.keep(pieces, Piece { encoding, span, text });
}

fn move_letters(text: &str, by: u8) -> String {
    text.chars().map(|c| if c.is_ascii() { char::from(moved_by(c as u8, by)) } else { c }).collect()
}

/// Where each character of `text` went when it was reversed.
pub(super) fn trace_reversed(text: &str, trace: &mut impl Trace) {
    for (at, c) in text.char_indices().rev() {
        trace.replaced(text.len() - at - c.len_utf8(), at);
    }
}
