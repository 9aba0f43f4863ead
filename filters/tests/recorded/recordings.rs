//! Recorded answers: those of this repository, and those of other projects where they lie beside it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tollgate_filters::response::Api;

/// One answer as a server gave it.
pub(crate) struct Recording {
    /// `engine/case`
    pub(crate) name: String,
    pub(crate) api: Api,
    pub(crate) status: u16,
    pub(crate) is_stream: bool,
    pub(crate) is_json: bool,
    /// The body, its transfer coding removed.
    pub(crate) body: Vec<u8>,
}

/// The recordings in this repository.
pub(crate) fn own() -> Vec<Recording> {
    let found = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/streams"));
    assert!(found.len() > 100, "the recordings are part of the repository; found {}", found.len());
    found
}

/// The recordings in this repository, and other people's where they are at hand.
pub(crate) fn every() -> Vec<Recording> {
    let mut found = own();
    let others = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/sse");
    if others.is_dir() {
        let known: Vec<String> = found.iter().map(|recording| recording.name.clone()).collect();
        found.extend(read_all(&others).into_iter().filter(|other| !known.contains(&other.name)));
    } else {
        println!("SKIPPED: other projects' recordings are not at {}", others.display());
    }
    found
}

fn read_all(root: &Path) -> Vec<Recording> {
    let mut files: Vec<PathBuf> =
        list(root).iter().filter(|path| path.is_dir()).flat_map(|path| list(path)).collect();
    files.sort();
    files.iter().filter_map(|file| read(file)).collect()
}

fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .expect("the folder is readable")
        .map(|entry| entry.expect("and its entries").path())
        .collect()
}

fn read(file: &Path) -> Option<Recording> {
    let file_name = file.file_name()?.to_str()?;
    let case = file_name.strip_suffix(".response.http").or_else(|| file_name.strip_suffix(".body"))?;
    let engine = file.parent()?.file_name()?.to_str()?;
    let meta = fs::read(file.with_file_name(format!("{case}.meta.json"))).expect("every case has its meta");
    let meta: Value = serde_json::from_slice(&meta).expect("which is JSON");
    let bytes = fs::read(file).expect("the file is readable");
    let (status, content_type, body) = if file_name.ends_with(".http") {
        parse_http(&bytes)
    } else {
        let content_type = meta["response_headers"]["content-type"].as_str().unwrap_or_default().to_owned();
        (meta["status"].as_u64().expect("a status") as u16, content_type, bytes)
    };
    let path = meta["request"]["path"].as_str().unwrap_or_default();
    let api = match path {
        _ if path.ends_with("/chat/completions") || case.starts_with("chat_") => Api::Chat,
        _ if path.ends_with("/completions") || case.starts_with("completion_") => Api::Completions,
        _ if path.ends_with("/responses") || case.starts_with("responses_") => Api::Responses,
        _ if path.ends_with("/messages") => Api::Messages,
        _ => Api::Other,
    };
    let starts = |start: &str| body.trim_ascii_start().starts_with(start.as_bytes());
    let is_stream = content_type.starts_with("text/event-stream") || starts("data:");
    Some(Recording {
        name: format!("{engine}/{case}"),
        api,
        status,
        is_stream,
        is_json: !is_stream && starts("{"),
        body,
    })
}

fn parse_http(bytes: &[u8]) -> (u16, String, Vec<u8>) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let status = head[9..12].parse().expect("a status line");
    let body = &bytes[end + 4..];
    let body = if header("transfer-encoding:") == "chunked" { dechunk(body) } else { body.to_vec() };
    (status, header("content-type:").to_owned(), body)
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's size line");
        let digits = std::str::from_utf8(&rest[..line]).expect("in ASCII");
        let size = usize::from_str_radix(digits, 16).expect("in hexadecimal");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
}
