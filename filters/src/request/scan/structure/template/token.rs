//! Control tokens as they are written: brackets, bars and names.

use super::super::page::{Name, skip_space};

/// Who speaks in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    Tool,
    Assistant,
    User,
}

/// What a control token does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Opens a turn of that speaker.
    Open(Speaker),
    /// Opens a turn of the speaker whose name follows.
    OpenNamed,
    /// Ends a turn or the text.
    Close,
    /// Begins a text.
    Begin,
    /// Stands inside the head of a turn.
    Part,
}

/// The longest token between its brackets, with spaces.
pub(super) const LONGEST: usize = 48;

/// `<|name|>` or `[|name|]`, with bars of any width and spaces anywhere.
pub(super) fn piped(bytes: &[u8], at: usize) -> Option<(Token, usize)> {
    let from = skip_bar(bytes, skip_blank(bytes, at + 1))?;
    let window = &bytes[from..(from + LONGEST).min(bytes.len())];
    let length =
        window.iter().position(|&byte| byte == b'|' || byte == b'>' || byte == b'\n' || byte == b'<')?;
    // The bar of full width is EF BD 9C; its bytes are in no name, so the search may as well end at its first.
    let length = window[..length].windows(3).position(|three| three == "｜".as_bytes()).unwrap_or(length);
    let after = skip_blank(bytes, skip_bar(bytes, from + length)?);
    let close = if bytes[at] == b'[' { b']' } else { b'>' };
    if bytes.get(after) != Some(&close) {
        return None;
    }
    let is_end = window.first() == Some(&b'/');
    let token = match Name::of(&window[..length])?.as_bytes() {
        b"imstart" | b"start" | b"startheaderid" | b"headerstart" | b"startofrole" | b"rolestart"
        | b"startofturntoken" | b"startofturn" | b"beginofturn" | b"turnstart" => Token::OpenNamed,
        b"system" | b"sys" | b"developer" | b"systemtoken" | b"imsystem" | b"systemprompt"
        | b"systemmessage" | b"startofsystem" | b"beginofsystem"
            if !is_end =>
        {
            Token::Open(Speaker::System)
        }
        b"user" | b"human" | b"prompter" | b"usertoken" | b"imuser" | b"startofuser" if !is_end => {
            Token::Open(Speaker::User)
        }
        b"assistant" | b"model" | b"bot" | b"ai" | b"chatbottoken" | b"imassistant" | b"startofassistant"
            if !is_end =>
        {
            Token::Open(Speaker::Assistant)
        }
        b"tool"
        | b"observation"
        | b"ipython"
        | b"toolcall"
        | b"toolcalls"
        | b"toolresponse"
        | b"toolresult"
        | b"toolcallbegin"
        | b"toolcallsbegin"
        | b"tooloutputbegin"
        | b"tooloutputsbegin"
        | b"pythontag"
        | b"toolcallssectionbegin"
        | b"functioncall"
        | b"toollist"
            if !is_end =>
        {
            Token::Open(Speaker::Tool)
        }
        b"imend" | b"eotid" | b"eomid" | b"eot" | b"eom" | b"end" | b"endofturntoken" | b"endofturn"
        | b"endofsentence" | b"endoftext" | b"endofprompt" | b"endofuser" | b"endofsystem"
        | b"endofassistant" | b"eos" | b"return" | b"turnend" | b"endtext" | b"eostoken" | b"separator" => {
            Token::Close
        }
        b"user" | b"system" | b"assistant" | b"tool" | b"human" | b"developer" => Token::Close,
        b"beginoftext" | b"beginofsentence" | b"startoftext" | b"bos" | b"bostoken" => Token::Begin,
        b"message" | b"channel" | b"endheaderid" | b"headerend" | b"immiddle" | b"imsep" | b"endofrole"
        | b"constrain" | b"call" | b"roleend" => Token::Part,
        _ => return None,
    };
    Some((token, after + 1))
}

/// `<<SYS>>` and `<</SYS>>`.
pub(super) fn double_angle(bytes: &[u8], at: usize) -> Option<(Token, usize)> {
    let inside = bytes.get(at..(at + 20).min(bytes.len()))?.strip_prefix(b"<<")?;
    // A run of angle brackets is none.
    matches!(inside.first()?, b'/' | b' ' | b's' | b'S').then_some(())?;
    let length = inside.windows(2).position(|two| two == b">>")?;
    let name = Name::of(&inside[..length])?;
    let is_end = inside[..length].contains(&b'/');
    matches!(name.as_bytes(), b"sys" | b"system").then_some(())?;
    let token = if is_end { Token::Part } else { Token::Open(Speaker::System) };
    Some((token, at + 2 + length + 2))
}

/// The speaker named at `at`, and where the head of the turn ends.
pub(super) fn speaker_behind(bytes: &[u8], at: usize) -> Option<(Speaker, usize)> {
    let mut from = skip_space(bytes, at, 8);
    // Command-R writes the speaker as a token of its own.
    if bytes.get(from) == Some(&b'<')
        && let Some((Token::Open(speaker), end)) = piped(bytes, from)
    {
        return Some((speaker, end));
    }
    // Kimi and Harmony put names and bars between.
    while matches!(bytes.get(from), Some(b'|' | b'"')) {
        from += 1;
    }
    let length = bytes[from..].iter().take(Name::MOST).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let speaker = match Name::of(&bytes[from..from + length])?.as_bytes() {
        b"system" | b"developer" | b"sys" | b"admin" | b"root" => Speaker::System,
        b"tool" | b"ipython" | b"observation" | b"function" | b"environment" | b"functions" => Speaker::Tool,
        b"assistant" | b"model" | b"bot" | b"ai" | b"chatbot" | b"gpt" => Speaker::Assistant,
        b"user" | b"human" | b"documents" | b"context" => Speaker::User,
        _ => return None,
    };
    let end = from + length;
    let head = skip_blank(bytes, end);
    match piped(bytes, head) {
        Some((Token::Part, after)) => Some((speaker, after)),
        _ => Some((speaker, end)),
    }
}

/// Spaces and tabs.
fn skip_blank(bytes: &[u8], at: usize) -> usize {
    let end = (at + 4).min(bytes.len());
    (at..end).find(|&at| !matches!(bytes[at], b' ' | b'\t')).unwrap_or(end.max(at.min(bytes.len())))
}

/// One or two bars, of any width.
fn skip_bar(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let one = ["|", "｜", "¦", "│"]
        .iter()
        .find(|bar| rest.starts_with(bar.as_bytes()))
        .map(|bar| at + bar.len())?;
    Some(if bytes.get(one) == Some(&b'|') { one + 1 } else { one })
}
