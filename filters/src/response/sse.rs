//! Bytes → server-sent events, however the bytes were cut. A chunk of a body may hold half an event, three
//! events, or end inside a UTF-8 character or between CR and LF; the events are the same.
//!
//! An event here is every byte up to and including the blank line that ends it, comments and all, so that the
//! events of a stream, put end to end, are the stream. Lines end with LF or CRLF. The lone CR that
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html> also allows does not end a line: no model
//! server sends it, and telling it from half a CRLF would delay every event by one read.
//!
//! Invariants: no byte is lost, repeated or reordered; never more than `max_event_bytes` plus one chunk are
//! kept. Cost: one `memchr` pass; whole events are lent from the chunk, only a cut one is copied, into a
//! buffer that is kept.

use std::ops::Range;

use bytes::BytesMut;
use memchr::memchr;

/// The next stretch of the stream. Ranges are into the chunk given to [`Splitter::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A whole event.
    Event(Range<usize>),
    /// A whole event that began in an earlier chunk: it is [`Splitter::kept`], to be cleared or taken.
    KeptEvent,
    /// The beginning, or all, of an event above the cap: at least the cap's number of bytes of it.
    Overlong(Range<usize>),
    /// The same, begun in an earlier chunk: it is [`Splitter::kept`], to be cleared or taken.
    KeptOverlong,
    /// More of the event above the cap that was reported last.
    OverlongRest(Range<usize>),
}

/// What the line being read holds so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Empty,
    /// Nothing but a CR, which an LF may follow.
    Cr,
    Text,
}

/// Finds where events end, and keeps the beginning of a cut one.
// No `Debug`: it would print a customer's text.
#[derive(Clone, PartialEq, Eq)]
pub struct Splitter {
    /// The beginning of an event whose end has not come, after a `Kept…` piece the whole of it.
    pub kept: BytesMut,
    line: Line,
    is_overlong: bool,
    max_event_bytes: usize,
}

impl Splitter {
    /// A splitter at the start of a stream. An event of more than `max_event_bytes` is not kept whole.
    #[must_use]
    pub fn new(max_event_bytes: usize) -> Self {
        Self { kept: BytesMut::new(), line: Line::Empty, is_overlong: false, max_event_bytes }
    }

    /// Whether an event above the cap has begun to go out and has not ended.
    #[must_use]
    pub fn is_inside_overlong(&self) -> bool {
        self.is_overlong
    }

    /// The cap.
    #[must_use]
    pub fn max_event_bytes(&self) -> usize {
        self.max_event_bytes
    }

    /// Line ends that would finish the event begun last, for a stream that broke off inside it.
    #[must_use]
    pub fn missing_end(&self) -> &'static [u8] {
        match self.line {
            Line::Empty | Line::Cr => b"\n",
            Line::Text => b"\n\n",
        }
    }

    /// The next piece of `chunk` from `at`, which moves past it. `None` when the chunk is used up; what is
    /// left of it has then been copied to `kept`. A `Kept…` piece must be cleared or taken before the next call.
    ///
    /// # Cost
    /// One `memchr` pass over what it moves past. Copies only what belongs to a cut event.
    pub fn next(&mut self, chunk: &[u8], at: &mut usize) -> Option<Piece> {
        let start = *at;
        if start >= chunk.len() {
            return None;
        }
        let end = self.find_end(&chunk[start..]).map(|step| start + step);
        *at = end.unwrap_or(chunk.len());
        let part = start..*at;
        if self.is_overlong {
            self.is_overlong = end.is_none();
            return Some(Piece::OverlongRest(part));
        }
        let is_kept = !self.kept.is_empty();
        if is_kept {
            self.kept.extend_from_slice(&chunk[part.clone()]);
        }
        let length = if is_kept { self.kept.len() } else { part.len() };
        let is_too_long = length > self.max_event_bytes;
        if !is_too_long && end.is_none() {
            if !is_kept {
                self.kept.extend_from_slice(&chunk[part]);
            }
            return None;
        }
        self.is_overlong = end.is_none();
        Some(match (is_kept, is_too_long) {
            (false, false) => Piece::Event(part),
            (true, false) => Piece::KeptEvent,
            (false, true) => Piece::Overlong(part),
            (true, true) => Piece::KeptOverlong,
        })
    }

    /// Distance to just after the next blank line.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(step) = memchr(b'\n', &bytes[at..]) {
            let is_blank =
                matches!((self.line, &bytes[at..at + step]), (Line::Empty, b"" | b"\r") | (Line::Cr, b""));
            at += step + 1;
            self.line = Line::Empty;
            if is_blank {
                return Some(at);
            }
        }
        self.line = match (self.line, &bytes[at..]) {
            (line, b"") => line,
            (Line::Empty, b"\r") => Line::Cr,
            _ => Line::Text,
        };
        None
    }
}

/// The byte order mark that a stream may begin with.
pub const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The fields of one event.
// No `Debug`: it would print a customer's text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The value of `event:`; empty where there is none.
    pub name: &'a [u8],
    /// The values of the `data:` lines, joined with LF; `None` where there is no such line, as in a comment.
    pub data: Option<&'a [u8]>,
    bytes: &'a [u8],
    data_lines: usize,
    /// Where the first data line's value begins in `bytes`.
    data_start: usize,
}

impl<'a> Event<'a> {
    /// Reads the fields of the event `bytes`, which need not have its blank line.
    ///
    /// # Cost
    /// No allocation, except that data of several lines is copied to `joined`.
    #[must_use]
    pub fn read(bytes: &'a [u8], joined: &'a mut Vec<u8>) -> Self {
        let mut event = Self { name: b"", data: None, bytes, data_lines: 0, data_start: 0 };
        let mut single = 0..0;
        for (field, value) in fields(bytes) {
            match field {
                b"event" => event.name = &bytes[value],
                b"data" => {
                    if event.data_lines == 0 {
                        event.data_start = value.start;
                        single = value;
                    } else {
                        if event.data_lines == 1 {
                            joined.clear();
                            joined.extend_from_slice(&bytes[single.clone()]);
                        }
                        joined.push(b'\n');
                        joined.extend_from_slice(&bytes[value]);
                    }
                    event.data_lines += 1;
                }
                _ => {}
            }
        }
        event.data = match event.data_lines {
            0 => None,
            1 => Some(&bytes[single]),
            _ => Some(joined),
        };
        event
    }

    /// Where a stretch of the data that holds no line end stands in the event's bytes.
    #[must_use]
    pub fn locate(&self, span: Range<usize>) -> Range<usize> {
        if self.data_lines == 1 {
            return self.data_start + span.start..self.data_start + span.end;
        }
        let mut joined = 0;
        for (field, value) in fields(self.bytes) {
            if field == b"data" {
                if span.start <= joined + value.len() {
                    let start = value.start + (span.start - joined);
                    return start..start + span.len();
                }
                joined += value.len() + 1;
            }
        }
        debug_assert!(false, "the span is not of this event's data");
        self.bytes.len()..self.bytes.len()
    }
}

/// The fields of an event in order: name, and span of the value.
fn fields(bytes: &[u8]) -> impl Iterator<Item = (&[u8], Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let start = at;
        let mut end = memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |step| start + step);
        at = end + 1;
        if end > start && bytes[end - 1] == b'\r' {
            end -= 1;
        }
        let line = &bytes[start..end];
        let Some(colon) = memchr(b':', line) else { return Some((line, end..end)) };
        let space = usize::from(line.get(colon + 1) == Some(&b' '));
        Some((&line[..colon], start + colon + 1 + space..end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pieces of `chunks`: whether whole, and their bytes. The parts of an overlong event are joined.
    fn split(chunks: &[&[u8]], max_event_bytes: usize) -> (Vec<(bool, Vec<u8>)>, Vec<u8>) {
        let mut splitter = Splitter::new(max_event_bytes);
        let mut pieces: Vec<(bool, Vec<u8>)> = Vec::new();
        for chunk in chunks {
            let mut at = 0;
            while let Some(piece) = splitter.next(chunk, &mut at) {
                match piece {
                    Piece::Event(range) => pieces.push((true, chunk[range].to_vec())),
                    Piece::KeptEvent => pieces.push((true, splitter.kept.split().to_vec())),
                    Piece::Overlong(range) => pieces.push((false, chunk[range].to_vec())),
                    Piece::KeptOverlong => pieces.push((false, splitter.kept.split().to_vec())),
                    Piece::OverlongRest(range) => {
                        pieces.last_mut().expect("a beginning came first").1.extend(&chunk[range]);
                    }
                }
            }
        }
        (pieces, splitter.kept.to_vec())
    }

    const STREAM: &[u8] = b"\xEF\xBB\xBFdata: {\"a\":1}\n\n: comment\n\nevent: x\r\ndata: \xE6\x97\xA5\r\n\r\n\ndata:a\ndata: b\n\ndata: tail";

    #[test]
    fn chunking_does_not_change_events() {
        for cap in [1, 5, 12, 17, 18, 100] {
            let whole = split(&[STREAM], cap);
            for first in 0..=STREAM.len() {
                for second in first..=STREAM.len() {
                    let chunks = [&STREAM[..first], &STREAM[first..second], &STREAM[second..]];
                    assert_eq!(split(&chunks, cap), whole, "cap {cap}, cuts at {first} and {second}");
                }
            }
        }
    }

    #[test]
    fn events_are_the_stream() {
        let (pieces, tail) = split(&[STREAM], 100);
        let lengths: Vec<usize> = pieces.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [18, 11, 23, 1, 16]);
        assert_eq!(tail, b"data: tail");
        let all: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).chain(tail).collect();
        assert_eq!(all, STREAM);
    }

    #[test]
    fn nothing_is_kept_beyond_the_cap() {
        let mut splitter = Splitter::new(10);
        let mut most = 0;
        for byte in b"data: 0123456789012345678901234567890123456789\n\ndata: 1\n\n" {
            let mut at = 0;
            if let Some(Piece::KeptOverlong | Piece::KeptEvent) = splitter.next(&[*byte], &mut at) {
                splitter.kept.clear();
            }
            most = most.max(splitter.kept.len());
        }
        assert_eq!(most, 10);
    }

    #[test]
    fn reads_fields() {
        for (bytes, name, data) in [
            ("data: x\n\n", "", Some("x")),
            ("data:x\n\n", "", Some("x")),
            ("data:  x\n\n", "", Some(" x")),
            ("data\n\n", "", Some("")),
            ("data: a\ndata: b\r\ndata:c\n\n", "", Some("a\nb\nc")),
            ("event: error\r\ndata: x\r\n\r\n", "error", Some("x")),
            ("data: x\nevent: late\n\n", "late", Some("x")),
            (": data: x\n\n", "", None),
            ("database: x\nid: 1\nretry: 5\n\n", "", None),
            ("\n", "", None),
            ("data: unended", "", Some("unended")),
        ] {
            let mut joined = Vec::new();
            let event = Event::read(bytes.as_bytes(), &mut joined);
            assert_eq!(event.name, name.as_bytes(), "{bytes:?}");
            assert_eq!(event.data, data.map(str::as_bytes), "{bytes:?}");
        }
    }

    #[test]
    fn finds_data_in_the_event_again() {
        for (bytes, wanted) in [("data: abc\n\n", "bc"), ("data:a\r\n: note\ndata: bcd\n\n", "cd")] {
            let mut joined = Vec::new();
            let event = Event::read(bytes.as_bytes(), &mut joined);
            let data = std::str::from_utf8(event.data.expect("there is data")).expect("ASCII");
            let at = data.find(wanted).expect("it is there");
            assert_eq!(&bytes[event.locate(at..at + wanted.len())], wanted);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_chunks(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'd'), any::<u8>()], 0..80),
            cuts in proptest::collection::vec(0usize..80, 0..6),
            cap in 1usize..30,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(split(&chunks, cap), split(&[&bytes], cap));
        }
    }
}
