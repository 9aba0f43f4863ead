//! Lines that say where a part of a prompt begins or ends: words between runs of marks. People frame their own
//! material that way, so what counts is who can know: that *the user's input* has ended is known to the frame
//! around it alone.

use super::page::Name;

/// What a fence says.
pub(super) enum Fence {
    /// Something begins that the writer of the text may well frame himself.
    Begin,
    /// It ends.
    End,
    /// What the user says ends: only the frame around the user's text can know.
    EndOfInput,
    /// The operator's words begin.
    BeginSystem,
}

/// What a line says if it is a fence: words between runs of marks.
pub(super) fn read(line: &[u8]) -> Option<Fence> {
    let is_mark = |byte: &u8| b"-=#*<>[]_~+| \r()".contains(byte);
    let left = line.iter().take_while(|byte| is_mark(byte)).count();
    let marks = line.iter().take(left).filter(|byte| **byte != b' ').count();
    if marks < 2 && line.first() != Some(&b'[') || left == line.len() {
        return None;
    }
    let right = line.iter().rev().take_while(|byte| is_mark(byte)).count();
    let words = &line[left..line.len() - right];
    // A comment of a program has marks on its left only, and few.
    let closes = right > 0 || marks >= 3;
    if !closes || words.len() > 60 || words.contains(&b':') {
        return None;
    }
    let mut ends = false;
    let mut begins = false;
    let mut system = false;
    let mut user = false;
    let mut input = false;
    let mut other = false;
    for word in words.split(|byte| !byte.is_ascii_alphanumeric()) {
        let Some(word) = Name::of(word) else { continue };
        match word.as_bytes() {
            b"end" | b"stop" | b"close" | b"eof" | b"fin" | b"ende" | b"terminate" => ends = true,
            b"begin" | b"start" | b"new" | b"begins" | b"debut" | b"beginn" | b"beginning" => begins = true,
            b"system" | b"developer" | b"admin" | b"instruction" | b"instructions" | b"override" => {
                system = true
            }
            b"user" => user = true,
            b"input" | b"query" | b"prompt" => input = true,
            b"document" | b"context" | b"message" | b"data" | b"conversation" | b"text" | b"content"
            | b"email" | b"file" | b"session" => other = true,
            // PGP and mail programs have fences of their own.
            b"pgp" | b"forwarded" | b"original" | b"certificate" | b"key" | b"signature" => return None,
            _ => {}
        }
    }
    input |= user;
    match (ends, begins) {
        (true, _) if input && !system && (user || right > 0) => Some(Fence::EndOfInput),
        (true, _) if system || other || input => Some(Fence::End),
        (false, true) if system => Some(Fence::BeginSystem),
        (false, true) if input || other => Some(Fence::Begin),
        _ => None,
    }
}
