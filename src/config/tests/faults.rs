//! Broken files and the exact lines that an operator gets to see. Each row is one file that replaces its
//! counterpart in a small good configuration.

use super::dir::{Dir, certificate_and_key};

/// One broken file → its faults, each without the `conf/<file>` that it begins with.
pub(super) fn check(file: &str, rows: &[(&str, &[&str])]) {
    for (text, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|line| format!("conf/{file}{line}")).collect();
        assert_eq!(Dir::small(&[(file, text)]).faults(), expected, "\n{text}");
    }
}

/// A `tollgate.yaml` that is good but for what is added (from line 4 on).
fn gateway(rest: &str) -> String {
    format!("listeners: [{{address: '127.0.0.1:0', cleartext: true}}]\nauth:\n  pepper: env:PEPPER\n{rest}")
}

#[test]
fn yaml_that_cannot_be_read() {
    check(
        "tiers.yaml",
        &[
            (
                "tiers:\n  - name: t\n    - x",
                &[":3: not valid YAML: while parsing a block mapping, did not find expected key"],
            ),
            (
                "tiers: [{name: t}\n",
                &[":2: not valid YAML: while parsing a flow sequence, expected ',' or ']'"],
            ),
            ("tiers: [{name: t}]\n---\ntiers: []\n", &[":3: expected one YAML document, found 2"]),
            ("- 1\n", &[":1: expected a mapping with keys, found a list"]),
            ("tiers: [{name: t}]\n? [a]\n: 1\n", &[":2: expected a plain text key"]),
            ("tiers: !mine [{name: t}]\n", &[":1: tiers: YAML tags (!…) are not supported"]),
            (
                "a: &a {name: t}\ntiers:\n  - <<: *a\n    name: t\n",
                &[
                    ":1: a: unknown key; known here are tiers",
                    ":3: tiers[0].<<: merge keys are not supported; write the keys out, or use an alias as a value",
                ],
            ),
        ],
    );
}

#[test]
fn keys_given_twice() {
    check(
        "tiers.yaml",
        &[
            ("tiers:\n  - name: t\n    name: u\n", &[":3: tiers[0].name: this key was already given above"]),
            // Neither the third nor a later fault is hidden.
            (
                "tiers:\n  - name: t\n    \"name\": u\n    name: v\n    default_max_tokens: x\ntiers: []\n",
                &[
                    ":3: tiers[0].name: this key was already given above",
                    ":4: tiers[0].name: this key was already given above",
                    ":5: tiers[0].default_max_tokens: expected a whole number from 1 to 1000000000, found the text \"x\"",
                    ":6: tiers: this key was already given above",
                ],
            ),
        ],
    );
}

#[test]
fn keys_that_nobody_knows() {
    check(
        "tollgate.yaml",
        &[
            (&gateway("limit:\n  json_depth: 1\n"), &[":4: limit: unknown key; did you mean `limits`?"]),
            (
                &gateway("limits:\n  jsondepth: 1\n  connectoins: 5\n"),
                &[
                    ":5: limits.jsondepth: unknown key; did you mean `json_depth`?",
                    ":6: limits.connectoins: unknown key; did you mean `connections`?",
                ],
            ),
            (
                &gateway("cors: {origin: 1}\n"),
                &[":4: cors.origin: unknown key; known here are allow_origins"],
            ),
        ],
    );
}

#[test]
fn values_of_the_wrong_type() {
    check(
        "tollgate.yaml",
        &[
            (
                &gateway(
                    "limits:\n  connections: \"5\"\n  json_depth: 300\n  event_bytes: 1.5\n  request_body_bytes:\n",
                ),
                &[
                    ":5: limits.connections: expected a whole number of at least 1, found the text \"5\" (remove the quotes)",
                    ":6: limits.json_depth: expected a whole number of at most 256, found 300",
                    ":7: limits.event_bytes: expected a whole number from 1 to 1099511627776, found 1.5",
                    ":8: limits.request_body_bytes: expected a whole number from 1 to 1099511627776, found nothing",
                ],
            ),
            (
                &gateway(
                    "reload: {watch: yes}\nserver: []\ntimeouts: {keepalive_ms: 99999999999999999999}\n",
                ),
                &[
                    ":4: reload.watch: expected true or false, found the text \"yes\" (which is plain text in YAML 1.2)",
                    ":5: server: expected a mapping with keys, found a list",
                    ":6: timeouts.keepalive_ms: expected a whole number from 1 to 604800000, found 99999999999999999999",
                ],
            ),
            (
                &gateway("log: {level: verbose}\nadmin: none\ncors: {allow_origins: '*'}\n"),
                &[
                    ":4: log.level: expected one of off, error, warn, info, debug, trace, found the text \"verbose\"",
                    ":5: admin: expected `off` or a mapping with keys, found the text \"none\"",
                    ":6: cors.allow_origins: expected a list, found a single value",
                ],
            ),
            (
                &gateway(
                    "cors:\n  allow_origins: [https://a.example, 'https://b.example/', https://C.example, a]\n",
                ),
                &[
                    ":5: cors.allow_origins[1]: expected `*` or an origin such as https://app.example:8443, without path \
                 or final slash, found the text \"https://b.example/\"",
                    ":5: cors.allow_origins[2]: expected `*` or an origin such as https://app.example:8443, without path \
                 or final slash, found the text \"https://C.example\"",
                    ":5: cors.allow_origins[3]: expected `*` or an origin such as https://app.example:8443, without path \
                 or final slash, found the text \"a\"",
                ],
            ),
        ],
    );
}

#[test]
fn listeners() {
    let auth = "auth: {pepper: env:PEPPER}\n";
    check(
        "tollgate.yaml",
        &[
            ("", &[":1: listeners: this key is required", ":1: auth: this key is required"]),
            (
                "listeners:\nauth:\n",
                &[
                    ":1: listeners: expected at least one listener, found none",
                    ":2: auth.pepper: this key is required",
                ],
            ),
            (
                &format!("{auth}listeners:\n  - address: 127.0.0.1\n    cleartext: true\n"),
                &[
                    ":3: listeners[0].address: expected an IP address and port such as 127.0.0.1:8080 or [::]:8443, \
                 found the text \"127.0.0.1\"",
                ],
            ),
            (
                &format!(
                    "{auth}listeners:\n  - address: 127.0.0.1:1\n  - address: 127.0.0.1:2\n    cleartext: false\n"
                ),
                &[
                    ":3: listeners[0]: expected `tls` with certificate and key, or `cleartext: true` to say that there is none",
                    ":4: listeners[1]: expected `tls` with certificate and key, or `cleartext: true` to say that there is none",
                ],
            ),
            (
                &format!("{auth}listeners:\n  - address: 127.0.0.1:1\n    tls:\n"),
                &[
                    ":4: listeners[0].tls: expected a value, found nothing (write `null` for none, `{}` for defaults)",
                ],
            ),
            (
                &format!(
                    "{auth}listeners:\n  - {{address: '127.0.0.1:80', cleartext: true}}\n  \
                     - {{address: '0.0.0.0:80', cleartext: true}}\n  - {{address: '[::1]:80', cleartext: true}}\n  \
                     - {{address: '127.0.0.1:9090', cleartext: true}}\nadmin: {{}}\n"
                ),
                &[
                    ":4: listeners[1].address: 0.0.0.0:80 is already taken by listeners[0].address (127.0.0.1:80)",
                    ":7: admin.address: 127.0.0.1:9090 is already taken by listeners[3].address (127.0.0.1:9090)",
                ],
            ),
        ],
    );
}

#[test]
fn certificates() {
    let (certificate, key) = certificate_and_key();
    let (_, other_key) = certificate_and_key();
    let table: [(&str, &str, &[&str]); 5] = [
        (
            "not PEM\n",
            &key,
            &[":3: listeners[0].tls.certificate: expected a PEM certificate, found none in conf/c.pem"],
        ),
        (
            &certificate,
            "not PEM\n",
            &[
                ":4: listeners[0].tls.key: expected a PEM private key without a passphrase, found none in conf/k.pem",
            ],
        ),
        (
            &certificate,
            &other_key,
            &[":4: listeners[0].tls.key: this key does not belong to the first certificate"],
        ),
        (
            &key,
            &certificate,
            &[
                ":3: listeners[0].tls.certificate: expected a PEM certificate, found none in conf/c.pem",
                ":4: listeners[0].tls.key: expected a PEM private key without a passphrase, found none in conf/k.pem",
            ],
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            &[
                ":4: listeners[0].tls.key: the first certificate cannot be used: invalid peer certificate: BadEncoding",
            ],
        ),
    ];
    let text = "listeners:\n  - address: 127.0.0.1:0\n    tls: {certificate: c.pem,\n      key: k.pem}\n\
                auth: {pepper: env:PEPPER}\n";
    for (certificate, key, expected) in table {
        let expected: Vec<_> = expected.iter().map(|line| format!("conf/tollgate.yaml{line}")).collect();
        let dir = Dir::small(&[("tollgate.yaml", text), ("c.pem", certificate), ("k.pem", key)]);
        assert_eq!(dir.faults(), expected);
    }
    check(
        "tollgate.yaml",
        &[(
            text,
            &[
                ":3: listeners[0].tls.certificate: cannot read conf/c.pem: No such file or directory (os error 2)",
                ":4: listeners[0].tls.key: cannot read conf/k.pem: No such file or directory (os error 2)",
            ],
        )],
    );
}

#[test]
fn secrets() {
    let with = |pepper: &str| {
        format!("listeners: [{{address: '127.0.0.1:0', cleartext: true}}]\nauth: {{pepper: {pepper}}}\n")
    };
    const LITERAL: &str = ":2: auth.pepper: expected env:NAME, file:PATH or credential:NAME (secrets are not written \
                           here), found something else, which is not shown because it may be secret";
    const UNFIT: &str =
        ":2: auth.pepper: expected a secret of visible ASCII characters on one line, found something else";
    let table: [(&str, &str); 11] = [
        ("hunter2", LITERAL),
        ("12345", LITERAL),
        ("[hunter2]", LITERAL),
        ("'env:'", LITERAL),
        ("'credential:../hunter2'", LITERAL),
        ("vault:hunter2", LITERAL),
        ("env:NOBODY", ":2: auth.pepper: the environment variable NOBODY is not set"),
        (
            "file:../missing",
            ":2: auth.pepper: cannot read conf/../missing: No such file or directory (os error 2)",
        ),
        (
            "credential:missing",
            ":2: auth.pepper: cannot read conf/missing: No such file or directory (os error 2)",
        ),
        ("env:EMPTY", UNFIT),
        ("env:BLANKS", UNFIT),
    ];
    for (pepper, expected) in table {
        check("tollgate.yaml", &[(&with(pepper), &[expected])]);
        assert!(!expected.contains("hunter2"));
    }
}

#[test]
fn stores() {
    let with = |storage: &str| {
        format!(
            "listeners: [{{address: '127.0.0.1:0', cleartext: true}}]\nauth: {{pepper: env:PEPPER}}\n{storage}\n"
        )
    };
    const URL: &str = ":3: storage.url: expected sqlite:PATH, a postgres:// URL without a password, or env:NAME, \
                       file:PATH or credential:NAME where such a URL is, found something else, which is not shown \
                       because it may be secret";
    let table: [(&str, &str); 7] = [
        ("storage: {url: 'postgres://u:hunter2@h/d'}", URL),
        ("storage: {url: 'sqlite:'}", URL),
        ("storage: {url: 'mysql://u@h/d'}", URL),
        (
            "storage: {url: 'postgres://u@h/d?sslmode=require'}",
            ":3: storage.url: say in `storage.tls` whether TLS is used, not in the URL",
        ),
        (
            "storage: {url: 'postgres://u@h'}",
            ":3: storage.url: expected a URL such as postgres://user:password@host:5432/database, found one without a \
             database",
        ),
        (
            "storage: {url: env:PEPPER}",
            ":3: storage.url: expected a URL such as postgres://user:password@host:5432/database, found something else",
        ),
        (
            "storage: {tls: maybe}",
            ":3: storage.tls: expected one of auto, required, off, found the text \"maybe\"",
        ),
    ];
    for (storage, expected) in table {
        check("tollgate.yaml", &[(&with(storage), &[expected])]);
    }
}

#[test]
fn stores_of_shared_limits() {
    const URL: &str = "expected a URL such as redis://host:6379/0 or rediss://host:6379, without user and password, found \
                       something else, which is not shown because it may be secret";
    let table: [(&str, &[&str]); 8] = [
        ("store: 'redis://u:hunter2@h'", &[&format!(":5: limits.store: {URL}")]),
        ("store: [redis://h, 'redis://']", &[&format!(":5: limits.store[1]: {URL}")]),
        ("store: redis://h:0", &[&format!(":5: limits.store: {URL}")]),
        ("store: []", &[":5: limits.store: expected at least one server, found none"]),
        (
            "store: [redis://a, rediss://b, redis://c/1]",
            &[
                ":5: limits.store[1]: expected the scheme and the database of the first server, found others",
                ":5: limits.store[2]: expected the scheme and the database of the first server, found others",
            ],
        ),
        (
            "shared: {slice_percent: 51, timeout_ms: 0, when_down: maybe, gateways: 0}",
            &[
                ":5: limits.shared.slice_percent: expected a whole number of at most 50, found 51",
                ":5: limits.shared.timeout_ms: expected a whole number of at least 1, found 0",
                ":5: limits.shared.when_down: expected one of open, closed, found the text \"maybe\"",
                ":5: limits.shared.gateways: expected a whole number of at least 1, found 0",
            ],
        ),
        (
            "shared: {password: hunter2}",
            &[
                ":5: limits.shared.password: expected env:NAME, file:PATH or credential:NAME (secrets are not written \
                 here), found something else, which is not shown because it may be secret",
            ],
        ),
        (
            "shared: {user: env:PEPPER}",
            &[":5: limits.shared.user: expected `password` beside it, found none"],
        ),
    ];
    for (limits, expected) in table {
        check("tollgate.yaml", &[(&gateway(&format!("limits:\n  {limits}\n")), expected)]);
    }
    check(
        "tiers.yaml",
        &[(
            "tiers:\n  - {name: t, when_store_down: shut}\n",
            &[":2: tiers[0].when_store_down: expected one of open, closed, found the text \"shut\""],
        )],
    );
}

#[test]
fn admin_tokens_and_webhooks() {
    let tokens = "admin:\n  tokens:\n    - {name: a, role: operator, token: env:PEPPER}\n    \
                  - {name: a, role: root, token: env:PEPPER}\n    - {name: b, role: read-only, token: env:PEPPER}\n    \
                  - {name: c, role: read-only, token: env:KEY}\n";
    let webhook = "keys: {poll_ms: 501, webhook: {url: 'https://user@hooks.example/', secret: env:KEY}}\n";
    check(
        "tollgate.yaml",
        &[
            (
                &gateway(tokens),
                &[
                    ":7: admin.tokens[1].role: expected one of read-only, operator, found the text \"root\"",
                    ":8: admin.tokens[2].token: the same token as that of \"a\": it could not be told who used it",
                    ":9: admin.tokens[3].token: expected a token of at least 16 characters, found a shorter one",
                ],
            ),
            (
                &gateway(webhook),
                &[
                    ":4: keys.poll_ms: expected a whole number of at most 500, found 501",
                    ":4: keys.webhook.url: expected an http or https URL without user name, such as \
                     https://hooks.example/tollgate, found the text \"https://user@hooks.example/\"",
                ],
            ),
        ],
    );
}

#[test]
fn faults_of_all_files_come_at_once_and_in_order() {
    let dir = Dir::small(&[
        ("tenants.yaml", "tenants:\n  - {name: n, tier: t, modles: []}\n"),
        ("tiers.yaml", "tiers:\n  - {name: t, max_in_flight: x}\n  - {nmae: u}\n"),
        ("models.yaml", "models: [\n"),
        (
            "tollgate.yaml",
            "listeners:\n  - {address: '127.0.0.1:1', cleartext: 1}\nauth: {pepper: hunter2}\n",
        ),
    ]);
    dir.write("upstreams.yaml", b"pools:\n  - {name: \xff}\n");
    assert_eq!(
        dir.faults(),
        [
            "conf/tollgate.yaml:2: listeners[0].cleartext: expected true or false, found 1",
            "conf/tollgate.yaml:3: auth.pepper: expected env:NAME, file:PATH or credential:NAME (secrets are not written \
         here), found something else, which is not shown because it may be secret",
            "conf/models.yaml:2: not valid YAML: while parsing a node, did not find expected node content",
            "conf/upstreams.yaml: expected UTF-8 text, found other bytes",
            "conf/tiers.yaml:2: tiers[0].max_in_flight: expected a whole number of at least 1, found the text \"x\"",
            "conf/tiers.yaml:3: tiers[1].nmae: unknown key; did you mean `name`?",
            "conf/tiers.yaml:3: tiers[1].name: this key is required",
            "conf/tenants.yaml:2: tenants[0].modles: unknown key; did you mean `models`?",
        ]
    );
}

#[test]
fn missing_files_are_faults() {
    let dir = Dir::small(&[]);
    std::fs::remove_dir_all(dir.conf()).expect("it is there");
    let missing = "cannot be read: No such file or directory (os error 2)";
    let expected: Vec<_> =
        crate::config::file_names().iter().map(|name| format!("conf/{name}: {missing}")).collect();
    assert_eq!(dir.faults(), expected);
}
