//! New secrets: by hand with a grace period, on schedule into a file, and who is told.

use ring::hmac;
use serde_json::{Value, json};

use crate::harness::conf::Conf;
use crate::harness::eventually;
use crate::harness::gateway::Gateway;
use crate::harness::script::{Step, chat as any_answer};
use crate::harness::upstream::{Seen, Upstream};
use crate::keys::{OPERATOR, create, start, status, with_admin};

const SIGNING: &str = "what-signs-the-events-of-the-tests";

/// The configuration with events going to `hook`.
fn telling(upstream: &Upstream, hook: &Upstream) -> (crate::harness::gateway::Folder, Conf) {
    let (folder, conf) = with_admin(Conf::to(upstream.address));
    std::fs::write(folder.path().join("signing"), SIGNING).expect("a file");
    let webhook =
        json!({"url": format!("http://{}/hook", hook.address), "secret": "file:signing", "attempts": 3});
    (folder, conf.set("tollgate.keys.webhook", webhook))
}

/// The events of a kind that have come, their signatures checked.
fn events(hook: &Upstream, kind: &str) -> Vec<Value> {
    let read = |seen: &Seen| {
        let field = |name: &str| seen.head.get(name).expect("a field of the standard").to_owned();
        let body = String::from_utf8(seen.body.clone()).expect("JSON is text");
        let signed = format!("{}.{}.{body}", field("webhook-id"), field("webhook-timestamp"));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SIGNING.as_bytes()), signed.as_bytes());
        assert_eq!(field("webhook-signature"), format!("v1,{}", base64(tag.as_ref())));
        assert!(!body.contains("tg_"), "no secret is sent: {body}");
        serde_json::from_str::<Value>(&body).expect("JSON")
    };
    hook.seen().iter().map(read).filter(|event| event["type"] == kind).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = [0; 3];
        bits[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, bits[0], bits[1], bits[2]]);
        for index in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]);
            text.push(if index <= group.len() { digit } else { '=' });
        }
    }
    text
}

async fn event(hook: &Upstream, kind: &str) -> Value {
    eventually(&format!("the event {kind}"), || async { events(hook, kind).first().cloned() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_secrets_work_until_the_grace_period_is_over() {
    let upstream = Upstream::chatting().await;
    let gateway = start(Conf::to(upstream.address)).await;
    let (id, old) = create(&gateway, json!({"tenant": "acme"})).await;
    let rotate =
        async |body: Value| gateway.call(OPERATOR, "POST", &format!("/keys/{id}/rotate"), body).await;
    let (code, rotated) = rotate(json!({"grace_s": 3600})).await;
    assert_eq!((code, &rotated["key"]["state"]), (200, &json!("rotating")), "{rotated}");
    let new = rotated["secret"].as_str().expect("a secret").to_owned();
    assert_eq!((status(&gateway, &old).await, status(&gateway, &new).await), (200, 200));
    let metrics = gateway.metrics().await;
    assert!(
        (metrics.sum("tollgate_auth_previous_secret_total", &[("tenant", "acme")]) - 1.0).abs()
            < f64::EPSILON
    );
    let counted = || async {
        let metrics = gateway.metrics().await;
        let rotating = metrics.sum("tollgate_keys", &[("kind", "rotating")]);
        let ends = metrics.sum("tollgate_key_previous_secret_end_timestamp_seconds", &[]);
        ((rotating - 1.0).abs() < f64::EPSILON && ends > 1e9).then_some(())
    };
    eventually("the rotation to be counted", counted).await;
    let (_, shown) = gateway.call(OPERATOR, "GET", &format!("/keys/{id}"), Value::Null).await;
    assert!(shown["key"]["previous_secret"]["last_used"].is_string(), "it shows who has not moved: {shown}");

    let (code, refused) = rotate(json!({})).await;
    assert_eq!(code, 409, "it would cut off who still uses the first: {refused}");
    let (code, forced) = rotate(json!({"grace_s": 1, "force": true})).await;
    assert_eq!(code, 200, "{forced}");
    let newest = forced["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(status(&gateway, &old).await, 401, "the secret before last");
    assert_eq!(status(&gateway, &newest).await, 200);
    eventually("the grace period to end", || async { (status(&gateway, &new).await == 401).then_some(()) })
        .await;
    assert_eq!(status(&gateway, &newest).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_puts_the_new_key_into_a_file_and_tells() {
    let (upstream, hook) = (Upstream::chatting().await, Upstream::start(|_| any_answer("none")).await);
    let (folder, conf) = telling(&upstream, &hook);
    let secrets = folder.path().join("secrets");
    let conf = conf.set("tollgate.keys.rotation_folder", secrets.display().to_string());
    let gateway = Gateway::start_in(folder, &conf).await;
    let fields = json!({"tenant": "acme", "rotate_every_s": 3600, "rotation_grace_s": 600});
    let (id, old) = create(&gateway, fields).await;
    // Its time has come.
    let due = json!({"rotate_every_s": 6, "rotation_grace_s": 4});
    assert_eq!(gateway.call(OPERATOR, "PATCH", &format!("/keys/{id}"), due).await.0, 200);
    let file = secrets.join(format!("{id}.key"));
    let new = eventually("the new key", || async { std::fs::read_to_string(&file).ok() }).await;
    let new = new.trim_end();
    assert!(new.starts_with(&format!("tg_{id}_")) && new != old);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777, 0o600);
    let told = event(&hook, "key.rotated").await;
    let data = &told["data"];
    assert_eq!((&data["key_id"], &data["tenant"]), (&json!(id), &json!("acme")), "{told}");
    assert!(data["previous_works_until"].is_string() && data["secret_file"].as_str().is_some(), "{told}");
    event(&hook, "key.rotation_ending").await;
    assert!(gateway.metrics().await.sum("tollgate_key_rotations_total", &[]) >= 1.0);
    assert!(gateway.metrics().await.sum("tollgate_webhooks_total", &[("result", "ok")]) >= 2.0);
    assert!(!gateway.log().contains(new), "no secret is logged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_due_rotation_is_announced_where_nobody_could_be_given_the_secret() {
    // The hook is down for the first try.
    let hook =
        Upstream::start(|_| vec![Step::Send(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec())])
            .await;
    let upstream = Upstream::chatting().await;
    let (folder, conf) = telling(&upstream, &hook);
    let gateway = Gateway::start_in(folder, &conf).await;
    let fields = json!({"tenant": "acme", "rotate_every_s": 1, "rotation_grace_s": 0, "id": "duekey"});
    let (id, key) = create(&gateway, fields).await;
    event(&hook, "key.rotation_due").await;
    hook.answer_with(|_| any_answer("none"));
    eventually("the second try", || async { (events(&hook, "key.rotation_due").len() >= 2).then_some(()) })
        .await;
    let ids: Vec<_> = hook.seen().iter().map(|seen| seen.head.get("webhook-id").map(str::to_owned)).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "a repetition can be told: {ids:?}");
    let overdue = || async {
        let count = gateway.metrics().await.sum("tollgate_key_rotations_overdue", &[]);
        ((count - 1.0).abs() < f64::EPSILON).then_some(())
    };
    eventually("the metric", overdue).await;
    assert_eq!(status(&gateway, &key).await, 200, "nobody is cut off");
    let (code, rotated) =
        gateway.call(OPERATOR, "POST", &format!("/keys/{id}/rotate"), json!({"grace_s": 60})).await;
    assert_eq!(code, 200, "{rotated}");
    event(&hook, "key.rotated").await;
}
