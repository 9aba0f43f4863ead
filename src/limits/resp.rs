//! RESP2, the protocol of Valkey and Redis (<https://valkey.io/topics/protocol/>): commands are written, replies read as
//! they come. Only what the gateway's few commands need; what a server must not send ends the connection.

use bytes::{Buf, BytesMut};

/// The longest text and the longest list of a reply. Ours are a few hundred bytes.
const LONGEST: usize = 1 << 20;
/// Lists in lists: Sentinel's and ROLE's have two.
const DEEPEST: usize = 4;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A word of state, such as `OK`, or a text.
    Text(String),
    /// What went wrong, beginning with a code such as `NOSCRIPT`.
    Error(String),
    /// A number.
    Number(i64),
    /// Nothing.
    Nothing,
    /// A list.
    List(Vec<Value>),
}

impl Value {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The number, if it is one.
    pub(crate) fn number(&self) -> Option<i64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    /// The items, if it is a list.
    pub(crate) fn list(&self) -> Option<&[Value]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }
}

/// Appends a command.
pub(crate) fn command(out: &mut BytesMut, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Takes the next reply out of `input`; `None` if it is not all there yet.
///
/// # Errors
/// What came is not RESP2.
pub(crate) fn reply(input: &mut BytesMut) -> Result<Option<Value>, String> {
    let mut rest: &[u8] = input;
    let Some(value) = value(&mut rest, 0)? else { return Ok(None) };
    let length = input.len() - rest.len();
    input.advance(length);
    Ok(Some(value))
}

fn value(input: &mut &[u8], depth: usize) -> Result<Option<Value>, String> {
    let Some(line) = line(input)? else { return Ok(None) };
    let (kind, rest) = line.split_at_checked(1).ok_or("an empty line")?;
    let rest = std::str::from_utf8(rest).map_err(|_| "a line that is not UTF-8")?;
    let number = || rest.parse::<i64>().map_err(|_| format!("expected a number, found {rest:?}"));
    match kind {
        b"+" => Ok(Some(Value::Text(rest.to_owned()))),
        b"-" => Ok(Some(Value::Error(rest.to_owned()))),
        b":" => Ok(Some(Value::Number(number()?))),
        b"$" => match length(number()?)? {
            None => Ok(Some(Value::Nothing)),
            Some(length) => Ok(bulk(input, length)?.map(Value::Text)),
        },
        b"*" if depth < DEEPEST => {
            let Some(length) = length(number()?)? else { return Ok(Some(Value::Nothing)) };
            let mut items = Vec::new();
            for _ in 0..length {
                let Some(item) = value(input, depth + 1)? else { return Ok(None) };
                items.push(item);
            }
            Ok(Some(Value::List(items)))
        }
        _ => Err(format!("a reply that begins with {:?}", String::from_utf8_lossy(kind))),
    }
}

/// -1 stands for nothing.
fn length(number: i64) -> Result<Option<usize>, String> {
    match usize::try_from(number) {
        Ok(length) if length <= LONGEST => Ok(Some(length)),
        Err(_) if number == -1 => Ok(None),
        _ => Err(format!("a length of {number}")),
    }
}

fn line<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, String> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return if input.len() > LONGEST { Err("a line without end".to_owned()) } else { Ok(None) };
    };
    let (line, rest) = input.split_at(end + 1);
    *input = rest;
    line.strip_suffix(b"\r\n").map(Some).ok_or_else(|| "a line that does not end in CRLF".to_owned())
}

fn bulk(input: &mut &[u8], length: usize) -> Result<Option<String>, String> {
    let Some((text, rest)) = input.split_at_checked(length + 2) else { return Ok(None) };
    *input = rest;
    let text = text.strip_suffix(b"\r\n").ok_or("a text that does not end in CRLF")?;
    let text = std::str::from_utf8(text).map_err(|_| "a text that is not UTF-8")?;
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Option<Value>, String> {
        reply(&mut BytesMut::from(text))
    }

    #[test]
    fn replies_are_read_wherever_they_are_cut() {
        const REPLY: &[u8] = b"*5\r\n:1\r\n$3\r\na\r\n\r\n$-1\r\n+OK\r\n*1\r\n-ERR no\r\n";
        let expected = Value::List(vec![
            Value::Number(1),
            Value::Text("a\r\n".to_owned()),
            Value::Nothing,
            Value::Text("OK".to_owned()),
            Value::List(vec![Value::Error("ERR no".to_owned())]),
        ]);
        for cut in 0..REPLY.len() {
            let mut input = BytesMut::from(&REPLY[..cut]);
            assert_eq!(reply(&mut input), Ok(None), "cut at {cut}");
            input.extend_from_slice(&REPLY[cut..]);
            input.extend_from_slice(b"+next\r\n");
            assert_eq!(reply(&mut input), Ok(Some(expected.clone())), "cut at {cut}");
            assert_eq!(reply(&mut input), Ok(Some(Value::Text("next".to_owned()))));
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for text in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"$9999999999\r\n",
            b"*-5\r\n",
            b":x\r\n",
            b"+OK\n",
            b"$1\r\nabc",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
            b"\r\n",
        ] {
            assert!(read(text).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn commands_carry_any_bytes() {
        let mut out = BytesMut::new();
        command(&mut out, &[b"SET", b"k\r\n", b""]);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n");
    }
}
