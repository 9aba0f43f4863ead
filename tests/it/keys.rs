//! The life of a key over `/admin/v1/keys`, and who may write it.

use serde_json::{Value, json};

use crate::harness::conf::Conf;
use crate::harness::eventually;
use crate::harness::gateway::{Folder, Gateway, chat};
use crate::harness::request::Request;
use crate::harness::upstream::Upstream;

pub(crate) const OPERATOR: &str = "operator-token-of-the-tests";
pub(crate) const READER: &str = "reader-token-of-the-tests";

/// A configuration with two holders of tokens, and the folder that has the tokens.
pub(crate) fn with_admin(conf: Conf) -> (Folder, Conf) {
    let folder = Folder::new();
    for (name, token) in [("operator.token", OPERATOR), ("reader.token", READER)] {
        std::fs::write(folder.path().join(name), token).expect("a file");
    }
    let tokens = json!([
        {"name": "ops", "role": "operator", "token": "file:operator.token"},
        {"name": "eye", "role": "read-only", "token": "file:reader.token"},
    ]);
    (folder, conf.set("tollgate.admin.tokens", tokens))
}

pub(crate) async fn start(conf: Conf) -> Gateway {
    let (folder, conf) = with_admin(conf);
    Gateway::start_in(folder, &conf).await
}

/// A new key: its id and the whole key.
pub(crate) async fn create(gateway: &Gateway, fields: Value) -> (String, String) {
    let (status, made) = gateway.call(OPERATOR, "POST", "/keys", fields).await;
    assert_eq!(status, 201, "{made}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&made["key"]["id"]), text(&made["secret"]))
}

/// The status of a chat under this key.
pub(crate) async fn status(gateway: &Gateway, key: &str) -> u16 {
    gateway.exchange(&chat(json!({})).without("authorization").key(key)).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_made_used_changed_and_ended() {
    let upstream = Upstream::chatting().await;
    let gateway = start(Conf::to(upstream.address)).await;
    let fields = json!({"tenant": "acme", "labels": {"team": "search"}, "models": ["test-*"]});
    let (id, key) = create(&gateway, fields).await;
    assert_eq!(status(&gateway, &key).await, 200, "it works at once");
    assert_eq!(status(&gateway, &format!("{key}x")).await, 401);
    let path = format!("/keys/{id}");
    let (_, shown) = gateway.call(READER, "GET", &path, Value::Null).await;
    let shown = &shown["key"];
    assert_eq!((&shown["state"], &shown["labels"]["team"]), (&json!("active"), &json!("search")));
    assert!(shown["last_used"].is_string(), "{shown}");

    let narrower = json!({"endpoints": ["embeddings", "models"], "expires": "2999-12-31"});
    let (code, changed) = gateway.call(OPERATOR, "PATCH", &path, narrower).await;
    assert_eq!((code, &changed["key"]["expires"]), (200, &json!("3000-01-01T00:00:00Z")), "{changed}");
    assert_eq!(status(&gateway, &key).await, 403);
    let wider = json!({"endpoints": null, "models": ["org/*"]});
    assert_eq!(gateway.call(OPERATOR, "PATCH", &path, wider).await.0, 200);
    assert_eq!(status(&gateway, &key).await, 404, "the model is not for this key any more");
    assert_eq!(gateway.call(OPERATOR, "PATCH", &path, json!({"models": null})).await.0, 200);
    assert_eq!(status(&gateway, &key).await, 200);

    assert_eq!(gateway.call(OPERATOR, "POST", &format!("{path}/expire"), json!({})).await.0, 200);
    assert_eq!(status(&gateway, &key).await, 401, "expired");
    let never = json!({"at": null});
    assert_eq!(gateway.call(OPERATOR, "POST", &format!("{path}/expire"), never).await.0, 200);
    assert_eq!(status(&gateway, &key).await, 200);
    let (code, revoked) = gateway.call(OPERATOR, "POST", &format!("{path}/revoke"), Value::Null).await;
    assert_eq!((code, &revoked["key"]["state"]), (200, &json!("revoked")));
    assert_eq!(status(&gateway, &key).await, 401, "at once");
    let (code, refused) = gateway.call(OPERATOR, "POST", &format!("{path}/rotate"), Value::Null).await;
    assert_eq!((code, &refused["error"]["code"]), (409, &json!("conflict")), "{refused}");

    assert_eq!(gateway.call(OPERATOR, "DELETE", &path, Value::Null).await.0, 200);
    assert_eq!(gateway.call(OPERATOR, "GET", &path, Value::Null).await.0, 404);
    let again = json!({"tenant": "acme", "id": id});
    assert_eq!(gateway.call(OPERATOR, "POST", "/keys", again).await.0, 409, "an id is given once");

    let log = gateway.log();
    for line in [
        format!("made key {id} for tenant acme"),
        format!("changed endpoints, expires of key {id} of tenant acme"),
        format!("revoked key {id} of tenant acme"),
        format!("deleted key {id} of tenant acme"),
    ] {
        assert!(log.contains(&format!("admin: ops (127.0.0.1) {line}\n")), "{line}: {log}");
    }
    assert!(!log.contains(&key) && !log.contains(OPERATOR), "no secret is logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_holders_of_a_token_come_in_and_readers_only_look() {
    let upstream = Upstream::chatting().await;
    let gateway = start(Conf::to(upstream.address)).await;
    let made = json!({"tenant": "acme"});
    for (token, method, path, body, expected, code) in [
        (READER, "GET", "/keys", Value::Null, 200, Value::Null),
        (READER, "GET", "/status", Value::Null, 200, Value::Null),
        (READER, "POST", "/keys", made.clone(), 403, json!("forbidden")),
        (READER, "DELETE", "/keys/main", Value::Null, 403, json!("forbidden")),
        ("wrong-token-of-the-tests", "GET", "/keys", Value::Null, 401, json!("unauthorized")),
        ("", "GET", "/keys", Value::Null, 401, json!("unauthorized")),
        (OPERATOR, "POST", "/status", Value::Null, 405, json!("method_not_allowed")),
        (OPERATOR, "PUT", "/keys", Value::Null, 405, json!("method_not_allowed")),
        (OPERATOR, "GET", "/nothing", Value::Null, 404, json!("not_found")),
        (OPERATOR, "GET", "/keys/nobody", Value::Null, 404, json!("not_found")),
        (OPERATOR, "POST", "/keys/nobody/revoke", Value::Null, 404, json!("not_found")),
        (OPERATOR, "POST", "/keys/main/revoke", Value::Null, 409, json!("conflict")),
        (OPERATOR, "POST", "/keys", json!({"tenant": "acme", "id": "main"}), 409, json!("conflict")),
        (OPERATOR, "POST", "/keys", json!({"tenant": "nobody"}), 400, json!("invalid_field")),
        (OPERATOR, "POST", "/keys", json!({"tenant": "acme", "tier": "x"}), 400, json!("invalid_field")),
        (
            OPERATOR,
            "POST",
            "/keys",
            json!({"tenant": "acme", "models": ["hidden-model"]}),
            400,
            json!("invalid_field"),
        ),
        (
            OPERATOR,
            "POST",
            "/keys",
            json!({"tenant": "acme", "expires": "2020-01-01"}),
            400,
            json!("invalid_field"),
        ),
        (OPERATOR, "POST", "/keys", json!([]), 400, json!("invalid_json")),
        (OPERATOR, "GET", "/keys?limit=0", Value::Null, 400, json!("invalid_field")),
        (OPERATOR, "GET", "/keys?state=lost", Value::Null, 400, json!("invalid_field")),
    ] {
        let (status, answer) = gateway.call(token, method, path, body).await;
        assert_eq!((status, &answer["error"]["code"]), (expected, &code), "{method} {path}: {answer}");
        assert!(expected < 400 || answer["error"]["message"].as_str().is_some_and(|text| text.len() > 8));
    }
    let large = json!({"tenant": "acme", "labels": {"a": "x".repeat(70_000)}});
    assert_eq!(gateway.call(OPERATOR, "POST", "/keys", large).await.0, 413);

    let closed = Gateway::start(&Conf::to(upstream.address)).await;
    let (status, answer) = closed.call(OPERATOR, "GET", "/keys", Value::Null).await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("admin_api_disabled")));
    assert!(
        answer["error"]["message"].as_str().is_some_and(|text| text.contains("admin.tokens")),
        "{answer}"
    );
    assert_eq!(closed.admin("/readyz").await.status, 200, "that stays open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_with_what_is_declared_among_them() {
    let upstream = Upstream::chatting().await;
    let gateway = start(Conf::to(upstream.address)).await;
    for number in 0..7 {
        create(&gateway, json!({"tenant": "acme", "id": format!("key{number}")})).await;
    }
    create(&gateway, json!({"tenant": "other", "id": "zzzz"})).await;
    gateway.call(OPERATOR, "POST", "/keys/key3/revoke", Value::Null).await;
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let (_, page) =
            gateway.call(READER, "GET", &format!("/keys?limit=3&after={after}"), Value::Null).await;
        let keys = page["keys"].as_array().expect("a list");
        assert!(keys.len() <= 3);
        seen.extend(keys.iter().map(|key| key["id"].as_str().expect("an id").to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    let expected = ["key0", "key1", "key2", "key3", "key4", "key5", "key6", "main", "other", "zzzz"];
    assert_eq!(seen, expected);
    let ids = async |query: &str| -> Vec<String> {
        let (_, page) = gateway.call(READER, "GET", &format!("/keys?{query}"), Value::Null).await;
        let keys = page["keys"].as_array().expect("a list");
        keys.iter().map(|key| key["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids("tenant=other").await, ["other", "zzzz"]);
    assert_eq!(ids("state=revoked").await, ["key3"]);
    assert_eq!(ids("tenant=acme&state=active&after=key4").await, ["key5", "key6", "main"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_the_store_live_on_through_reloads_and_restarts() {
    let upstream = Upstream::chatting().await;
    let (folder, conf) = with_admin(Conf::to(upstream.address));
    let mut gateway = Gateway::start_in(folder, &conf).await;
    let (_, key) =
        create(&gateway, json!({"tenant": "other", "id": "kept", "models": ["hidden-model"]})).await;
    let hidden = chat(json!({"model": "hidden-model"})).without("authorization").key(&key);
    assert_eq!(gateway.exchange(&hidden).await.status, 200);

    // What the tenant may use is worked out anew.
    gateway.reload(&conf.clone().set("tenants.tenants.1.models", json!(["test-*"]))).await;
    assert_eq!(gateway.exchange(&hidden).await.status, 404);
    gateway.reload(&conf.clone().set("tenants.tenants.1.name", "renamed")).await;
    assert_eq!(gateway.exchange(&hidden).await.status, 401, "its tenant is gone");
    let homeless = gateway.metrics().await.sum("tollgate_keys", &[("kind", "homeless")]);
    assert!((homeless - 1.0).abs() < f64::EPSILON, "{homeless}");
    gateway.reload(&conf).await;
    assert_eq!(gateway.exchange(&hidden).await.status, 200, "and back");

    // A declared key of the same id is the one that counts, and the clash is told.
    const DECLARED: &str = "tg_kept_declared00000000000000000000000000000000000";
    let clash = conf.clone().key(1, "kept", DECLARED);
    gateway.reload(&clash).await;
    assert_eq!(gateway.exchange(&hidden).await.status, 401);
    let declared = chat(json!({"model": "hidden-model"})).without("authorization").key(DECLARED);
    assert_eq!(gateway.exchange(&declared).await.status, 200);
    assert!(gateway.log().contains("which is the one that counts"), "{}", gateway.log());
    gateway.reload(&conf).await;
    assert_eq!(gateway.exchange(&hidden).await.status, 200);

    let again = gateway.killed_and_started_again().await;
    assert_eq!(again.exchange(&hidden).await.status, 200, "nothing is lost with the process");
    let used = async || {
        let (_, shown) = again.call(READER, "GET", "/keys/kept", Value::Null).await;
        shown["key"]["last_used"].as_str().map(str::to_owned)
    };
    assert!(used().await.is_some());
    // Written back after a while: another process can read it.
    eventually("the last use to be in the store", || async {
        let (code, out, _) = again.command(&["key", "show", "kept", "--json"]);
        let shown: Value = serde_json::from_str(&out).expect("JSON");
        (code == Some(0) && shown["key"]["last_used"].is_string()).then_some(())
    })
    .await;
    let models = Request::get("/v1/models").key(&key);
    assert_eq!(again.exchange(&models).await.status, 200);
}
