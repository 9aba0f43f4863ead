//! The load: requests over HTTP/1.1 on connections that are kept, a bounded number of them, all on one thread.
//! It reads answers only as far as it must to know that they are whole, because it shares the machine with what
//! it measures.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The longest that an answer may take: no case asks for more than a few seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// What has come so far, over all connections.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) answers: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) reads: AtomicU64,
}

impl Seen {
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// One kind of request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// All of it.
    pub(crate) bytes: Arc<[u8]>,
    /// A pause before each.
    pub(crate) pause: Duration,
}

/// Has `count` requests answered by `address` over `connections`, and gives the time that each took.
pub(crate) async fn run(
    address: SocketAddr,
    request: &Request,
    connections: u64,
    count: u64,
    seen: &Arc<Seen>,
) -> Vec<Duration> {
    let mut running = JoinSet::new();
    for index in 0..connections {
        let share = count / connections + u64::from(index < count % connections);
        running.spawn(repeat(address, request.clone(), share, Arc::clone(seen)));
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        let done = done.expect("a client does not panic").expect("the proxy answers every request");
        times.extend(done);
    }
    times
}

async fn repeat(address: SocketAddr, request: Request, count: u64, seen: Arc<Seen>) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut times = Vec::with_capacity(count as usize);
    let mut buffer = vec![0; 16 * 1024];
    for _ in 0..count {
        if !request.pause.is_zero() {
            tokio::time::sleep(request.pause).await;
        }
        let started = Instant::now();
        stream.write_all(&request.bytes).await?;
        match tokio::time::timeout(LIMIT, answer(&mut stream, &mut buffer, &seen)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Error::other("an answer took too long")),
        }
        times.push(started.elapsed());
    }
    Ok(times)
}

/// Reads one answer, which must be a good one.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8], seen: &Seen) -> Result<()> {
    let mut length = 0;
    let head_end = loop {
        let read = read(stream, &mut buffer[length..], seen).await?;
        let from = length.saturating_sub(3);
        length += read;
        if let Some(at) = buffer[from..length].windows(4).position(|four| four == b"\r\n\r\n") {
            break from + at + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200 ") {
        let body = String::from_utf8_lossy(&buffer[head_end..length]);
        return Err(Error::other(format!("not a good answer: {head}{body}")));
    }
    let body = length - head_end;
    match number_in(&head, "content-length") {
        Some(promised) => {
            let mut left = promised as usize - body;
            while left > 0 {
                left -= read(stream, buffer, seen).await?.min(left);
            }
        }
        None => {
            let mut scan = Scan::default();
            scan.push(&buffer[head_end..length], seen);
            while !scan.is_end() {
                let read = read(stream, buffer, seen).await?;
                scan.push(&buffer[..read], seen);
            }
        }
    }
    seen.answers.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn read(stream: &mut TcpStream, buffer: &mut [u8], seen: &Seen) -> Result<usize> {
    let read = stream.read(buffer).await?;
    seen.reads.fetch_add(1, Ordering::Relaxed);
    if read == 0 { Err(Error::other("closed within an answer")) } else { Ok(read) }
}

/// Counts the events of a chunked stream and knows its end, without undoing the chunks: an empty line (`\n\n`)
/// stands nowhere else than at the end of an event.
#[derive(Debug, Default)]
struct Scan {
    last: [u8; 7],
}

impl Scan {
    const END: &[u8; 7] = b"\r\n0\r\n\r\n";

    fn push(&mut self, bytes: &[u8], seen: &Seen) {
        let Some(&first) = bytes.first() else { return };
        let is_split = self.last[6] == b'\n' && first == b'\n';
        let events = bytes.windows(2).filter(|pair| pair == b"\n\n").count() as u64 + u64::from(is_split);
        seen.events.fetch_add(events, Ordering::Relaxed);
        let kept = self.last.len().min(bytes.len());
        self.last.rotate_left(kept);
        self.last[7 - kept..].copy_from_slice(&bytes[bytes.len() - kept..]);
    }

    fn is_end(&self) -> bool {
        &self.last == Self::END
    }
}

/// The number in the field `name` of `head`, which is in small letters.
pub(crate) fn number_in(head: &str, name: &str) -> Option<u64> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| *field == name).and_then(|(_, value)| value.trim().parse().ok())
}
