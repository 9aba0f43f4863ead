//! The keys on disk, for a start while the store is away: what a request needs of them, and nothing else. One JSON
//! object a line, and a last line with their HMAC under the pepper, so that nobody without it can give a key more than
//! it had. Written whole beside the old one and moved over it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use ring::hmac;
use serde_json::{Value as Json, json};
use tollgate_filters::endpoint::EndpointSet;
use tollgate_filters::request::auth::{Entry, Key, KeyHash, Network, Terms};
use tollgate_filters::units::Moment;

use crate::config::settings::Secret;
use crate::principals::endpoint_set;

/// Says what the HMAC is for: a hash of a key must not pass for one.
const PURPOSE: &[u8] = b"tollgate keys.snapshot 1\n";

/// The text of a snapshot.
#[must_use]
pub fn write<'a>(entries: impl IntoIterator<Item = &'a Entry>, pepper: &Secret, now: Moment) -> Vec<u8> {
    let mut text = format!("{}\n", json!({"tollgate_keys": 1, "written": now.0})).into_bytes();
    for entry in entries {
        text.extend_from_slice(line(entry).to_string().as_bytes());
        text.push(b'\n');
    }
    let seal = json!({"seal": hex(seal(&text, pepper).as_ref())}).to_string();
    text.extend_from_slice(seal.as_bytes());
    text.push(b'\n');
    text
}

/// Puts a snapshot where the next start finds it.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// The keys of a snapshot, and when it was written.
///
/// # Errors
/// In words, if it cannot be read or was not written under this pepper.
pub fn read(text: &[u8], pepper: &Secret) -> Result<(Moment, Vec<(Key, Terms)>), String> {
    let body = text.strip_suffix(b"\n").ok_or("its last line is cut")?;
    let last = body.iter().rposition(|byte| *byte == b'\n').ok_or("it has no seal")? + 1;
    let (content, last) = body.split_at(last);
    let parse = |line: &[u8]| serde_json::from_slice::<Json>(line).map_err(|error| error.to_string());
    let sealed = parse(last)?["seal"].as_str().and_then(unhex).ok_or("it has no seal")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, pepper.expose().as_bytes());
    hmac::verify(&key, &[PURPOSE, content].concat(), &sealed)
        .map_err(|_| "its seal is not that of auth.pepper: it was changed, or the pepper was")?;
    let mut lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let first = parse(lines.next().unwrap_or_default())?;
    let written = first["written"].as_u64().ok_or("its first line does not say when it was written")?;
    let keys = lines.map(|line| key_of(&parse(line)?).ok_or_else(|| "a key in it cannot be read".to_owned()));
    Ok((Moment(written), keys.collect::<Result<_, String>>()?))
}

fn seal(content: &[u8], pepper: &Secret) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, pepper.expose().as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(PURPOSE);
    context.update(content);
    context.sign()
}

fn line(entry: &Entry) -> Json {
    let (key, terms) = (&entry.key, &entry.terms);
    let models =
        terms.models.as_deref().map(|models| models.iter().map(|model| &**model).collect::<Vec<_>>());
    let endpoints =
        (terms.endpoints != EndpointSet::ALL).then(|| terms.endpoints.labels().collect::<Vec<_>>());
    json!({
        "id": &*key.id,
        "hash": hex(&key.hash),
        "previous": key.previous().map(|(hash, until)| json!([hex(&hash), until.0])),
        "expires": key.expires.map(|end| end.0),
        "tenant": &*terms.tenant,
        "tier": terms.tier.as_deref(),
        "models": models,
        "endpoints": endpoints,
        "networks": terms.networks.iter().map(Network::to_string).collect::<Vec<_>>(),
    })
}

fn key_of(line: &Json) -> Option<(Key, Terms)> {
    let texts = |value: &Json| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let hash = |value: &Json| -> Option<KeyHash> { unhex(value.as_str()?)?.try_into().ok() };
    let previous = match &line["previous"] {
        Json::Null => None,
        pair => Some((hash(&pair[0])?, Moment(pair[1].as_u64()?))),
    };
    let models = match &line["models"] {
        Json::Null => None,
        models => Some(texts(models)?.into_iter().map(String::into_boxed_str).collect()),
    };
    let endpoints = match &line["endpoints"] {
        Json::Null => EndpointSet::ALL,
        labels => endpoint_set(&texts(labels)?),
    };
    let networks = texts(&line["networks"])?;
    let terms = Terms {
        tenant: line["tenant"].as_str()?.into(),
        tier: line["tier"].as_str().map(Arc::from),
        models,
        endpoints,
        networks: networks.iter().map(|network| network.parse().ok()).collect::<Option<Vec<_>>>()?.into(),
    };
    let expires = line["expires"].as_u64().map(Moment);
    Some((Key::new(line["id"].as_str()?.into(), hash(&line["hash"])?, previous, expires), terms))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let pepper = Secret::new("pepper");
        let terms = Terms {
            tenant: "t".into(),
            tier: Some("gold".into()),
            models: Some(["a*".into()].into_iter().collect()),
            endpoints: endpoint_set(&["models".to_owned()]),
            networks: ["10.0.0.0/8".parse().expect("a network")].into(),
        };
        let plain = Terms {
            tier: None,
            models: None,
            endpoints: EndpointSet::ALL,
            networks: [].into(),
            ..terms.clone()
        };
        let key = |id: &str, previous, expires| Key::new(id.into(), [7; 32], previous, expires);
        let entry = |key, terms: &Terms| Entry {
            key: Arc::new(key),
            terms: Arc::new(terms.clone()),
            principal: None,
        };
        let entries = [
            entry(key("abcd", Some(([9; 32], Moment(12))), Some(Moment(34))), &terms),
            entry(key("efgh", None, None), &plain),
        ];
        let text = write(&entries, &pepper, Moment(5));
        let (written, keys) = read(&text, &pepper).expect("it is ours");
        assert_eq!(written, Moment(5));
        for ((key, terms), entry) in keys.iter().zip(&entries) {
            assert_eq!(
                (&key.id, key.hash, key.previous()),
                (&entry.key.id, entry.key.hash, entry.key.previous())
            );
            assert_eq!((key.expires, terms), (entry.key.expires, &*entry.terms));
        }
        assert_eq!(keys.len(), 2);
        assert!(read(&text, &Secret::new("other")).is_err(), "another pepper");
        for cut in 0..text.len() {
            assert!(read(&text[..cut], &pepper).is_err(), "cut at {cut}");
        }
        let more = String::from_utf8(text).expect("text").replace("\"tier\":\"gold\"", "\"tier\":\"goal\"");
        assert!(read(more.as_bytes(), &pepper).is_err(), "changed");
    }
}
