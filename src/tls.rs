//! TLS 1.3, and nothing older, on both sides. Certificates are read again on every reload; a handshake takes
//! whichever is in force, so a renewed certificate needs no restart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::listeners::tls::TlsSettings;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite};

use crate::config::settings::TlsFiles;

/// Why a certificate cannot be used.
#[derive(Debug)]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for TlsError {}

/// Makes TLS 1.3 the only version of the process: Pingora's rustls listeners allow 1.2 as well, unless the
/// process has no cipher suite for it. To be called before any TLS object is made.
pub fn install_tls13_only() {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
    // An error means that one is installed already, as when tests call this twice.
    let _ = provider.install_default();
}

/// TLS towards our own stores: 1.3, the certificate checked against the host's name, by the authorities in `ca` or the
/// system's.
///
/// # Errors
/// If the authorities cannot be read.
pub fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let said = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| said(&error))? {
                let certificate = certificate.map_err(|error| said(&error))?;
                roots.add(certificate).map_err(|error| said(&error))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            let system = system.map_err(|error| format!("the system's authorities: {error}"))?;
            // The system's list has old ones that rustls does not take; that is not our matter.
            roots.add_parsable_certificates(system);
        }
    }
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The certificate of one listener, exchangeable under it.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// Reads it from its files.
    ///
    /// # Errors
    /// If a file cannot be read or the key does not fit the certificate.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(read(files)?)))
    }

    /// Shows `key` from the next handshake on.
    pub fn replace(&self, key: CertifiedKey) {
        self.0.store(Arc::new(key));
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Reads a certificate chain and its key.
///
/// # Errors
/// If a file cannot be read or the key does not fit the certificate.
pub fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let fault =
        |path: &PathBuf, what: &dyn fmt::Display| TlsError { path: path.clone(), what: what.to_string() };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .map_err(|error| fault(&files.certificate, &error))?
        .collect();
    let chain = chain.map_err(|error| fault(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(fault(&files.certificate, &"expected a PEM certificate, found none"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| fault(&files.key, &error))?;
    let provider =
        CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()));
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| fault(&files.key, &error))
}

/// TLS for a listener.
///
/// # Errors
/// If Pingora cannot make it.
pub fn settings(certificate: Arc<Certificate>, http2: bool) -> pingora_error::Result<TlsSettings> {
    // The resolver is asked for certificates; the paths are not used then.
    let mut settings = TlsSettings::intermediate("", "")?;
    settings.set_cert_resolver(certificate);
    if http2 {
        settings.enable_h2();
    }
    Ok(settings)
}
