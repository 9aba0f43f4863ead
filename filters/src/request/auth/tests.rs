use super::*;

const PEPPER: &[u8] = b"pepper";
const NOW: Moment = Moment(1_800_000_000);

fn later(seconds: u64) -> Moment {
    Moment(NOW.0 + seconds)
}

fn hash(secret: &str) -> KeyHash {
    hash_key(PEPPER, secret.as_bytes())
}

/// An entry `id` with the secret `tg_<id>_secret`; `networks` are the tenant's and the key's own.
fn entry(
    id: &str,
    previous: Option<(KeyHash, Moment)>,
    expires: Option<Moment>,
    endpoints: EndpointSet,
    networks: [&[&str]; 2],
) -> Entry {
    let parse = |list: &[&str]| -> Arc<[Network]> {
        list.iter().map(|network| network.parse().expect("a network")).collect()
    };
    let networks = networks.map(parse);
    let terms =
        Terms { tenant: "t".into(), tier: None, models: None, endpoints, networks: Arc::clone(&networks[1]) };
    let principal = Principal {
        tenant: "t".into(),
        tenant_index: 0,
        tier_index: 0,
        key_id: id.into(),
        may_use: [].into(),
        endpoints,
        networks,
    };
    let key = Key::new(id.into(), hash(&format!("tg_{id}_secret")), previous, expires);
    Entry { key: Arc::new(key), terms: Arc::new(terms), principal: Some(Arc::new(principal)) }
}

fn plain(id: &str) -> Entry {
    entry(id, None, None, EndpointSet::ALL, [&[], &[]])
}

fn keyring() -> Keyring {
    let chat = EndpointSet::of([Endpoint::ChatCompletions]);
    let nobody = Entry { principal: None, ..plain("nobody") };
    Keyring::new(
        PEPPER,
        vec![plain("good"), entry("both", None, None, chat, [&[], &[]])],
        vec![
            plain("both"),
            entry("last", None, Some(later(1)), EndpointSet::ALL, [&[], &[]]),
            entry("old", None, Some(NOW), EndpointSet::ALL, [&[], &[]]),
            entry("office", None, None, EndpointSet::ALL, [&["10.1.0.0/16"], &[]]),
            entry("desk", None, None, EndpointSet::ALL, [&["10.1.0.0/16"], &["10.1.2.0/24", "10.9.0.0/16"]]),
            entry("rotating", Some((hash("tg_rotating_before"), later(1))), None, chat, [&[], &[]]),
            entry("rotated", Some((hash("tg_rotated_before"), NOW)), None, chat, [&[], &[]]),
            nobody,
        ],
    )
}

fn check(credential: Option<&str>, source: &str, endpoint: Endpoint, expected: Result<&str, Refusal>) {
    let source = Some(source.parse().expect("an address"));
    let found = keyring().identify(credential.map(str::as_bytes), source, endpoint, NOW);
    let found = found.map(|identity| identity.principal.key_id.to_string());
    assert_eq!(found, expected.map(str::to_owned), "{credential:?} from {source:?} to {endpoint:?}");
}

#[test]
fn only_the_whole_key_identifies() {
    let bad = Err(Refusal::InvalidApiKey);
    for (credential, source, expected) in [
        (Some("tg_good_secret"), "9.9.9.9", Ok("good")),
        (Some("tg_last_secret"), "9.9.9.9", Ok("last")),
        (Some("tg_old_secret"), "9.9.9.9", bad.clone()),
        (Some("tg_good_secreT"), "9.9.9.9", bad.clone()),
        (Some("tg_good_"), "9.9.9.9", bad.clone()),
        (Some("tg_unknown_secret"), "9.9.9.9", bad.clone()),
        (Some("tg_nobody_secret"), "9.9.9.9", bad.clone()),
        (Some("tg_good"), "9.9.9.9", bad.clone()),
        (Some("sk-123"), "9.9.9.9", bad.clone()),
        (None, "9.9.9.9", bad.clone()),
        (Some("tg_office_secret"), "10.1.2.3", Ok("office")),
        (Some("tg_office_secret"), "::ffff:10.1.2.3", Ok("office")),
        (Some("tg_office_secret"), "10.2.2.3", Err(Refusal::SourceAddressDenied)),
        (Some("tg_office_wrong"), "10.2.2.3", bad.clone()),
        (Some("tg_desk_secret"), "10.1.2.3", Ok("desk")),
        (Some("tg_desk_secret"), "10.1.3.3", Err(Refusal::SourceAddressDenied)),
        (Some("tg_desk_secret"), "10.9.0.1", Err(Refusal::SourceAddressDenied)),
        (Some("tg_rotating_secret"), "9.9.9.9", Ok("rotating")),
        (Some("tg_rotating_before"), "9.9.9.9", Ok("rotating")),
        (Some("tg_rotated_secret"), "9.9.9.9", Ok("rotated")),
        (Some("tg_rotated_before"), "9.9.9.9", bad),
    ] {
        check(credential, source, Endpoint::ChatCompletions, expected);
    }
}

#[test]
fn an_endpoint_outside_the_list_is_refused_to_a_good_key_only() {
    for (credential, expected) in [
        // Declared with this list, and in the store without one.
        ("tg_both_secret", Err(Refusal::EndpointNotAllowed("embeddings"))),
        ("tg_rotating_secret", Err(Refusal::EndpointNotAllowed("embeddings"))),
        ("tg_rotating_wrong", Err(Refusal::InvalidApiKey)),
        ("tg_good_secret", Ok("good")),
    ] {
        check(Some(credential), "9.9.9.9", Endpoint::Embeddings, expected);
    }
}

#[test]
fn uses_are_noted_by_secret_and_a_refused_key_is_not_used() {
    let ring = keyring();
    let ask = |credential: &str| {
        let found = ring.identify(Some(credential.as_bytes()), None, Endpoint::ChatCompletions, NOW);
        found.map(|identity| identity.by_previous_secret)
    };
    let used = |id: &str| ring.get_stored(id).map(|entry| entry.key.used());
    assert_eq!(ask("tg_rotating_wrong"), Err(Refusal::InvalidApiKey));
    assert_eq!(used("rotating"), Some((Moment(0), Moment(0))));
    assert_eq!(ask("tg_rotating_secret"), Ok(false));
    assert_eq!(used("rotating"), Some((NOW, Moment(0))));
    assert_eq!(ask("tg_rotating_before"), Ok(true));
    assert_eq!(used("rotating"), Some((NOW, NOW)));
    let key = ring.get_stored("rotating").expect("it is there").key;
    assert_eq!(key.unsaved(), Some((NOW, NOW)));
    key.mark_saved(NOW);
    assert_eq!(key.unsaved(), None);
    assert_eq!(used("last"), Some((Moment(0), Moment(0))));
}

#[test]
fn changes_reach_the_next_look_up() {
    let ring = keyring();
    let is_known = |id: &str| {
        let credential = format!("tg_{id}_secret");
        ring.identify(Some(credential.as_bytes()), None, Endpoint::Embeddings, NOW).is_ok()
    };
    assert!(is_known("good") && is_known("last") && !is_known("new"));
    ring.apply([("last".into(), None), ("new".into(), Some(plain("new"))), ("good".into(), None)]);
    assert!(!is_known("last") && is_known("new") && is_known("good"), "a declared key is not in the store");
    let mut ids = Vec::new();
    ring.for_each_stored(|entry| ids.push(entry.key.id.to_string()));
    ids.sort();
    assert_eq!(ids, ["both", "desk", "new", "nobody", "office", "old", "rotated", "rotating"]);
}

#[test]
fn bearer_is_read_in_any_case() {
    for (header, expected) in [
        ("Bearer abc", Some("abc")),
        ("bearer  abc ", Some("abc")),
        ("BEARER abc", Some("abc")),
        ("Basic abc", None),
        ("Bearer", None),
        ("", None),
    ] {
        assert_eq!(bearer(header.as_bytes()), expected.map(str::as_bytes), "{header}");
    }
}
