//! Broken catalogues, pools, tiers and tenants: what one key cannot know about another, and the exact lines that an
//! operator gets to see.

use super::faults::check;

#[test]
fn models() {
    check(
        "models.yaml",
        &[
            (
                "models:\n  - name: 'm 1'\n    publisher: ''\n",
                &[
                    ":2: models[0].name: expected a name of at most 128 letters, digits and ._:/@- that begins with a \
                 letter or digit, found the text \"m 1\"",
                    ":3: models[0].publisher: expected text, found the text \"\"",
                ],
            ),
            (
                "models:\n  - {name: m, publisher: P}\n  - {name: m, publisher: P, aliases: [a, m]}\n  \
              - {name: x, publisher: P, aliases: [a]}\n",
                &[
                    ":3: models[1].name: the name \"m\" is already used by models[0].name (line 2)",
                    ":3: models[1].aliases[1]: the name \"m\" is already used by models[0].name (line 2)",
                    ":4: models[2].aliases[0]: the name \"a\" is already used by models[1].aliases[0] (line 3)",
                ],
            ),
            (
                "models:\n  - {name: m, publisher: P, successor: n}\n  - {name: x, publisher: P, aliases: [y], successor: y}\n  \
              - {name: a, publisher: P, successor: b}\n  - {name: b, publisher: P, successor: a}\n  \
              - {name: c, publisher: P, successor: c}\n  - {name: d, publisher: P, successor: a}\n",
                &[
                    ":2: models[0].successor: no model of models.yaml is called \"n\"",
                    ":3: models[1].successor: expected a catalogue name, found an alias of \"x\"",
                    ":4: models[2].successor: the successors of \"a\" lead back to it",
                    ":5: models[3].successor: the successors of \"b\" lead back to it",
                    ":6: models[4].successor: the successors of \"c\" lead back to it",
                ],
            ),
            (
                "models:\n  - name: m\n    publisher: P\n    launched: 2026-13-01\n    deprecated: 2026-03-01\n    \
              end_of_support: 2026-02-01\n",
                &[
                    ":4: models[0].launched: expected a date such as 2026-12-31, found the text \"2026-13-01\"",
                    ":6: models[0].end_of_support: end_of_support is 2026-02-01, which is before deprecated (2026-03-01)",
                ],
            ),
            (
                "models:\n  - name: m\n    publisher: P\n    prices: {input: 0.1234567, output: -1, reasoning: '4'}\n    \
              energy_kwh_per_million: .nan\n    context_length: 0\n",
                &[
                    ":4: models[0].prices.input: expected an amount such as 0.9, with at most 6 decimals and 9 digits before \
                 the point, found 0.1234567",
                    ":4: models[0].prices.output: expected an amount such as 0.9, with at most 6 decimals and 9 digits before \
                 the point, found -1",
                    ":4: models[0].prices.reasoning: expected an amount such as 0.9, with at most 6 decimals and 9 digits \
                 before the point, found the text \"4\" (remove the quotes)",
                    ":5: models[0].energy_kwh_per_million: expected a number such as 0.15, with at most 6 decimals and 9 digits before the \
                     point, found .nan",
                    ":6: models[0].context_length: expected a whole number of at least 1, found 0",
                ],
            ),
            (
                "models:\n  - {name: 7, publisher: P}\n",
                &[
                    ":2: models[0].name: expected a name of at most 128 letters, digits and ._:/@- that begins with a \
                 letter or digit, found 7 (put it in quotes to make it text)",
                ],
            ),
        ],
    );
}

#[test]
fn pools() {
    let server = "{name: s, address: 'h:1', engine: vllm}";
    check(
        "upstreams.yaml",
        &[
            (
                "pools:\n  - {name: p, models: [], servers: []}\n",
                &[
                    ":2: pools[0].models: expected at least one model, found none",
                    ":2: pools[0].servers: expected at least one server, found none",
                ],
            ),
            (
                &format!(
                    "pools:\n  - {{name: p, models: ['*'], servers: [{server}]}}\n  \
                       - {{name: p, models: ['*'], servers: [{server}]}}\n"
                ),
                &[
                    ":3: pools[1].name: the pool name \"p\" is already used by pools[0].name (line 2)",
                    ":3: pools[1].servers[0].name: the server name \"s\" is already used by pools[0].servers[0].name (line 2)",
                ],
            ),
            (
                &format!(
                    "pools:\n  - name: p\n    servers: [{server}]\n    models:\n      - m:9b\n      - x*\n      - big\n      \
                       - m:1b\n      - m:1b\n      - {{model: 'm:*', served_as: z}}\n      - {{served_as: z}}\n"
                ),
                &[
                    ":5: pools[0].models[0]: no model of models.yaml is called \"m:9b\"",
                    ":7: pools[0].models[2]: expected a catalogue name, found an alias of \"m:2b\"",
                    ":9: pools[0].models[4]: the model \"m:1b\" is already used by pools[0].models[3] (line 8)",
                    ":10: pools[0].models[5].served_as: expected one model for this name, found a pattern",
                    ":11: pools[0].models[6].model: this key is required",
                ],
            ),
            (
                "pools:\n  - name: p\n    models: ['*']\n    servers:\n      - name: s\n        address: 'h:1'\n        \
              engine: vlm\n        weight: -3\n        tls: true\n      - name: s2\n        address: ::1:80\n        \
              engine: tgi\n        credential: hunter2\n      - address: http://h:1\n        name: s3\n",
                &[
                    ":7: pools[0].servers[0].engine: expected one of vllm, sglang, tgi, llama.cpp, ollama, transformers, openai, \
                 found the text \"vlm\"",
                    ":8: pools[0].servers[0].weight: expected a whole number of at least 1, found -3",
                    ":9: pools[0].servers[0].tls: expected a mapping with keys, found true",
                    ":11: pools[0].servers[1].address: expected a host and port such as gpu-1.example:8000, 192.0.2.7:8000 or \
                 [2001:db8::7]:8000, found the text \"::1:80\"",
                    ":13: pools[0].servers[1].credential: expected env:NAME, file:PATH or credential:NAME (secrets are not \
                 written here), found something else, which is not shown because it may be secret",
                    ":14: pools[0].servers[2].address: expected a host and port such as gpu-1.example:8000, 192.0.2.7:8000 or \
                 [2001:db8::7]:8000, found the text \"http://h:1\"",
                ],
            ),
            (
                &format!(
                    "pools:\n  - name: p\n    models: ['*']\n    servers: [{server}]\n    health: {{probe: tcp, path: /h}}\n    \
                       passive: {{eject_ms: 5, eject_max_ms: 4}}\n    retry: {{attempts: 0, budget_percent: 101}}\n"
                ),
                &[
                    ":5: pools[0].health.path: only a probe of kind http has a path",
                    ":6: pools[0].passive.eject_max_ms: expected at least eject_ms (5), found 4",
                    ":7: pools[0].retry.attempts: expected a whole number of at least 1, found 0",
                    ":7: pools[0].retry.budget_percent: expected a whole number of at most 100, found 101",
                ],
            ),
            (
                "pools:\n  - name: p\n    models: ['*']\n    servers:\n      - name: s\n        address: h_1:1\n        \
              engine: vllm\n        tls: {server_name: 'a b', ca: none.pem}\n",
                &[
                    ":8: pools[0].servers[0].tls.server_name: expected a host name or IP address that a certificate can \
                 hold, found \"a b\"",
                    ":8: pools[0].servers[0].tls.ca: cannot read conf/none.pem: No such file or directory (os error 2)",
                ],
            ),
        ],
    );
}

#[test]
fn tiers_and_tenants() {
    check(
        "tiers.yaml",
        &[(
            "tiers:\n  - {name: t, max_in_flight: 0}\n  - {name: t, tokens_per_minute: many}\n",
            &[
                ":2: tiers[0].max_in_flight: expected a whole number of at least 1, found 0",
                ":3: tiers[1].tokens_per_minute: expected a whole number of at least 1, found the text \"many\"",
                ":3: tiers[1].name: the tier name \"t\" is already used by tiers[0].name (line 2)",
            ],
        )],
    );
    check(
        "tenants.yaml",
        &[
            (
                "tenants:\n  - {name: a, tier: t, keys: [tg_demo_hunter2]}\n  - {name: b, tier: t, keys: tg_demo_hunter2}\n",
                &[
                    ":2: tenants[0].keys[0]: expected a mapping with keys, found a single value",
                    ":3: tenants[1].keys: expected a list, found a single value",
                ],
            ),
            (
                "tenants:\n  - {name: a, tier: gold}\n  - {name: a, tier: t, models: []}\n  \
              - {name: b, tier: t, models: [big, 'x*'], source_networks: [10.0.0.0, 10.0.0.0/33, '::/128']}\n",
                &[
                    ":2: tenants[0].tier: no tier of tiers.yaml is called \"gold\"",
                    ":3: tenants[1].name: the tenant name \"a\" is already used by tenants[0].name (line 2)",
                    ":3: tenants[1].models: expected at least one model or `*`, found none",
                    ":4: tenants[2].source_networks[0]: expected a network such as 192.0.2.0/24 or 2001:db8::/32 (/32 or /128 \
                 for one address), found the text \"10.0.0.0\"",
                    ":4: tenants[2].source_networks[1]: expected a network such as 192.0.2.0/24 or 2001:db8::/32 (/32 or /128 \
                 for one address), found the text \"10.0.0.0/33\"",
                    ":4: tenants[2].models[0]: expected a catalogue name, found an alias of \"m:2b\"",
                ],
            ),
            (
                "tenants:\n  - name: a\n    tier: t\n    keys:\n      - id: tg_demo_hunter2\n        secret: env:KEY\n      \
              - id: abcd\n      - id: abcd\n        secret: env:KEY\n        hash: hmac-sha256:hunter2\n      \
              - id: efgh\n        secret: env:KEY\n      - id: demo\n        secret: tg_demo_hunter2\n        \
              expires: never\n        models: [nope]\n",
                &[
                    ":5: tenants[0].keys[0].id: expected a key id of 4 to 32 small letters and digits, found something else, \
                 which is not shown because it may be secret",
                    ":7: tenants[0].keys[1]: expected `hash` or `secret`, found neither",
                    ":8: tenants[0].keys[2].id: the key id \"abcd\" is already used by tenants[0].keys[1].id (line 7)",
                    ":9: tenants[0].keys[2].secret: expected a key that begins with tg_abcd_ and goes on",
                    ":10: tenants[0].keys[2].hash: expected hmac-sha256: and 64 hexadecimal digits, found something else, \
                 which is not shown because it may be secret",
                    ":12: tenants[0].keys[3].secret: expected a key that begins with tg_efgh_ and goes on",
                    ":14: tenants[0].keys[4].secret: expected env:NAME, file:PATH or credential:NAME (secrets are not \
                 written here), found something else, which is not shown because it may be secret",
                    ":15: tenants[0].keys[4].expires: expected a date such as 2026-12-31 (its last second counts) or a time such as \
                     2026-12-31T18:00:00Z, found the text \"never\"",
                    ":16: tenants[0].keys[4].models[0]: no model of models.yaml is called \"nope\"",
                ],
            ),
            (
                &format!(
                    "tenants:\n  - name: a\n    tier: t\n    keys:\n      - id: demo\n        secret: env:KEY\n        \
                       hash: hmac-sha256:{}\n",
                    "0".repeat(64)
                ),
                &[":5: tenants[0].keys[0]: expected either `hash` or `secret`, found both"],
            ),
        ],
    );
}
