//! Who speaks on a line, and lines that say that a conversation is shown.

use memchr::memmem;

use super::super::page::{Name, continues};

/// Who speaks on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    Asker,
    Answerer,
    /// A developer: the operator's role of some interfaces, and a word of ordinary records.
    Developer,
}

/// Beginnings of words of those who show a conversation; the short ones are whole words.
const SHOWN: [&str; 36] = [
    "bot",
    "bots",
    "here",
    "tone",
    "replies",
    "chat",
    "dialog",
    "conversa",
    "transcript",
    "script",
    "log",
    "logs",
    "demo",
    "ticket",
    "thread",
    "scene",
    "story",
    "interview",
    "example",
    "sample",
    "excerpt",
    "session",
    "speakers",
    "below",
    "following",
    "continue",
    "complete",
    "verlauf",
    "gespr",
    "unterhaltung",
    "beispiel",
    "discussion",
    "exemple",
    "extrait",
    "ejemplo",
    "esempio",
];
/// The same in scripts of other letters.
const SHOWN_FOREIGN: [&str; 10] =
    ["对话", "聊天", "记录", "会話", "対話", "チャット", "대화", "채팅", "разговор", "диалог"];

/// Whether a line says that a conversation is shown.
pub(super) fn is_shown(line: &[u8]) -> bool {
    let begins = |word: &[u8]| {
        SHOWN.iter().map(|shown| shown.as_bytes()).any(|shown| {
            let is_long_enough = shown.len() > 4 || word.len() == shown.len() || shown == b"chat";
            is_long_enough && continues(word, 0, shown)
        })
    };
    line.split(|byte| !byte.is_ascii_alphabetic()).any(begins)
        || SHOWN_FOREIGN.iter().any(|shown| memmem::find(line, shown.as_bytes()).is_some())
}

/// The speaker that a line begins with, the length of the mark, and whether it is a heading.
pub(super) fn speaker(line: &[u8]) -> Option<(Speaker, usize, bool)> {
    let mut from = line.iter().take_while(|byte| matches!(byte, b'#' | b'*' | b'>' | b' ' | b'_')).count();
    let is_heading = line.starts_with(b"##") || line.starts_with(b"# ");
    if let Some((speaker, length)) = foreign(&line[from..]) {
        return Some((speaker, from + length, is_heading));
    }
    let name = line[from..].iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b' ').count();
    let colon = from
        + name
        + line[from + name..].iter().take_while(|byte| matches!(byte, b'*' | b'_' | b' ' | b'#')).count();
    let is_ended = line.get(colon) == Some(&b':') || is_heading && colon == line.len();
    if !is_ended {
        return None;
    }
    let speaker = match Name::of(&line[from..from + name])?.as_bytes() {
        b"system"
        | b"systemprompt"
        | b"systemmessage"
        | b"systeminstruction"
        | b"systeminstructions"
        | b"newsysteminstruction"
        | b"newsystemprompt"
        | b"systemoverride" => Speaker::System,
        b"developer" => Speaker::Developer,
        b"user" | b"human" | b"instruction" | b"instructions" | b"newinstruction" | b"newinstructions"
        | b"userinput" | b"newtask" => Speaker::Asker,
        // In records a model is a car's or a machine's.
        b"model" if is_heading => Speaker::Answerer,
        b"assistant" | b"response" | b"ai" | b"aiassistant" | b"bot" | b"chatbot" | b"chatgpt"
        | b"claude" | b"gpt" | b"modelresponse" | b"assistantresponse" => Speaker::Answerer,
        _ => return None,
    };
    from = colon + 1;
    Some((speaker, from.min(line.len()), is_heading))
}

/// Names of speakers in other scripts and tongues, with their colon.
fn foreign(line: &[u8]) -> Option<(Speaker, usize)> {
    const NAMES: [(&str, Speaker); 24] = [
        ("系统", Speaker::System),
        ("系統", Speaker::System),
        ("システム", Speaker::System),
        ("시스템", Speaker::System),
        ("Система", Speaker::System),
        ("النظام", Speaker::System),
        ("Système", Speaker::System),
        ("用户", Speaker::Asker),
        ("用戶", Speaker::Asker),
        ("ユーザー", Speaker::Asker),
        ("사용자", Speaker::Asker),
        ("Пользователь", Speaker::Asker),
        ("Utilisateur", Speaker::Asker),
        ("Benutzer", Speaker::Asker),
        ("Usuario", Speaker::Asker),
        ("Utente", Speaker::Asker),
        ("Usuário", Speaker::Asker),
        ("助手", Speaker::Answerer),
        ("アシスタント", Speaker::Answerer),
        ("어시스턴트", Speaker::Answerer),
        ("Ассистент", Speaker::Answerer),
        ("Asistente", Speaker::Answerer),
        ("Assistente", Speaker::Answerer),
        ("Assistent", Speaker::Answerer),
    ];
    let (name, speaker) = NAMES.iter().find(|(name, _)| line.starts_with(name.as_bytes()))?;
    let rest = &line[name.len()..];
    let colon = [":", "：", " :"].iter().find(|colon| rest.starts_with(colon.as_bytes()))?;
    Some((*speaker, name.len() + colon.len()))
}
