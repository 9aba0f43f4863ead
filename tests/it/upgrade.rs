//! A new process takes the sockets over from the running one, and no client notices.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use tokio::sync::Semaphore;

use crate::harness::client::{Client, Next};
use crate::harness::conf::{Conf, MODEL};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::script;
use crate::harness::upstream::Upstream;

/// At most so many requests by each of the clients.
const BOUND: usize = 5000;
const CLIENTS: usize = 2;

/// Two processes must be told the same ports, so these are looked for beforehand. Taken one after the other while
/// both are held, they differ.
fn free_ports() -> [SocketAddr; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("bound"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_a_new_process_takes_over() {
    let gate = Arc::new(Semaphore::new(1));
    let events = script::chat_events(MODEL, &["a ", "b ", "c "], None);
    let gated = script::gated_stream(&events, &gate);
    let upstream =
        Upstream::start(
            move |seen| {
                if seen.json()["stream"] == true { gated.clone() } else { script::chat(MODEL) }
            },
        )
        .await;
    let [data, admin] = free_ports();
    let conf = Conf::to(upstream.address)
        .set("tollgate.listeners.0.address", data.to_string())
        .set("tollgate.admin.address", admin.to_string());
    let mut old = Gateway::start(&conf).await;
    let mut stream = old.connect().await.open_stream(&chat(json!({"stream": true}))).await;
    assert_eq!(stream.event().await, events[0]);

    let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(keep_asking(data, Arc::clone(&is_over), Arc::clone(&count))))
        .collect();
    let new = old.hand_over().await;
    assert!(!old.has_ended(), "the old process left its stream");
    // What the old process had in work comes to its end there.
    gate.add_permits(events.len());
    let (rest, end) = stream.remaining().await;
    assert_eq!((rest.as_slice(), end), (&events[1..], Next::End));
    assert!(old.exit().await.success());
    // The new one alone.
    let before = count.load(Ordering::SeqCst);
    crate::harness::eventually("requests that only the new process can answer", || async {
        (count.load(Ordering::SeqCst) >= before + 20).then_some(())
    })
    .await;
    is_over.store(true, Ordering::SeqCst);
    for client in clients {
        let failures = client.await.expect("the task of a client");
        assert!(failures.is_empty(), "{} failed: {failures:?}", failures.len());
    }
    assert_eq!(new.address(), data);
    assert_eq!(new.admin("/readyz").await.status, 200);
    assert_eq!(new.chat(json!({})).await.status, 200);
    assert!(!data.ip().is_unspecified() && upstream.count() > 40);
}

/// Asks on a new connection each time, until told to stop or [`BOUND`], and gives what failed.
async fn keep_asking(address: SocketAddr, is_over: Arc<AtomicBool>, count: Arc<AtomicUsize>) -> Vec<String> {
    let mut failures = Vec::new();
    for number in 0..BOUND {
        if is_over.load(Ordering::SeqCst) {
            break;
        }
        let mut client = Client::connect(address).await;
        match client.try_exchange(&chat(json!({}))).await {
            Ok(answer) if answer.status == 200 && answer.is_whole => {}
            Ok(answer) => failures.push(format!("request {number}: {} {}", answer.status, answer.text())),
            Err(error) => failures.push(format!("request {number}: {error}")),
        }
        count.fetch_add(1, Ordering::SeqCst);
        // A steady trickle over the hand-over's 6 s; the machine is for the gateways.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    failures
}
