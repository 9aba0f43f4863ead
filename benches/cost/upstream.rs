//! The server behind both proxies. It answers at once with bytes made beforehand, so that it costs little and
//! the same for whoever asks. Its events have the shape and the size of vLLM's; each is one HTTP chunk and one
//! write of its own, as with uvicorn.
//!
//! `x-bench-events: N` makes the answer a stream of N events and `x-bench-gap-us: G` spaces them by G
//! microseconds. A paced stream is written by a thread of its own whose clock is finer than Tokio's, and the
//! streams are out of step with each other, so that a proxy is woken for each event and not once for many.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{Result, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::client::number_in;

/// The name by which the server knows the model.
pub(crate) const MODEL: &str = "bench-model";

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 07:58:40 GMT\r\nserver: uvicorn\r\n\
    content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
/// Streams that may wait for the pacer to take them up.
const QUEUE: usize = 1024;

/// The bytes of every answer.
struct Script {
    whole: Vec<u8>,
    event: Vec<u8>,
    end: Vec<u8>,
}

impl Script {
    fn new() -> Self {
        let usage = "\"usage\":{\"prompt_tokens\":280,\"total_tokens\":480,\"completion_tokens\":200,\
            \"prompt_tokens_details\":{\"cached_tokens\":0}}";
        let frame = |kind: &str, choices: &str, more: &str| {
            format!(
                "{{\"id\":\"chatcmpl-9db628796766c0f6\",\"object\":\"{kind}\",\"created\":1795420720,\
                 \"model\":\"{MODEL}\",\"choices\":[{choices}]{more}}}"
            )
        };
        let chunk = |data: &str| {
            let event = format!("data: {data}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len())
        };
        let delta = |content: &str, reason: &str| {
            let choice = format!(
                "{{\"index\":0,\"delta\":{{{content}}},\"logprobs\":null,\"finish_reason\":{reason},\"token_ids\":null}}"
            );
            chunk(&frame("chat.completion.chunk", &choice, ""))
        };
        let answer = frame(
            "chat.completion",
            &format!(
                "{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{}\",\"refusal\":null,\
                 \"annotations\":null,\"tool_calls\":[]}},\"logprobs\":null,\"finish_reason\":\"stop\"}}",
                "The gateway adds little. ".repeat(14)
            ),
            &format!(",{usage}"),
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 07:58:40 GMT\r\nserver: uvicorn\r\n\
             content-length: {}\r\ncontent-type: application/json\r\n\r\n",
            answer.len()
        );
        let end = delta("", "\"stop\"")
            + &chunk(&frame("chat.completion.chunk", "", &format!(",{usage}")))
            + &chunk("[DONE]")
            + "0\r\n\r\n";
        Self {
            whole: (head + &answer).into_bytes(),
            event: delta("\"content\":\" token\"", "null").into_bytes(),
            end: end.into_bytes(),
        }
    }
}

/// A stream that the pacer writes. It gives the connection back when it has written the last event.
struct Paced {
    socket: std::net::TcpStream,
    left: u64,
    gap: Duration,
    done: oneshot::Sender<std::net::TcpStream>,
}

/// Starts the server on threads of its own, which end with the process.
pub(crate) fn start() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has an address");
    let script: &'static Script = Box::leak(Box::new(Script::new()));
    let (pacer, paced) = sync_channel(QUEUE);
    std::thread::spawn(move || pace(script, &paced));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            listener.set_nonblocking(true).expect("a socket can be made non-blocking");
            let listener = TcpListener::from_std(listener).expect("the runtime takes the socket");
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // An error means that the proxy has gone, which is its right.
                connections.spawn(serve(stream, script, pacer.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
    });
    address
}

async fn serve(mut stream: TcpStream, script: &'static Script, pacer: SyncSender<Paced>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let head = read_request(&mut stream, &mut buffer).await?;
        let Some(head) = head else { return Ok(()) };
        let events = number_in(&head, "x-bench-events");
        let gap = number_in(&head, "x-bench-gap-us").map(Duration::from_micros);
        match (events, gap) {
            (None, _) => stream.write_all(&script.whole).await?,
            (Some(events), None) => {
                stream.write_all(STREAM_HEAD).await?;
                for _ in 0..events {
                    stream.write_all(&script.event).await?;
                }
                stream.write_all(&script.end).await?;
            }
            (Some(left), Some(gap)) => {
                stream.write_all(STREAM_HEAD).await?;
                let (done, back) = oneshot::channel();
                let paced = Paced { socket: stream.into_std()?, left, gap, done };
                if pacer.send(paced).is_err() {
                    return Ok(());
                }
                let Ok(socket) = back.await else { return Ok(()) };
                stream = TcpStream::from_std(socket)?;
            }
        }
    }
}

/// The head of the next request as text; its body is read and forgotten. `None` at the end of the connection.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<String>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end + 4]).to_ascii_lowercase();
            let whole = end + 4 + number_in(&head, "content-length").unwrap_or(0) as usize;
            while buffer.len() < whole {
                if stream.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            buffer.drain(..whole);
            return Ok(Some(head));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Writes the events of every paced stream when they are due.
fn pace(script: &Script, arrivals: &Receiver<Paced>) {
    let mut streams: Vec<Option<Paced>> = Vec::new();
    let mut due = BinaryHeap::new();
    let mut phase = 0.0_f64;
    loop {
        let wait =
            due.peek().map_or(Duration::from_secs(3600), |Reverse((at, _)): &Reverse<(Instant, usize)>| {
                at.saturating_duration_since(Instant::now())
            });
        match arrivals.recv_timeout(wait) {
            Ok(stream) => {
                // Multiples of the golden ratio spread any number of streams evenly over the gap.
                phase = (phase + 0.618_033_988_749_895).fract();
                due.push(Reverse((Instant::now() + stream.gap.mul_f64(phase), streams.len())));
                streams.push(Some(stream));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(Reverse((at, index))) = due.peek().copied()
            && at <= Instant::now()
        {
            due.pop();
            if let Some(gap) = write_next(script, &mut streams[index]) {
                due.push(Reverse((at + gap, index)));
            }
        }
        if due.is_empty() {
            streams.clear();
        }
    }
}

/// Writes the next event, or the end. Gives the time until the next one.
fn write_next(script: &Script, place: &mut Option<Paced>) -> Option<Duration> {
    let mut paced = place.take()?;
    if paced.left == 0 {
        if paced.socket.write_all(&script.end).is_ok() {
            // The connection's task waits for it.
            let _ = paced.done.send(paced.socket);
        }
        return None;
    }
    // The socket does not block. Its buffer has room for thousands of events, so that an error means that the
    // proxy has gone.
    paced.socket.write_all(&script.event).ok()?;
    paced.left -= 1;
    let gap = paced.gap;
    *place = Some(paced);
    Some(gap)
}
