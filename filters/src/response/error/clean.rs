//! A server's message → one that a client may read. What is useful comes first in every engine's messages;
//! what must not go out comes after: file names of the server's source, stack lines, the request quoted back.

/// About 1 KiB: engines' own messages are below 500 bytes, and longer ones quote something.
const MAX_BYTES: usize = 1024;

/// Where the useful part of a message ends.
const CUTS: [&str; 9] = [
    "Traceback (most recent call last)",
    "File \"",   // Python's stack lines, SGLang's source
    "\n    at ", // stack lines of JavaScript and Java
    "stack backtrace:",
    "[type=", // Pydantic's print: [type=missing, input_value={…}, input_type=dict]
    "input_value=",
    "'input': ", // FastAPI's print of the request
    "\"input\": ",
    "For further information visit",
];

/// `message` without what follows its useful part, without file paths, in one line, bounded.
pub(super) fn text(message: &str) -> String {
    let end = CUTS.iter().filter_map(|cut| message.find(cut)).min().unwrap_or(message.len());
    let mut out = String::with_capacity(end.min(MAX_BYTES));
    for word in message[..end].split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        push_word(&mut out, word);
        if out.len() > MAX_BYTES {
            out.truncate(out.floor_char_boundary(MAX_BYTES));
            out.push('…');
            break;
        }
    }
    let useful = out.trim_end_matches([' ', '{', '(', '[', ',', ':', ';']).len();
    out.truncate(useful);
    out
}

/// A word, with the file path in it, if there is one, left out.
fn push_word(out: &mut String, word: &str) {
    let Some(start) = path_start(word) else { return out.push_str(word) };
    let end =
        word[start..].find(['"', '\'', '`', ')', ']', '>', ',', ';']).map_or(word.len(), |at| start + at);
    out.push_str(&word[..start]);
    out.push_str("[path]");
    out.push_str(&word[end..]);
}

/// Where a path of at least two steps from the root, or from a drive, begins. URLs and the API's own paths
/// are none.
fn path_start(word: &str) -> Option<usize> {
    if let Some(at) = word.find(":\\") {
        return Some(at.saturating_sub(1)).filter(|&drive| word.is_char_boundary(drive));
    }
    if let Some(at) = word.find("file://") {
        return Some(at);
    }
    if word.contains("://") {
        return None;
    }
    let at = word.find('/')?;
    let is_root = word[..at].chars().next_back().is_none_or(|before| "\"'`([<=:,~".contains(before));
    let path = &word[at..];
    let is_api = ["/v1/", "/v2/", "/api/"].iter().any(|api| path.starts_with(api));
    (is_root && !is_api && path[1..].contains('/')).then_some(at)
}
