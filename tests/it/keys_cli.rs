//! `tollgate key` beside running gateways.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::conf::Conf;
use crate::harness::eventually;
use crate::harness::gateway::{Folder, Gateway, binary};
use crate::harness::upstream::Upstream;
use crate::keys::status;

/// A change takes no longer than this to every gateway.
const SECOND: Duration = Duration::from_secs(1);

/// How long after `since` the gateway gives this status under this key.
async fn until(gateway: &Gateway, key: &str, expected: u16, since: Instant) -> Duration {
    eventually(&format!("the status to be {expected}"), || async {
        (status(gateway, key).await == expected).then_some(())
    })
    .await;
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_command_does_every_gateway_knows_within_a_second() {
    let upstream = Upstream::chatting().await;
    let first = Gateway::start(&Conf::to(upstream.address)).await;
    let shared = format!("sqlite:{}", first.folder().join("tollgate.db").display());
    let second = Gateway::start(&Conf::to(upstream.address).set("tollgate.storage.url", shared)).await;
    let made =
        first.command(&["key", "create", "--tenant", "acme", "--id", "abcd", "--label", "a=b", "--json"]);
    assert_eq!(made.0, Some(0), "{made:?}");
    let json: Value = serde_json::from_str(&made.1).expect("JSON");
    let key = json["secret"].as_str().expect("a secret").to_owned();
    let since = Instant::now();
    for gateway in [&first, &second] {
        let took = until(gateway, &key, 200, since).await;
        assert!(took < SECOND, "a new key took {took:?}");
    }
    let (code, table, _) = first.command(&["key", "list"]);
    assert_eq!(code, Some(0));
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(
        rows[1].starts_with("abcd   acme    -     active  -        ") && rows[1].ends_with("store"),
        "{table}"
    );
    assert!(rows[2].starts_with("main   acme ") && rows[2].ends_with("tenants.yaml"), "{table}");

    let rotated = first.command(&["key", "rotate", "abcd", "--json", "--grace", "3600"]);
    let json: Value = serde_json::from_str(&rotated.1).expect("JSON");
    let new = json["secret"].as_str().expect("a secret").to_owned();
    assert!(until(&second, &new, 200, Instant::now()).await < SECOND);
    assert_eq!(status(&second, &key).await, 200, "the old secret works on");
    let (code, _, error) = first.command(&["key", "rotate", "abcd"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("the last rotation is under way"), "{error}");

    assert_eq!(first.command(&["key", "revoke", "abcd"]).0, Some(0));
    let since = Instant::now();
    for gateway in [&first, &second] {
        let took = until(gateway, &new, 401, since).await;
        assert!(took < SECOND, "a revocation took {took:?}");
        assert_eq!(status(gateway, &key).await, 401);
    }
    let (_, shown, _) = first.command(&["key", "show", "abcd"]);
    assert!(
        shown.contains("state             revoked\n") && shown.contains("labels            a=b\n"),
        "{shown}"
    );
    assert!(!shown.contains(&new), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_and_messages_say_what_was_wrong() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    for (arguments, code, message) in [
        (&["key", "show", "nobody"][..], 2, "there is no key \"nobody\" in the store"),
        (
            &["key", "create", "--tenant", "nobody"],
            2,
            "tenant: no tenant of tenants.yaml is called \"nobody\"",
        ),
        (&["key", "create", "--tenant", "acme", "--id", "NO"], 2, "id: expected 4 to 32 of a-z and 0-9"),
        (&["key", "create", "--tenant", "acme", "--id", "main"], 2, "declared in tenants.yaml"),
        (&["key", "create", "--tenant", "acme", "--label", "x"], 2, "--label: expected NAME=VALUE"),
        (
            &["key", "create", "--tenant", "acme", "--rotate-every", "60"],
            2,
            "expected more than the grace period",
        ),
        (&["key", "expire", "main"], 2, "declared in tenants.yaml"),
    ] {
        let (found, out, error) = gateway.command(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {out}{error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
        let mut with_json = arguments.to_vec();
        with_json.push("--json");
        let (found, out, _) = gateway.command(&with_json);
        let json: Value = serde_json::from_str(&out).expect("JSON");
        assert!(
            found == Some(code) && json["error"].as_str().is_some_and(|text| text.contains(message)),
            "{out}"
        );
    }
    let (code, text, _) =
        gateway.command(&["key", "create", "--tenant", "acme", "--declare", "--model", "test-*"]);
    assert_eq!(code, Some(0));
    let yaml = text.split("tenants.yaml:\n\n").nth(1).expect("what to paste");
    let (key, rest) = text.split_once('\n').expect("the key first");
    assert!(rest.contains("the only time") && yaml.contains("hash: hmac-sha256:"), "{text}");
    let id = key.split('_').nth(1).expect("an id");
    let hash = yaml.lines().find_map(|line| line.trim().strip_prefix("hash: ")).expect("a hash");
    let declared = json!([{"id": id, "hash": hash, "models": ["test-*"]}]);
    gateway.reload(&Conf::to(upstream.address).set("tenants.tenants.0.keys", declared)).await;
    assert_eq!(status(&gateway, key).await, 200);

    // The store away is a failure, not wrong use.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let away = Conf::to(upstream.address)
        .set("tollgate.storage.url", format!("postgres://postgres@127.0.0.1:{port}/postgres"));
    away.write(gateway.folder());
    let (code, _, error) = gateway.command(&["key", "list"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("the store is away"), "{error}");
}

/// The pepper is a credential of the service manager: whoever has it can make keys, and with another one nobody can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pepper_is_taken_from_the_service_manager() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let (folder, credentials) = (Folder::new(), Folder::new());
    for entry in std::fs::read_dir(gateway.folder()).expect("its folder").flatten() {
        if entry.path().extension().is_some_and(|ending| ending == "yaml" || ending == "key") {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
        }
    }
    let main = folder.path().join("tollgate.yaml");
    let mut conf: Value = serde_json::from_slice(&std::fs::read(&main).expect("a file")).expect("JSON");
    conf["auth"]["pepper"] = "credential:pepper".into();
    std::fs::write(&main, conf.to_string()).expect("a file");
    let pepper = std::fs::read(gateway.folder().join("pepper")).expect("a file");
    let create = |pepper: Option<&[u8]>| {
        let mut command = binary();
        command.args(["key", "create", "--tenant", "acme", "--json", "--conf"]).arg(folder.path());
        if let Some(pepper) = pepper {
            std::fs::write(credentials.path().join("pepper"), pepper).expect("a file");
            command.env("CREDENTIALS_DIRECTORY", credentials.path());
        }
        let made = tokio::task::block_in_place(|| command.output()).expect("the binary is there");
        let json: Value = serde_json::from_slice(&made.stdout).unwrap_or_default();
        (made.status.code(), json["secret"].as_str().unwrap_or_default().to_owned(), made.stderr)
    };
    let (_, good, _) = create(Some(&pepper));
    let since = Instant::now();
    assert!(until(&gateway, &good, 200, since).await < SECOND);
    let (_, other, _) = create(Some(b"another-pepper-of-the-tests-0123456789"));
    assert_ne!(other, "", "it is made, but not by the gateway's pepper");
    assert_eq!(status(&gateway, &other).await, 401);
    let (code, _, error) = create(None);
    let error = String::from_utf8_lossy(&error).into_owned();
    assert!(code == Some(2) && error.contains("CREDENTIALS_DIRECTORY"), "{code:?} {error}");
}
