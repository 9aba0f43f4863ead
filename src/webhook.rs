//! Events, posted to whoever is to hear of them. Signed after <https://www.standardwebhooks.com/>: the receiver computes
//! HMAC-SHA256 of `<webhook-id>.<webhook-timestamp>.<body>` under the secret and compares. Nothing secret is sent.
//! An answer in 200..300 is a delivery; anything else is tried again, a bounded number of times, with the same id, so
//! that the receiver can tell a repetition.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use ring::hmac;
use tollgate_filters::units::Moment;

use crate::calendar;
use crate::config::settings::Webhook;
use crate::servers::read_authorities;

/// The wait after the first try; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// An event.
#[derive(Debug, Clone)]
pub struct Event {
    /// The same for every try, and for a repetition after a crash.
    pub id: String,
    /// What happened, in JSON.
    pub body: String,
}

/// Posts `event` until it is taken or the tries are over.
///
/// # Errors
/// In words, why the last try failed.
pub async fn deliver(connector: &Connector, webhook: &Webhook, event: &Event) -> Result<(), String> {
    let mut wait = FIRST_WAIT;
    let mut tries = 1;
    loop {
        let posted = tokio::time::timeout(webhook.timeout, Box::pin(post(connector, webhook, event))).await;
        let posted =
            posted.unwrap_or_else(|_| Err(format!("no answer within {} ms", webhook.timeout.as_millis())));
        match posted {
            Ok(()) => return Ok(()),
            Err(error) if tries >= webhook.attempts => return Err(error),
            Err(error) => log::debug!("webhook: {error}; it is tried again"),
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        tries += 1;
    }
}

/// How long [`deliver`] can take at most.
#[must_use]
pub fn longest(webhook: &Webhook) -> Duration {
    webhook.timeout * webhook.attempts + FIRST_WAIT * (1 << webhook.attempts.min(16))
}

async fn post(connector: &Connector, webhook: &Webhook, event: &Event) -> Result<(), String> {
    let url = &webhook.url;
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let mut found = found.map_err(|error| format!("cannot resolve {}: {error}", url.host))?;
    let address: SocketAddr = found.next().ok_or_else(|| format!("{} has no address", url.host))?;
    let mut peer =
        HttpPeer::new(address, url.is_tls, if url.is_tls { url.host.clone() } else { String::new() });
    peer.options.alpn = ALPN::H1;
    peer.options.total_connection_timeout = Some(webhook.timeout);
    if let Some(path) = &webhook.ca {
        peer.options.ca = read_authorities(path);
    }
    let text = |error: pingora_error::BError| error.to_string();
    let (mut session, _) = connector.get_http_session(&peer).await.map_err(text)?;
    session.write_request_header(Box::new(header(webhook, event).map_err(text)?)).await.map_err(text)?;
    session.write_request_body(Bytes::copy_from_slice(event.body.as_bytes()), true).await.map_err(text)?;
    session.finish_request_body().await.map_err(text)?;
    session.read_response_header().await.map_err(text)?;
    let status = session.response_header().map(|header| header.status);
    session.shutdown().await;
    match status {
        Some(status) if status.is_success() => Ok(()),
        Some(status) => Err(format!("{url} answered {status}")),
        None => Err(format!("{url} did not answer")),
    }
}

fn header(webhook: &Webhook, event: &Event) -> pingora_error::Result<RequestHeader> {
    let now = calendar::now();
    let mut header = RequestHeader::build("POST", webhook.url.path.as_bytes(), Some(8))?;
    header.insert_header(header::HOST, webhook.url.authority())?;
    header.insert_header(header::CONTENT_TYPE, "application/json")?;
    header.insert_header(header::CONTENT_LENGTH, event.body.len())?;
    header.insert_header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))?;
    header.insert_header(header::CONNECTION, "close")?;
    header.insert_header("webhook-id", event.id.as_str())?;
    header.insert_header("webhook-timestamp", now.0)?;
    header.insert_header("webhook-signature", signature(webhook.secret.expose(), event, now))?;
    Ok(header)
}

/// `v1,` and the signature in base64.
fn signature(secret: &str, event: &Event, now: Moment) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key_of(secret));
    let tag = hmac::sign(&key, format!("{}.{}.{}", event.id, now.0, event.body).as_bytes());
    format!("v1,{}", base64(tag.as_ref()))
}

/// The bytes of a secret: those after `whsec_` in base64, as the standard writes it, or the text as it is.
fn key_of(secret: &str) -> Vec<u8> {
    let digits = secret.strip_prefix("whsec_").map(|digits| digits.trim_end_matches('='));
    digits.and_then(unbase64).unwrap_or_else(|| secret.as_bytes().to_vec())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn unbase64(digits: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in digits.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// RFC 4648 §4, with padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]);
            text.push(if index <= group.len() { digit } else { '=' });
        }
    }
    text
}

/// A connector that keeps nothing open: events are rare.
#[must_use]
pub fn connector() -> Arc<Connector> {
    Arc::new(Connector::new(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example in the tests of its reference libraries.
        let body = "{\"test\": 2432232314}".to_owned();
        let event = Event { id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(), body };
        let signed = signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &event, Moment(1_614_265_330));
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(key_of("plain"), b"plain");
        assert_eq!(key_of("whsec_Zm9vYg=="), b"foob");
        assert_eq!(key_of("whsec_not base64"), b"whsec_not base64");
    }
}
