//! Configurations on disk for tests, gone when dropped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::secret::Sources;
use crate::config::{Faults, Settings, file_names, load_with};

/// A certificate for `gateway.test`, made for these tests with `openssl req -x509`.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBnzCCAUSgAwIBAgIUCynk1j7+p82a2yETBhI0vqZ6/X4wCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMZ2F0ZXdheS50ZXN0MCAXDTI2MTEyMzEzNDQzN1oYDzIxMjYx
MDMwMTM0NDM3WjAXMRUwEwYDVQQDDAxnYXRld2F5LnRlc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAARAtJ2fIvBjI9gdiaWX9dwzKuuTkV6OdZGYKIAg9zw6xZVO
LawHUrKVAtdU1qRcjSzNe4y7atwUxMAae2x789w/o2wwajAdBgNVHQ4EFgQUZUBp
e+DF4yrSC1COx2ZCnC9nAcswHwYDVR0jBBgwFoAUZUBpe+DF4yrSC1COx2ZCnC9n
AcswDwYDVR0TAQH/BAUwAwEB/zAXBgNVHREEEDAOggxnYXRld2F5LnRlc3QwCgYI
KoZIzj0EAwIDSQAwRgIhAKNWnGsV0g7uAJdy+sE9b6BLEBEX5qXdWtHB0En6uQ3I
AiEAoAzve2BW0rOX7hoAOAlO/HIUQnvRYv6Fz2qJF84b7aQ=
-----END CERTIFICATE-----
";
/// A certificate and the private key it belongs to, both PEM. The key is new each time (no private key is kept in
/// the sources) and its public half is put into `CERTIFICATE`, whose signature nobody checks here.
pub(super) fn certificate_and_key() -> (String, String) {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
        .expect("the system gives random numbers");
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &SystemRandom::new())
            .expect("it was just made");
    let mut der = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("it is PEM").to_vec();
    // A bit string (03) of 66 bytes without unused bits (00), which is an uncompressed point (04).
    let at =
        der.windows(4).position(|bytes| bytes == [0x03, 0x42, 0x00, 0x04]).expect("it holds a P-256 key");
    der[at + 3..at + 68].copy_from_slice(pair.public_key().as_ref());
    (pem("CERTIFICATE", &der), pem("PRIVATE KEY", pkcs8.as_ref()))
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for group in der.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for index in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]);
            base64.push(if index <= group.len() { digit } else { '=' });
        }
    }
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

/// The smallest good configuration with one of everything.
const SMALL: [(&str, &str); 5] = [
    (
        "tollgate.yaml",
        "listeners:\n  - address: 127.0.0.1:0\n    cleartext: true\nauth:\n  pepper: env:PEPPER\n",
    ),
    (
        "models.yaml",
        "models:\n  - name: m:1b\n    publisher: P\n  - name: m:2b\n    publisher: P\n    aliases: [big]\n",
    ),
    (
        "upstreams.yaml",
        "pools:\n  - name: p\n    models: ['*']\n    servers:\n      - {name: s, address: 'h:1', engine: vllm}\n",
    ),
    ("tiers.yaml", "tiers:\n  - name: t\n"),
    (
        "tenants.yaml",
        "tenants:\n  - name: n\n    tier: t\n    keys:\n      - id: demo\n        secret: env:KEY\n",
    ),
];

/// A directory with a configuration in `conf/`.
pub(super) struct Dir(PathBuf);

impl Dir {
    /// The small configuration, with some files replaced or added (paths relative to `conf/`).
    pub(super) fn small(files: &[(&str, &str)]) -> Self {
        Self::with(SMALL.iter().chain(files))
    }

    /// The configuration that is shipped, changed file by file, with the secrets that the quickstart makes.
    pub(super) fn shipped(change: impl Fn(&str) -> String) -> Self {
        let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
        let texts: Vec<_> = file_names()
            .iter()
            .map(|name| {
                (*name, std::fs::read_to_string(conf.join(name)).expect("shipped files are readable"))
            })
            .map(|(name, text)| (name, change(&text)))
            .collect();
        let secrets = [("../var/pepper", "pepper-of-a-test\n"), ("../var/demo.key", "tg_demo_secret\n")];
        let texts: Vec<_> = texts.iter().map(|(name, text)| (*name, text.as_str())).chain(secrets).collect();
        Self::with(texts.iter())
    }

    fn with<'a>(files: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Self(std::env::temp_dir().join(format!("tollgate-config-{}-{number}", std::process::id())));
        std::fs::create_dir_all(dir.conf()).expect("the temporary directory is writable");
        for (name, text) in files {
            dir.write(name, text.as_bytes());
        }
        dir
    }

    /// Writes a file, relative to `conf/`.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.conf().join(name);
        std::fs::create_dir_all(path.parent().expect("it has a directory")).expect("it is writable");
        std::fs::write(path, bytes).expect("it is writable");
    }

    /// The directory of the configuration.
    pub(super) fn conf(&self) -> PathBuf {
        self.0.join("conf")
    }

    /// Loads it, with an environment of its own.
    pub(super) fn load(&self) -> Result<Settings, Faults> {
        let credentials = self.0.join("conf");
        let env = |name: &str| match name {
            "PEPPER" => Some(OsString::from("pepper-of-a-test")),
            "KEY" => Some(OsString::from("tg_demo_secret")),
            "BLANKS" => Some(OsString::from("hunter2 hunter2")),
            "EMPTY" => Some(OsString::new()),
            "CREDENTIALS_DIRECTORY" => Some(credentials.clone().into_os_string()),
            _ => None,
        };
        load_with(&Sources { dir: &self.conf(), env: &env })
    }

    /// Loads what must be good.
    pub(super) fn good(&self) -> Settings {
        self.load().unwrap_or_else(|faults| panic!("expected a good configuration, found\n{faults}"))
    }

    /// The faults, one a line, with the directory shown as `conf`.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = self.load().map(|_| ()).expect_err("expected faults, found none").to_string();
        let faults = faults.replace(&self.conf().display().to_string(), "conf");
        let mut lines: Vec<_> = faults.lines().map(str::to_owned).collect();
        let count = lines.pop().expect("the last line is the count");
        assert!(count.starts_with(&format!("{} fault", lines.len())), "{count}");
        lines
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Best effort: a leftover in the temporary directory hurts nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
