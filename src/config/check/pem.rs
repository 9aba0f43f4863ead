//! Certificates and keys are tried at load, by the TLS library that will serve them. Otherwise the first one to
//! learn of a truncated file would be a client.

use std::path::Path;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};

use crate::config::secret::read_file;

/// The certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_file(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{} is not PEM: {error}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("expected a PEM certificate, found none in {}", path.display()));
    }
    Ok(certificates)
}

/// The private key of a PEM file, of a type that can sign.
pub(super) fn private_key(path: &Path) -> Result<std::sync::Arc<dyn SigningKey>, String> {
    let text = read_file(path)?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
        format!("expected a PEM private key without a passphrase, found none in {}", path.display())
    })?;
    default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| format!("the private key in {} is of a type that TLS cannot use", path.display()))
}

/// Whether the first certificate is for this key.
pub(super) fn belong_together(
    chain: Vec<CertificateDer<'static>>,
    key: std::sync::Arc<dyn SigningKey>,
) -> Result<(), String> {
    match CertifiedKey::new(chain, key).keys_match() {
        // Unknown: the key cannot tell its public half. TLS will still find out.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_)) => {
            Err("this key does not belong to the first certificate".to_owned())
        }
        Err(error) => Err(format!("the first certificate cannot be used: {error}")),
    }
}
