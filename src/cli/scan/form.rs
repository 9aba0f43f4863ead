//! Whether a line of `tollgate scan` holds a prompt in the form that is documented. What cannot be understood is a fault
//! of the line: "nothing found" would be read as a verdict on it.

use tollgate_filters::json::{JsonError, Kind, Reader};

/// Nesting of a line's JSON.
pub(super) const MOST_DEPTH: u32 = 64;

/// Says what is wrong with a line, if something is.
pub(super) fn check(line: &[u8]) -> Result<&str, String> {
    let text = simdutf8::compat::from_utf8(line)
        .map_err(|error| format!("expected UTF-8, found other bytes at {}", error.valid_up_to()))?;
    let mut fault = None;
    let others = keys(line, &mut fault).map_err(|error| error.to_string())?;
    match (fault, others) {
        (Some(fault), _) => Err(fault),
        (None, None) => Ok(text),
        (None, Some(others)) if others.is_empty() => {
            Err("expected `text` or `messages`, found neither".to_owned())
        }
        (None, Some(others)) => {
            Err(format!("expected `text` or `messages`, found neither, but {}", others.join(", ")))
        }
    }
}

/// The JSON text of a line's `id`, as far as the line can be read.
pub(super) fn id(line: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(line, MOST_DEPTH);
    reader.enter_object().ok()?;
    while let Some(key) = reader.next_key().ok()? {
        let value = reader.skip().ok()?;
        if key.is("id") {
            // What is given back has to be JSON in UTF-8.
            return line.get(value).filter(|id| std::str::from_utf8(id).is_ok());
        }
    }
    None
}

/// Reads the keys of a line, and notes the first fault. Gives the keys that say nothing here, if none holds a prompt.
fn keys(line: &[u8], fault: &mut Option<String>) -> Result<Option<Vec<String>>, JsonError> {
    let mut reader = Reader::new(line, MOST_DEPTH);
    let (mut has_prompt, mut others) = (false, Vec::new());
    reader.enter_object()?;
    while let Some(key) = reader.next_key()? {
        match key.value().as_ref() {
            "text" => {
                has_prompt = true;
                expect("text", &mut reader, &[Kind::String], fault)?;
            }
            "messages" => {
                has_prompt = true;
                messages(&mut reader, fault)?;
            }
            "conversation" => expect("conversation", &mut reader, &[Kind::String, Kind::Null], fault)?,
            "id" => _ = reader.skip()?,
            other => {
                if others.len() < 8 {
                    others.push(format!("`{}`", other.chars().take(40).collect::<String>()));
                }
                reader.skip()?;
            }
        }
    }
    reader.end()?;
    Ok(Some(others).filter(|_| !has_prompt))
}

fn messages(reader: &mut Reader<'_>, fault: &mut Option<String>) -> Result<(), JsonError> {
    if reader.peek()? != Kind::Array {
        return expect("messages", reader, &[Kind::Array], fault);
    }
    reader.enter_array()?;
    let mut index = 0_usize;
    while reader.next_item()? {
        let place = format!("messages[{index}]");
        index += 1;
        if reader.peek()? != Kind::Object {
            expect(&place, reader, &[Kind::Object], fault)?;
            continue;
        }
        reader.enter_object()?;
        while let Some(key) = reader.next_key()? {
            let kinds: &[Kind] = match key.value().as_ref() {
                "role" => &[Kind::String],
                "content" => &[Kind::String, Kind::Array, Kind::Null],
                _ => {
                    reader.skip()?;
                    continue;
                }
            };
            expect(&format!("{place}.{}", key.value()), reader, kinds, fault)?;
        }
    }
    Ok(())
}

/// Passes over a value, which must be of one of these kinds.
fn expect(
    place: &str,
    reader: &mut Reader<'_>,
    kinds: &[Kind],
    fault: &mut Option<String>,
) -> Result<(), JsonError> {
    let found = reader.peek()?;
    if !kinds.contains(&found) && fault.is_none() {
        let wanted: Vec<_> = kinds.iter().map(|kind| name(*kind)).collect();
        *fault = Some(format!("{place}: expected {}, found {}", wanted.join(" or "), name(found)));
    }
    reader.skip()?;
    Ok(())
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "an object",
        Kind::Array => "a list",
        Kind::String => "a string",
        Kind::Number => "a number",
        Kind::Bool => "true or false",
        Kind::Null => "null",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, expected) in [
            (r#"{"id":1,"text":"a"}"#, Ok(())),
            (
                r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null}],"x":1}"#,
                Ok(()),
            ),
            (r#"{"messages":[],"conversation":null}"#, Ok(())),
            (r#"{"id":1,"prompt":"a"}"#, Err("expected `text` or `messages`, found neither, but `prompt`")),
            (r#"{"id":1,"Text":"a"}"#, Err("expected `text` or `messages`, found neither, but `Text`")),
            ("{}", Err("expected `text` or `messages`, found neither")),
            (r#"{"text":7}"#, Err("text: expected a string, found a number")),
            (
                r#"{"text":"a","conversation":7}"#,
                Err("conversation: expected a string or null, found a number"),
            ),
            (r#"{"messages":"a"}"#, Err("messages: expected a list, found a string")),
            (r#"{"messages":[{},"a"]}"#, Err("messages[1]: expected an object, found a string")),
            (
                r#"{"messages":[{"role":"user","content":5}]}"#,
                Err("messages[0].content: expected a string or a list or null, found a number"),
            ),
            ("[]", Err("expected an object at byte 0")),
            (r#"{"text":"a"} x"#, Err("expected the end of the text at byte 13")),
            (r#"{"text":"a"#, Err("expected the end of a string at byte 10")),
        ] {
            assert_eq!(check(line.as_bytes()).map(|_| ()), expected.map_err(str::to_owned), "{line}");
        }
        assert!(check(b"{\"text\":\"\xff\"}").is_err_and(|fault| fault.contains("UTF-8")));
    }

    #[test]
    fn a_bad_line_keeps_its_id_where_that_can_be_read() {
        for (line, expected) in [
            (&br#"{"id":"a","text":7}"#[..], Some(&br#""a""#[..])),
            (br#"{"text":7,"id":[1, 2]}"#, Some(b"[1, 2]")),
            (br#"{"id":7,"text":"a"#, Some(b"7")),
            (br#"{"text":"a"#, None),
            (b"{\"id\":\"\xff\",\"text\":7}", None),
            (b"nonsense", None),
        ] {
            assert_eq!(id(line), expected);
        }
    }
}
