//! Models as clients see them: the gateway's own list, not a server's.

use serde_json::json;

use crate::harness::conf::{Conf, KEY, OTHER_KEY};
use crate::harness::gateway::{Gateway, chat};
use crate::harness::request::Request;
use crate::harness::upstream::Upstream;

fn get(target: &str) -> Request {
    Request::get(target).key(KEY)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_holds_what_the_key_may_use() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let names = async |key: &str| -> Vec<String> {
        let answer = gateway.exchange(&Request::get("/v1/models").key(key)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.head.get("content-type"), Some("application/json"));
        let list = answer.json();
        assert_eq!(list["object"], "list");
        let data = list["data"].as_array().expect("a list").clone();
        for model in &data {
            assert_eq!(model["object"], "model");
            assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        }
        data.iter().map(|model| model["id"].as_str().expect("text").to_owned()).collect()
    };
    let own = names(KEY).await;
    for name in ["test-model", "test-embed", "org/slash-model"] {
        assert!(own.iter().any(|found| found == name), "{name} in {own:?}");
    }
    assert!(!own.iter().any(|found| found == "hidden-model"), "{own:?}");
    assert_eq!(names(OTHER_KEY).await, ["hidden-model"]);
    gateway.exchange(&Request::get("/v1/models")).await.expect_error(401, "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_model_is_found_by_name_however_it_is_escaped() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let cases = [
        ("/v1/models/test-model", "test-model"),
        ("/v1/models/org/slash-model", "org/slash-model"),
        ("/v1/models/org%2Fslash-model", "org/slash-model"),
        ("/v1/models/org%2fslash-model", "org/slash-model"),
    ];
    for (target, name) in cases {
        let answer = gateway.exchange(&get(target)).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert_eq!(answer.json()["id"], name, "{target}");
        assert_eq!(answer.json()["object"], "model", "{target}");
    }
    for target in ["/v1/models/no-such-model", "/v1/models/hidden-model", "/v1/models/org"] {
        let error = gateway.exchange(&get(target)).await.expect_error(404, "model_not_found");
        assert_eq!(error["param"], "model", "{target}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_is_sent_upstream_by_the_served_name_and_answered_by_its_own() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address).set(
        "upstreams.pools.0.models",
        json!([{"model": "test-model", "served_as": "meta/served-name"}, "*"]),
    );
    let gateway = Gateway::start(&conf).await;
    for asked in ["test-alias", "test-model"] {
        let answer = gateway.chat(json!({"model": asked})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["model"], asked);
        let stream = gateway.chat(json!({"model": asked, "stream": true})).await;
        assert!(stream.text().contains(&format!(r#""model":"{asked}""#)), "{}", stream.text());
        assert!(!stream.text().contains("served-name"), "{}", stream.text());
    }
    assert!(upstream.seen().iter().all(|seen| seen.json()["model"] == "meta/served-name"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_model_names_its_successor() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    let error = gateway.chat(json!({"model": "old-model"})).await.expect_error(410, "model_retired");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("test-model")), "{error}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deprecated_model_says_until_when() {
    let upstream = Upstream::chatting().await;
    let conf = Conf::to(upstream.address)
        .set("models.models.0.deprecated", "2024-06-01")
        .set("models.models.0.end_of_support", "2999-12-31")
        .set("models.models.0.successor", "org/slash-model");
    let gateway = Gateway::start(&conf).await;
    let answer = gateway.chat(json!({})).await;
    assert_eq!(answer.status, 200);
    // RFC 9745: a structured date, seconds since the epoch.
    assert_eq!(answer.head.get("deprecation"), Some("@1717200000"));
    let sunset = answer.head.get("sunset").expect("RFC 8594");
    assert!(sunset.contains("2999") || sunset.contains("3000"), "{sunset}");
    let link = answer.head.get("link").expect("a link to the successor");
    assert!(link.contains("slash-model") && link.contains("successor-version"), "{link}");
    assert_eq!(gateway.chat(json!({"model": "org/slash-model"})).await.head.get("deprecation"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_and_methods_are_exact() {
    let upstream = Upstream::chatting().await;
    let gateway = Gateway::start(&Conf::to(upstream.address)).await;
    for target in
        ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/v1/nothing", "/V1/models", "/metrics", "/admin"]
    {
        gateway.exchange(&get(target)).await.expect_error(404, "not_found");
    }
    let cases = [
        (get("/v1/chat/completions"), "POST"),
        (chat(json!({})).method("PUT"), "POST"),
        (Request::post("/v1/models", "{}").key(KEY), "GET"),
    ];
    for (request, allowed) in cases {
        let answer = gateway.exchange(&request).await;
        answer.expect_error(405, "method_not_allowed");
        let allow = answer.head.get("allow").expect("allow");
        assert!(allow.split(',').any(|method| method.trim() == allowed), "{allow}");
    }
    let health = gateway.exchange(&Request::get("/health")).await;
    assert_eq!(health.status, 200);
    assert!(health.body.len() < 64, "health says nothing else: {}", health.text());
    assert_eq!(upstream.count(), 0);
}
