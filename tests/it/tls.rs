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

/// All of a reload or nothing: a fault of one certificate leaves both as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_certificate_keeps_all_as_they_were() {
    let upstream = Upstream::chatting().await;
    let two = Two::start(&upstream).await;
    let stranger = Certificate::new(two.gateway.folder());
    for broken in [0, 1] {
        for (count, fault) in ["no PEM", "no file", "another's key"].into_iter().enumerate() {
            let renewed = two.renew();
            match fault {
                "no PEM" => std::fs::write(&renewed[broken].chain, "no certificate").expect("written"),
                "no file" => std::fs::remove_file(&renewed[broken].chain).expect("it was there"),
                _ => _ = std::fs::copy(&stranger.key, &renewed[broken].key).expect("copied"),
            }
            two.gateway.hang_up().await;
            let metrics = two.gateway.metrics().await;
            let refused = metrics.sum("tollgate_config_reloads_total", &[("result", "rejected")]);
            assert!((refused - (3 * broken + count + 1) as f64).abs() < f64::EPSILON, "{fault}: {refused}");
            two.shows(0, &two.first[0], &renewed[0]).await;
            two.shows(1, &two.first[1], &renewed[1]).await;
        }
    }
    let renewed = two.renew();
    two.gateway.hang_up().await;
    two.shows(0, &renewed[0], &two.first[0]).await;
    two.shows(1, &renewed[1], &two.first[1]).await;
}

/// Certificates were told apart by their place in the list, so that a list in another order swapped them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_stay_with_their_listeners_whatever_the_order() {
    let upstream = Upstream::chatting().await;
    let two = Two::start(&upstream).await;
    two.gateway.reload(&two.conf(&upstream, [1, 0])).await;
    two.shows(0, &two.first[0], &two.first[1]).await;
    two.shows(1, &two.first[1], &two.first[0]).await;
}

/// A gateway with two listeners, each with a certificate of its own. Each has an address of its own as well, since
/// both take any port and are told apart by what is configured.
struct Two {
    gateway: Gateway,
    sides: [std::path::PathBuf; 2],
    first: [Certificate; 2],
}

impl Two {
    async fn start(upstream: &Upstream) -> Self {
        let folder = Folder::new();
        let sides = ["one", "two"].map(|side| folder.path().join(side));
        for side in &sides {
            std::fs::create_dir_all(side).expect("the folder can be written");
        }
        let first = sides.each_ref().map(|side| Certificate::new(side));
        let conf = Self::listening(upstream, &first, [0, 1]);
        let gateway = Gateway::start_in(folder, &conf).await;
        assert_eq!(gateway.addresses().len(), 2);
        Self { gateway, sides, first }
    }

    fn conf(&self, upstream: &Upstream, order: [usize; 2]) -> Conf {
        Self::listening(upstream, &self.first, order)
    }

    fn listening(upstream: &Upstream, certificates: &[Certificate; 2], order: [usize; 2]) -> Conf {
        let addresses = ["127.0.0.1:0", "127.0.0.2:0"];
        let listeners = order.map(|side| listener(addresses[side], &certificates[side]));
        Conf::to(upstream.address).set("tollgate.listeners", listeners.to_vec())
    }

    /// New certificates in the place of the old.
    fn renew(&self) -> [Certificate; 2] {
        self.sides.each_ref().map(|side| Certificate::new(side))
    }

    /// Checks which certificate a listener shows.
    async fn shows(&self, side: usize, shown: &Certificate, not: &Certificate) {
        let address = self.gateway.addresses()[side];
        let (io, _) = shown.connect(address, &[]).await.expect("the right certificate is shown");
        assert_eq!(Client::over(io).exchange(&chat(json!({}))).await.status, 200);
        assert!(not.connect(address, &[]).await.is_err(), "listener {side} shows the wrong certificate");
    }
}
