//! What is attached to the messages of a request: images, files and sounds, each as a hash of what stands in the body. The
//! same words with another image are another prompt.

use std::collections::VecDeque;
use std::sync::LazyLock;

use highway::{HighwayHash, HighwayHasher};
use memchr::memmem::Finder;

use super::super::super::body::Place;
use super::sketch::mix;
use crate::json::{Leaf, Reader, Result, Str};

/// One of these stands in a body with something attached.
static SIGNS: LazyLock<[Finder<'static>; 4]> =
    LazyLock::new(|| ["\"data:", "data\"", "_url\"", "\"url\""].map(Finder::new));

/// Hashes of what is attached, by message, in the order of the request; for messages that have something attached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached(VecDeque<(Place, u64)>);

impl Attached {
    /// What is attached to the messages of a body that is known to be good JSON of this depth.
    ///
    /// # Cost
    /// Four searches for a few letters; the body is read once more only where one is found.
    #[must_use]
    pub fn of(body: &[u8], max_depth: u32) -> Self {
        let mut attached = Self::default();
        if SIGNS.iter().any(|sign| sign.find(body).is_some()) {
            // Of what cannot be read the rest stays without.
            _ = attached.read(&mut Reader::new(body, max_depth));
        }
        attached
    }

    /// The next hash of a message before the one at `place`.
    pub(in super::super) fn next_before(&mut self, place: Place) -> Option<u64> {
        let is_before = self.0.front().is_some_and(|(at, _)| at.key == place.key && at.index < place.index);
        if is_before { self.next() } else { None }
    }

    /// The hash of the message at `place`; 0 where nothing is attached.
    pub(in super::super) fn at(&mut self, place: Place) -> u64 {
        let is_here = self.0.front().is_some_and(|(at, _)| *at == place);
        if is_here { self.next().unwrap_or_default() } else { 0 }
    }

    /// The next hash.
    pub(in super::super) fn next(&mut self) -> Option<u64> {
        self.0.pop_front().map(|(_, hash)| hash)
    }

    fn read(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        reader.enter_object()?;
        while let Some(name) = reader.next_key()? {
            let keys = ["messages", "input"];
            let Some(key) = keys.into_iter().find(|key| name.is(key)) else {
                reader.skip()?;
                continue;
            };
            if reader.peek()? != crate::json::Kind::Array {
                reader.skip()?;
                continue;
            }
            reader.enter_array()?;
            let mut index = 0;
            while reader.next_item()? {
                let mut hash = 0;
                reader.walk(|leaf| {
                    if let Leaf::String { key, value } = leaf
                        && is_attached(key, &value)
                    {
                        hash = mix(hash, HighwayHasher::default().hash64(value.raw));
                    }
                })?;
                if hash != 0 {
                    self.0.push_back((Place { key, index: Some(index) }, hash));
                }
                index += 1;
            }
        }
        Ok(())
    }
}

fn is_attached(key: Option<Str<'_>>, value: &Str<'_>) -> bool {
    const KEYS: [&str; 7] = ["url", "data", "file_data", "file_id", "file_url", "image_url", "audio_url"];
    value.raw.starts_with(b"data:") || key.is_some_and(|key| KEYS.iter().any(|name| key.is(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_known_by_its_message() {
        let body = |part: &str| {
            format!(
                r#"{{"model":"m","messages":[{{"role":"user","content":"data"}},{{"role":"user","content":[{part}]}}]}}"#
            )
        };
        let of = |part: &str| Attached::of(body(part).as_bytes(), 64);
        let parts = [
            r#"{"type":"image_url","image_url":{"url":"https://a.example/1.png"}}"#,
            r#"{"type":"image_url","image_url":{"url":"https://a.example/2.png"}}"#,
            r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}"#,
            r#"{"type":"input_image","image_url":"data:image/png;base64,AAAB"}"#,
            r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAC"}}"#,
            r#"{"type":"input_audio","input_audio":{"data":"AAAD","format":"wav"}}"#,
            r#"{"type":"file","file":{"file_data":"AAAE"}}"#,
            r#"{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"https://a.example/3.png"}}"#,
        ];
        let place = |index| Place { key: "messages", index: Some(index) };
        for (at, part) in parts.iter().enumerate() {
            let mut one = of(part);
            assert_eq!((one.next_before(place(1)), one.at(place(0))), (None, 0), "{part}");
            assert_eq!(of(part).next_before(place(2)), Some(of(part).at(place(1))), "{part}");
            for other in &parts[at + 1..] {
                assert_ne!(of(part).at(place(1)), of(other).at(place(1)), "{part} {other}");
            }
        }
        for none in [
            r#"{"type":"text","text":"the url and the data"}"#,
            r#"{"type":"text","text":"\"url\" data"}"#,
            "",
        ] {
            assert_eq!(of(none), Attached::default(), "{none}");
        }
        assert_eq!(Attached::of(b"{\"url\":[1,", 8), Attached::default());
    }
}
