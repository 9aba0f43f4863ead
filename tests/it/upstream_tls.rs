//! TLS towards servers: the certificate is checked against the authority and the name that the operator gives, and
//! a server that fails the check never sees a request.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::conf::Conf;
use crate::harness::eventually;
use crate::harness::gateway::{Folder, Gateway, chat};
use crate::harness::tls::{Certificate, Front, NAME};
use crate::harness::upstream::Upstream;
use crate::harness::upstream_h2::UpstreamH2;

fn conf(address: SocketAddr, tls: Value, http2: bool) -> Conf {
    Conf::new().server_with(address, json!({"tls": tls, "http2": http2}))
}

fn trusted(certificate: &Certificate) -> Value {
    json!({"server_name": NAME, "ca": certificate.chain.display().to_string()})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_proves_its_name_is_used() {
    let upstream = Upstream::chatting().await;
    let folder = Folder::new();
    let certificate = Certificate::new(folder.path());
    let front = Front::start(&certificate, upstream.address, &["http/1.1"]).await;
    let gateway = Gateway::start_in(folder, &conf(front.address, trusted(&certificate), false)).await;
    gateway.until_health("s0", true).await;
    for streams in [false, true] {
        let answer = gateway.chat(json!({"stream": streams})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(upstream.count(), 2);
    assert!(front.handshakes() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_spoken_over_tls() {
    let upstream = UpstreamH2::start().await;
    let folder = Folder::new();
    let certificate = Certificate::new(folder.path());
    let front = Front::start(&certificate, upstream.address, &["h2"]).await;
    let gateway = Gateway::start_in(folder, &conf(front.address, trusted(&certificate), true)).await;
    gateway.until_health("s0", true).await;
    let answer = gateway.chat(json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_gets_nothing() {
    for (name, tls) in [
        ("an unknown authority", json!({"server_name": NAME})),
        ("another name", json!({"server_name": "other.test", "ca": "CHAIN"})),
    ] {
        let upstream = Upstream::chatting().await;
        let folder = Folder::new();
        let certificate = Certificate::new(folder.path());
        let front = Front::start(&certificate, upstream.address, &["http/1.1"]).await;
        let tls = Value::clone(&tls).to_string().replace("CHAIN", &certificate.chain.display().to_string());
        let tls = serde_json::from_str(&tls).expect("JSON");
        let gateway = Gateway::start_in(folder, &conf(front.address, tls, false)).await;
        gateway.until_health("s0", false).await;
        let answer = eventually("a refusal", || async {
            let answer = gateway.exchange(&chat(json!({}))).await;
            (answer.status == 503).then_some(answer)
        })
        .await;
        answer.expect_error(503, "no_upstream_available");
        assert_eq!(upstream.count(), 0, "{name}: a request reached the server");
    }
}
