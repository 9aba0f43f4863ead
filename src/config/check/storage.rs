//! `storage` of tollgate.yaml: a URL that can be read, and protected where it leaves the machine.

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::gateway::millis;
use super::pem;
use crate::config::fault::Faults;
use crate::config::schema::storage::{self as schema, TlsChoice, Url};
use crate::config::secret::Sources;
use crate::config::settings::{PostgresTls, Secret, Storage, StoragePlace};

/// Checks the section.
pub(super) fn storage(
    written: schema::Storage,
    sources: &Sources<'_>,
    faults: &mut Faults,
) -> Option<Storage> {
    let ca = written.ca.value.as_ref().map(|ca| sources.dir.join(ca));
    if let Some(path) = &ca {
        faults.keep(&written.ca.place, pem::certificates(path));
    }
    let connect_timeout = millis(&written.connect_timeout_ms);
    let statement_timeout = millis(&written.statement_timeout_ms);
    let start_timeout = millis(&written.start_timeout_ms);
    let place = &written.url.place;
    let url = match written.url.value? {
        Url::Sqlite(path) => {
            let place = StoragePlace::Sqlite(path);
            return Some(Storage { place, connect_timeout, statement_timeout, start_timeout });
        }
        Url::Postgres(url) => Secret::new(&url),
        Url::Secret(from) => {
            sources.secret(&crate::config::fault::At { value: from, place: place.clone() }, faults)?
        }
    };
    let config = faults.keep(place, read(url.expose()))?;
    let is_near =
        config.get_hosts().iter().all(is_here) && config.get_hostaddrs().iter().all(|ip| ip.is_loopback());
    let tls = match written.tls.value {
        TlsChoice::Off => PostgresTls::Off,
        TlsChoice::Auto if is_near => PostgresTls::Off,
        TlsChoice::Auto | TlsChoice::Required => PostgresTls::Verified { ca },
    };
    let place = StoragePlace::Postgres { url, tls };
    Some(Storage { place, connect_timeout, statement_timeout, start_timeout })
}

/// Reads a URL; the fault does not repeat it.
fn read(url: &str) -> Result<Config, String> {
    const EXPECTED: &str = "expected a URL such as postgres://user:password@host:5432/database";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(format!("{EXPECTED}, found something else"));
    }
    if url.contains("sslmode=") || url.contains("sslnegotiation=") {
        return Err("say in `storage.tls` whether TLS is used, not in the URL".to_owned());
    }
    let config = url.parse::<Config>().map_err(|_| format!("{EXPECTED}, found one that cannot be read"))?;
    match (config.get_hosts(), config.get_user(), config.get_dbname()) {
        ([], _, _) => Err(format!("{EXPECTED}, found one without a host")),
        (_, None, _) => Err(format!("{EXPECTED}, found one without a user")),
        (_, _, None) => Err(format!("{EXPECTED}, found one without a database")),
        _ => Ok(config),
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}
