//! Embeddings: unit vectors made of the tokens themselves, so that texts with common words point in similar
//! directions and a test of similarity search means something. Nothing semantic is claimed.

use bytes::Bytes;
use serde_json::Value;

use super::request::EmbedAsk;
use super::text::{fresh, mix};

/// Places of the vector that one token touches.
const TOUCHES: u64 = 8;

/// The whole answer.
pub(super) fn answer(ask: &EmbedAsk, now_unix: u64) -> Bytes {
    let model = Value::from(ask.model.as_str());
    let mut out = format!(
        r#"{{"id":"embd-{:016x}","object":"list","created":{now_unix},"model":{model},"data":["#,
        fresh()
    );
    for (at, (_, ids)) in ask.inputs.iter().enumerate() {
        let vector = vector(ids, ask.dimensions);
        let comma = if at == 0 { "" } else { "," };
        out.push_str(&format!(r#"{comma}{{"index":{at},"object":"embedding","embedding":"#));
        if ask.is_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.push('"');
            base64(&bytes, &mut out);
            out.push('"');
        } else {
            out.push('[');
            for (place, number) in vector.iter().enumerate() {
                out.push_str(if place == 0 { "" } else { "," });
                out.push_str(&number.to_string());
            }
            out.push(']');
        }
        out.push('}');
    }
    let tokens: u64 = ask.inputs.iter().map(|(prompt, _)| u64::from(prompt.tokens)).sum();
    out.push_str(&format!(
        r#"],"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens},"completion_tokens":0,"prompt_tokens_details":null,"completion_tokens_details":null}}}}"#
    ));
    Bytes::from(out)
}

fn vector(ids: &[u32], dimensions: u32) -> Vec<f32> {
    let mut vector = vec![0.0_f32; dimensions as usize];
    for id in ids {
        for touch in 0..TOUCHES {
            let hash = mix(u64::from(*id), touch);
            let place = usize::try_from((hash >> 1) % u64::from(dimensions)).unwrap_or(0);
            vector[place] += if hash & 1 == 0 { 1.0 } else { -1.0 };
        }
    }
    let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|number| *number /= length);
    } else {
        vector[0] = 1.0;
    }
    vector
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let at = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for sextet in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * sextet) & 0x3f) as usize];
            out.push(if sextet > three.len() { '=' } else { char::from(letter) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::request::{Serves, embed};

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            let mut out = String::new();
            base64(plain.as_bytes(), &mut out);
            assert_eq!(out, coded);
        }
    }

    #[test]
    fn like_texts_point_alike() {
        let ids = |text: &str| crate::sim::text::tokens(text).map(|(id, _)| id).collect::<Vec<_>>();
        let of = |text: &str| vector(&ids(text), 384);
        let (river, rivers, tax) =
            (of("the long river flows north"), of("the long river flows"), of("a tax return due in May"));
        assert!((dot(&river, &river) - 1.0).abs() < 1e-4);
        assert!(dot(&river, &rivers) > 0.7 && dot(&river, &tax) < 0.4);
    }

    #[test]
    fn both_encodings_are_read_back() {
        let serves = Serves { models: Vec::new(), context_length: 100, block_size: 16, seed: 1 };
        for (format, is_text) in [("float", false), ("base64", true)] {
            let body = format!(r#"{{"input": ["", "a b"], "encoding_format": "{format}", "dimensions": 5}}"#);
            let ask = embed(body.as_bytes(), &serves).expect("well formed");
            let answer: Value = serde_json::from_slice(&answer(&ask, 1)).expect("JSON");
            let embedding = &answer["data"][1]["embedding"];
            let length =
                if is_text { embedding.as_str().map(str::len) } else { embedding.as_array().map(Vec::len) };
            assert_eq!(length, Some(if is_text { 28 } else { 5 }));
            assert_eq!(answer["usage"]["prompt_tokens"], 2);
        }
    }
}
