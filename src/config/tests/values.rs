//! Values that are good, and what they mean.

use std::path::PathBuf;
use std::time::Duration;

use tollgate_filters::request::quota::{Measure, Plan};

use super::dir::{Dir, certificate_and_key};
use crate::calendar;
use crate::config::render;
use crate::config::settings::{AccessLogTarget, AtLimit, Engine, OverCap, Probe, Role, Settings};

/// Loads the small configuration with one file replaced.
fn load(file: &str, text: &str) -> Settings {
    Dir::small(&[(file, text)]).good()
}

fn pool(rest: &str) -> Settings {
    let text = format!("pools:\n  - name: p\n    models: ['m:*']\n{rest}");
    load("upstreams.yaml", &text)
}

#[test]
fn an_absent_section_and_an_empty_one_are_its_defaults() {
    let base = "listeners: [{address: '127.0.0.1:0', cleartext: true}]\nauth: {pepper: env:PEPPER}\n";
    let absent = render(&load("tollgate.yaml", base));
    let empty = "admin:\nlimits:\ntimeouts: {}\ncors:\n  allow_origins:\nreload: null\n";
    assert_eq!(render(&load("tollgate.yaml", &format!("{base}{empty}"))), absent);
}

#[test]
fn defaults_are_those_of_the_contract() {
    let settings = load("tenants.yaml", "");
    assert!(settings.server.workers >= 1);
    assert_eq!(settings.server.drain_timeout, Duration::from_secs(300));
    assert_eq!(settings.admin.expect("on by default").address.to_string(), "127.0.0.1:9090");
    assert_eq!(settings.limits.request_body_bytes, 32 << 20);
    assert_eq!(settings.limits.json_depth, 128);
    assert_eq!(settings.stream.keepalive_comment, Some(Duration::from_secs(15)));
    assert_eq!(settings.log.level, log::LevelFilter::Info);
    assert_eq!(settings.access_log.target, AccessLogTarget::Stdout);
    assert_eq!(settings.reload.watch_interval, Some(Duration::from_secs(1)));
    let prices = settings.models[0].prices.first.prices;
    assert_eq!(
        (prices.input_micro_eur, prices.output_micro_eur, prices.reasoning_micro_eur),
        (900_000, 4_000_000, 21_000_000)
    );
    let pool = &settings.pools[0];
    assert_eq!((pool.retry.attempts, pool.retry.budget_percent), (3, 25));
    assert_eq!(pool.timeouts.answer, Duration::from_secs(600));
    assert_eq!(pool.health.probe, Probe::Http(None));
    assert!(settings.tiers[0].plan.is_empty() && settings.tiers[0].key_plan.is_empty());
    assert_eq!(settings.tiers[0].default_max_tokens, 1024);
}

#[test]
fn zero_and_off_switch_off() {
    let text = "listeners: [{address: '[::1]:0', cleartext: true, http2: false}]\nauth: {pepper: env:PEPPER}\n\
                admin: off\nstream: {keepalive_comment_ms: 0}\nreload: {watch: false}\naccess_log: {target: off}\n\
                log: {level: off}\nserver: {workers: 3}\n";
    let settings = load("tollgate.yaml", text);
    assert!(settings.admin.is_none() && !settings.listeners[0].http2);
    assert_eq!(settings.stream.keepalive_comment, None);
    assert_eq!(settings.reload.watch_interval, None);
    assert_eq!(settings.access_log.target, AccessLogTarget::Off);
    assert_eq!(settings.log.level, log::LevelFilter::Off);
    assert_eq!(settings.server.workers, 3);
}

#[test]
fn prices_are_read_digit_by_digit() {
    let table = [
        ("0.9", 900_000),
        ("21", 21_000_000),
        ("0.000001", 1),
        ("4.50", 4_500_000),
        ("0", 0),
        ("999999999.999999", 999_999_999_999_999),
        // Where a float would be 0.30000000000000004 or so.
        ("0.300001", 300_001),
    ];
    for (text, micro) in table {
        let models = format!("models: [{{name: m, publisher: P, prices: {{output: {text}}}}}]");
        let settings = Dir::small(&[("models.yaml", &models), ("upstreams.yaml", "")]).good();
        assert_eq!(settings.models[0].prices.first.prices.output_micro_eur, micro, "{text}");
    }
}

#[test]
fn servers_have_a_host_and_tls_a_name() {
    let table = [
        ("gpu-1.example:8000", "gpu-1.example", 8000),
        ("192.0.2.7:1", "192.0.2.7", 1),
        ("'[2001:DB8::7]:65535'", "2001:db8::7", 65535),
        ("vllm_1:80", "vllm_1", 80),
    ];
    for (address, host, port) in table {
        let server = format!(
            "    servers: [{{name: s, address: {address}, engine: sglang, tls: {{verify: false}}}}]\n"
        );
        let settings = pool(&server);
        let server = &settings.pools[0].servers[0];
        assert_eq!((server.host.as_str(), server.port, server.engine), (host, port, Engine::Sglang));
        assert_eq!(server.tls.as_ref().expect("it was given").server_name, host);
    }
}

#[test]
fn aliases_of_yaml_are_resolved() {
    let text = "    servers:\n      - {name: a, address: 'h:1', engine: vllm, weight: &w 7}\n      \
                - {name: b, address: 'h:2', engine: vllm, weight: *w}\n    timeouts: &slow {connect_ms: 9}\n  \
                - name: q\n    models: [{model: 'm:1b', served_as: org/m}]\n    \
                servers: [{name: c, address: 'h:3', engine: tgi}]\n    timeouts: *slow\n";
    let settings = pool(text);
    assert_eq!(settings.pools[0].servers[1].weight, 7);
    assert_eq!(settings.pools[1].timeouts.connect, Duration::from_millis(9));
    assert_eq!(settings.pools[1].models[0].served_as.as_deref(), Some("org/m"));
}

#[test]
fn a_price_may_be_an_alias_too() {
    let models = "models:\n  - {name: m, publisher: P, prices: {input: &cheap 0.123456, output: *cheap}}\n";
    let settings = Dir::small(&[("models.yaml", models), ("upstreams.yaml", "")]).good();
    assert_eq!(settings.models[0].prices.first.prices.output_micro_eur, 123_456);
}

#[test]
fn certificates_are_found_beside_the_configuration() {
    let text = "listeners: [{address: '127.0.0.1:0', tls: {certificate: tls/c.pem, key: ../k.pem}}]\n\
                auth: {pepper: env:PEPPER}\n";
    let (certificate, key) = certificate_and_key();
    let dir = Dir::small(&[("tollgate.yaml", text), ("tls/c.pem", &certificate), ("../k.pem", &key)]);
    let settings = dir.good();
    let tls = settings.listeners[0].tls.as_ref().expect("it was given");
    assert_eq!(tls.certificate, dir.conf().join("tls/c.pem"));
    assert_eq!(tls.key, dir.conf().join("../k.pem"));
}

#[test]
fn secrets_come_from_where_the_configuration_says() {
    let table = [
        ("env:PEPPER", "pepper-of-a-test"),
        ("file:secrets/one", "one-line-break-is-cut"),
        ("file:secrets/two", "so-is-a-windows-one"),
        ("credential:from-systemd", "in-the-credentials-directory"),
    ];
    for (from, expected) in table {
        let text =
            format!("listeners: [{{address: '127.0.0.1:0', cleartext: true}}]\nauth: {{pepper: '{from}'}}\n");
        let settings = Dir::small(&[
            ("tollgate.yaml", &text),
            ("secrets/one", "one-line-break-is-cut\n"),
            ("secrets/two", "so-is-a-windows-one\r\n"),
            ("from-systemd", "in-the-credentials-directory"),
        ])
        .good();
        assert_eq!(settings.auth.pepper.expose(), expected, "{from}");
        for shown in [format!("{settings:?}"), render(&settings)] {
            assert!(!shown.contains(expected), "{from}: {shown}");
        }
    }
}

#[test]
fn a_store_elsewhere_is_reached_over_tls_and_its_password_is_not_shown() {
    use crate::config::settings::{PostgresTls, StoragePlace};
    let verified = PostgresTls::Verified { ca: None };
    let table = [
        ("postgres://u:hunter2@db.example/d", "auto", verified.clone()),
        ("postgresql://u:hunter2@127.0.0.1:6000/d", "auto", PostgresTls::Off),
        ("postgres://u:hunter2@%2Frun%2Fpostgresql/d", "auto", PostgresTls::Off),
        ("postgres://u:hunter2@localhost/d", "required", verified),
        ("postgres://u:hunter2@db.example/d", "off", PostgresTls::Off),
    ];
    for (url, tls, expected) in table {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:0', cleartext: true}}]\nauth: {{pepper: env:PEPPER}}\n\
             storage: {{url: file:secrets/store, tls: {tls}}}\n"
        );
        let settings = Dir::small(&[("tollgate.yaml", &text), ("secrets/store", url)]).good();
        for shown in [format!("{settings:?}"), render(&settings)] {
            assert!(!shown.contains("hunter2"), "{url}: {shown}");
        }
        let StoragePlace::Postgres { tls, .. } = settings.storage.place else { panic!("{url} is no file") };
        assert_eq!(tls, expected, "{url}");
    }
}

#[test]
fn limits_are_shared_where_a_store_is_named() {
    use tollgate_filters::request::quota::WhenDown;
    let load = |limits: &str| {
        let text = format!(
            "listeners: [{{address: '127.0.0.1:0', cleartext: true}}]\nauth: {{pepper: env:PEPPER}}\n\
             limits: {{{limits}}}\n"
        );
        Dir::small(&[("tollgate.yaml", &text), ("secrets/limits", "hunter2\n")]).good()
    };
    assert_eq!(load("store: memory, shared: {password: env:PEPPER}").limits.shared, None);
    let settings = load("store: 'redis://h', shared: {password: file:secrets/limits}");
    for shown in [format!("{settings:?}"), render(&settings)] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let shared = settings.limits.shared.expect("a store is named");
    assert_eq!((shared.slice_percent, shared.gateways, shared.when_down), (5, 1, WhenDown::Open));
    assert_eq!(shared.timeout, Duration::from_millis(50));
    assert_eq!((shared.servers, shared.database, shared.is_tls), (vec![("h".to_owned(), 6379)], 0, false));
    let sentinels = load("store: ['rediss://a/2', 'rediss://[::1]:5/2'], shared: {sentinel_master: m}");
    let shared = sentinels.limits.shared.expect("stores are named");
    assert_eq!(shared.servers, [("a".to_owned(), 26_379), ("::1".to_owned(), 5)]);
    assert_eq!((shared.database, shared.is_tls, shared.sentinel_master.as_deref()), (2, true, Some("m")));
    let tiers =
        "tiers: [{name: t, requests_per_minute: 1, when_store_down: closed, per_key: {max_in_flight: 1}}]";
    let tier = &Dir::small(&[("tiers.yaml", tiers)]).good().tiers[0];
    assert_eq!(tier.plan.limits.says_when_down(), Some(WhenDown::Closed));
    assert_eq!(tier.key_plan.limits.says_when_down(), None);
}

#[test]
fn keys_are_known_by_hash_or_by_secret() {
    // python3 -c 'import hmac; print(hmac.new(b"pepper-of-a-test", b"tg_demo_secret", "sha256").hexdigest())'
    let hash = "abd34600095d7cca41ecc9375c32af5578be7a863e5b252781ee5becba2a0949";
    let text = format!(
        "tenants:\n  - name: n\n    tier: t\n    models: [big*, 'm:1b']\n    source_networks: [192.0.2.0/24, '::/0']\n    \
         keys:\n      - {{id: demo, secret: env:KEY}}\n      \
         - {{id: abcd1234, hash: 'hmac-sha256:{hash}', models: ['m:*'], expires: 2030-01-31,\n        \
         tier: t, endpoints: [chat_completions, models], source_networks: [192.0.2.0/25]}}\n"
    );
    let models = "models: [{name: bigger, publisher: P}, {name: 'm:1b', publisher: P}]";
    let settings = Dir::small(&[("tenants.yaml", &text), ("models.yaml", models)]).good();
    let tenant = &settings.tenants[0];
    assert_eq!(tenant.keys[0].hash, tenant.keys[1].hash);
    assert_eq!(tenant.keys[1].models.as_deref(), Some(&["m:*".to_owned()][..]));
    // The last day is a day on which it works.
    assert_eq!(tenant.keys[1].expires.map(calendar::show).as_deref(), Some("2030-02-01T00:00:00Z"));
    assert_eq!(tenant.keys[1].endpoints.as_deref().map(<[_]>::len), Some(2));
    assert_eq!(tenant.keys[1].source_networks[0].to_string(), "192.0.2.0/25");
    assert_eq!((tenant.keys[0].tier.as_deref(), tenant.keys[1].tier.as_deref()), (None, Some("t")));
    assert_eq!(tenant.source_networks[0].prefix, 24);
}

#[test]
fn files_of_the_gateway_are_relative_to_its_working_directory() {
    let text = "listeners: [{address: '127.0.0.1:0', cleartext: true}]\nauth: {pepper: env:PEPPER}\n\
                access_log: {target: var/access.log}\n";
    let settings = load("tollgate.yaml", text);
    assert_eq!(settings.access_log.target, AccessLogTarget::File(PathBuf::from("var/access.log")));
    assert_eq!(settings.server.upgrade_socket, PathBuf::from("var/tollgate-upgrade.sock"));
}

#[test]
fn limits_of_a_tier_are_read_for_tenant_key_and_model() {
    let text = "tiers:\n  - name: t\n    requests_per_minute: 6\n    eur_per_month: 49.9\n    max_tokens: 100\n    \
                at_limit: error\n    over_max_tokens: clamp\n    per_model: [{model: 'm:*', tokens_per_day: 7}]\n    \
                per_key: {max_in_flight: 2, per_model: [{model: '*', input_tokens_per_minute: 3}]}\n";
    let settings = load("tiers.yaml", text);
    let tier = &settings.tiers[0];
    let limits = |plan: &Plan| Measure::ALL.map(|measure| plan.limits.get(measure));
    assert_eq!(limits(&tier.plan), [Some(6), None, None, None, None, None, Some(49_900_000_000_000)]);
    assert_eq!(tier.plan.rules[0].limits.get(Measure::Day), Some(7));
    assert_eq!(limits(&tier.key_plan), [None, None, None, None, Some(2), None, None]);
    assert_eq!(tier.key_plan.rules[0].limits.get(Measure::Input), Some(3));
    assert_eq!((tier.default_max_tokens, tier.max_tokens), (100, Some(100)), "never more than the cap");
    assert_eq!((tier.at_limit, tier.over_max_tokens), (AtLimit::Error, OverCap::Clamp));
}

#[test]
fn keys_of_the_store_and_who_may_change_them() {
    let text = "listeners: [{address: '127.0.0.1:0', cleartext: true}]\nauth: {pepper: env:PEPPER}\n\
                admin: {tokens: [{name: ops, role: operator, token: file:../token}]}\n\
                keys: {rotation_grace_s: 60, rotation_folder: out, snapshot: null, poll_ms: 100,\n\
                \x20 webhook: {url: 'https://[2001:db8::1]:8443/a?b=c', secret: file:../token, attempts: 2}}\n";
    let settings = Dir::small(&[("tollgate.yaml", text), ("../token", "a-token-of-this-test")]).good();
    let admin = settings.admin.as_ref().expect("an admin listener");
    assert_eq!((admin.tokens[0].name.as_str(), admin.tokens[0].role), ("ops", Role::Operator));
    let keys = &settings.keys;
    assert_eq!((keys.rotation_grace.as_secs(), keys.snapshot.as_ref()), (60, None));
    let webhook = keys.webhook.as_ref().expect("a webhook");
    assert_eq!((webhook.url.host.as_str(), webhook.url.port, webhook.attempts), ("2001:db8::1", 8443, 2));
    assert_eq!(webhook.url.to_string(), "https://[2001:db8::1]:8443/a?b=c");
    assert!(!render(&settings).contains("a-token-of-this-test"));
}
