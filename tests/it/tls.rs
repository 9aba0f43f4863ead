//! TLS on the client's side: version 1.3 only, HTTP/2 by ALPN, and a certificate that can be replaced.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::conf::Conf;
use crate::harness::gateway::{Folder, Gateway, chat};
use crate::harness::h2::ClientH2;
use crate::harness::tls::Certificate;
use crate::harness::upstream::Upstream;

fn conf(upstream: &Upstream, certificate: &Certificate) -> Conf {
    Conf::to(upstream.address).set("tollgate.listeners.0", listener("127.0.0.1:0", certificate))
}

fn listener(address: &str, certificate: &Certificate) -> Value {
    let path = |file: &Path| Value::from(file.display().to_string());
    json!({
        "address": address, "http2": true,
        "tls": {"certificate": path(&certificate.chain), "key": path(&certificate.key)}
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_protocols_are_spoken_over_tls() {
    let upstream = Upstream::chatting().await;
    let folder = Folder::new();
    let certificate = Certificate::new(folder.path());
    let gateway = Gateway::start_in(folder, &conf(&upstream, &certificate)).await;
    let address = gateway.address();
    let (io, chosen) = certificate.connect(address, &["h2", "http/1.1"]).await.expect("TLS");
    assert_eq!(chosen.as_deref(), Some("h2"));
    let client = ClientH2::over(io).await;
    for streams in [false, true] {
        let answer = client.exchange(&chat(json!({"stream": streams}))).await;
        assert_eq!((answer.status, answer.is_whole), (200, true), "{}", answer.text());
    }
    for protocols in [&["http/1.1"][..], &[]] {
        let (io, chosen) = certificate.connect(address, protocols).await.expect("TLS");
        assert_ne!(chosen.as_deref(), Some("h2"));
        let answer = Client::over(io).exchange(&chat(json!({}))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_versions_and_cleartext_are_turned_away() {
    let upstream = Upstream::chatting().await;
    let folder = Folder::new();
    let certificate = Certificate::new(folder.path());
    let gateway = Gateway::start_in(folder, &conf(&upstream, &certificate)).await;
    let old = certificate.connect_at(gateway.address(), &["h2"], &[&rustls::version::TLS12]).await;
    assert!(old.is_err(), "TLS 1.2 was accepted");
    let mut plain = gateway.connect().await;
    assert!(plain.try_exchange(&chat(json!({}))).await.is_err(), "cleartext was answered on a TLS listener");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_by_a_reload() {
    let upstream = Upstream::chatting().await;
    let folder = Folder::new();
    let first = Certificate::new(folder.path());
    let conf = conf(&upstream, &first);
    let gateway = Gateway::start_in(folder, &conf).await;
    let (io, _) = first.connect(gateway.address(), &[]).await.expect("the first certificate is trusted");
    let mut kept = Client::over(io);
    assert_eq!(kept.exchange(&chat(json!({}))).await.status, 200);
    let second = Certificate::new(gateway.folder());
    gateway.reload(&conf).await;
    assert!(first.connect(gateway.address(), &[]).await.is_err(), "the old certificate is still shown");
    let (io, _) = second.connect(gateway.address(), &[]).await.expect("the new certificate is shown");
    assert_eq!(Client::over(io).exchange(&chat(json!({}))).await.status, 200);
    assert_eq!(kept.exchange(&chat(json!({}))).await.status, 200, "open connections go on");
}

/// The certificates were taken up one by one, so that a fault in the second left a configuration that was refused
/// and half in force.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_certificate_keeps_all_as_they_were() {
    let upstream = Upstream::chatting().await;
    let folder = Folder::new();
    let sides = ["one", "two"].map(|side| folder.path().join(side));
    let make = |side: &Path| {
        std::fs::create_dir_all(side).expect("the folder can be written");
        Certificate::new(side)
    };
    let before: Vec<Certificate> = sides.iter().map(|side| make(side)).collect();
    // Each on an address of its own, since both take any port.
    let listeners = json!([listener("127.0.0.1:0", &before[0]), listener("127.0.0.2:0", &before[1])]);
    let conf = Conf::to(upstream.address).set("tollgate.listeners", listeners);
    let gateway = Gateway::start_in(folder, &conf).await;
    let addresses = gateway.addresses();
    assert_eq!(addresses.len(), 2);
    for broken in [0, 1] {
        let renewed: Vec<Certificate> = sides.iter().map(|side| make(side)).collect();
        std::fs::write(&renewed[broken].chain, "no certificate").expect("written");
        gateway.hang_up().await;
        let refused = gateway.metrics().await.sum("tollgate_config_reloads_total", &[("result", "rejected")]);
        assert!((refused - (broken + 1) as f64).abs() < f64::EPSILON, "{refused}");
        for (address, (old, new)) in addresses.iter().zip(before.iter().zip(&renewed)) {
            let (io, _) = old.connect(*address, &[]).await.expect("the old certificate is shown");
            assert_eq!(Client::over(io).exchange(&chat(json!({}))).await.status, 200);
            assert!(new.connect(*address, &[]).await.is_err(), "a certificate of a refused set is shown");
        }
    }
    let renewed: Vec<Certificate> = sides.iter().map(|side| make(side)).collect();
    gateway.hang_up().await;
    for (address, new) in addresses.iter().zip(&renewed) {
        let (io, _) = new.connect(*address, &[]).await.expect("the new certificate is shown");
        assert_eq!(Client::over(io).exchange(&chat(json!({}))).await.status, 200);
    }
}
