//! Recorded answers of real servers (`tests/data/streams`; its README tells where each comes from).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::wire::{Framing, Wire};

/// One recorded exchange.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// Engine and case, e.g. `vllm/chat_stream`.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) content_type: String,
    /// Transfer coding removed.
    pub(crate) body: Vec<u8>,
    /// The answer as it was on the wire, where that was kept.
    pub(crate) wire: Option<Vec<u8>>,
}

impl Recording {
    pub(crate) fn is_stream(&self) -> bool {
        self.content_type.starts_with("text/event-stream")
    }

    /// The first model name that the answer gives.
    pub(crate) fn model(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body);
        let mut rest = text.as_ref();
        while let Some(at) = rest.find("\"model\":") {
            rest = rest[at + 8..].trim_start();
            let name = rest.strip_prefix('"')?.split('"').next()?;
            if !name.is_empty() {
                return Some(name.to_owned());
            }
        }
        None
    }
}

/// Every recording, sorted by name. A panic when there are none, lest a moved folder test nothing.
pub(crate) async fn all() -> Vec<Recording> {
    let folder = match std::env::var_os("TOLLGATE_STREAMS") {
        Some(elsewhere) => PathBuf::from(elsewhere),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/streams"),
    };
    let mut paths = Vec::new();
    collect(&folder, &mut paths);
    assert!(paths.len() > 50, "{} recordings in {}", paths.len(), folder.display());
    // Other projects' recordings may be read, not committed.
    let others = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/sse");
    if others.is_dir() {
        let mut theirs = Vec::new();
        collect(&others, &mut theirs);
        let engine = |path: &Path| path.parent().and_then(Path::file_name).map(std::ffi::OsStr::to_owned);
        theirs.retain(|path| !paths.iter().any(|own| engine(own) == engine(path)));
        paths.extend(theirs);
    } else {
        eprintln!("SKIPPED: recordings of other projects: {} is not here", others.display());
    }
    paths.sort();
    let mut recordings = Vec::new();
    for path in paths {
        let folder = path.parent().and_then(Path::parent).expect("FOLDER/ENGINE/CASE.meta.json");
        recordings.push(load(folder, &path).await);
    }
    recordings
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for engine in list(folder).into_iter().filter(|path| path.is_dir()) {
        paths.extend(list(&engine).into_iter().filter(|path| path.to_string_lossy().ends_with(".meta.json")));
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a readable folder").path()).collect()
}

async fn load(folder: &Path, meta_path: &Path) -> Recording {
    let name = meta_path.strip_prefix(folder).expect("below it").to_string_lossy().replace(".meta.json", "");
    let beside = |ending: &str| folder.join(format!("{name}{ending}"));
    let read =
        |path: PathBuf| std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let meta: Value = serde_json::from_slice(&read(meta_path.to_owned())).expect("meta is JSON");
    let path = meta["request"]["path"].as_str().unwrap_or_default().to_owned();
    if !beside(".response.http").exists() {
        let headers = meta["response_headers"].as_object().cloned().unwrap_or_default();
        let content_type = headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case("content-type"))
            .and_then(|(_, value)| value.as_str().or_else(|| value.get(0).and_then(Value::as_str)))
            .unwrap_or_default()
            .to_owned();
        let status = meta["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
        return Recording { path, status, content_type, body: read(beside(".body")), wire: None, name };
    }
    let raw = read(beside(".response.http"));
    let mut wire = Wire::new(raw.as_slice());
    let head = wire.head().await.expect("a whole head").expect("not empty");
    let body = match head.framing() {
        Framing::Length(length) => wire.exact(length).await.expect("a whole body"),
        Framing::Absent => wire.rest().await.expect("memory does not fail"),
        Framing::Chunked => {
            let mut body = Vec::new();
            while let Some(chunk) = wire.chunk().await.unwrap_or_else(|error| panic!("{name}: {error}")) {
                body.extend_from_slice(&chunk);
            }
            body
        }
    };
    let content_type = head.get("content-type").unwrap_or_default().to_owned();
    Recording { path, status: head.status(), content_type, body, wire: Some(raw), name }
}
