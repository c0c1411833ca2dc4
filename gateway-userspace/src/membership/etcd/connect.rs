//! Getting through to one of etcd's members: addresses, passwords, certificates.

use std::{fs, path::Path, time::Duration};

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use tokio::time::timeout;

use crate::config::Etcd;

/// How often an idle connection is tried, and how long it may take to answer. etcd hangs up on clients that ask more
/// often (`--grpc-keepalive-min-time`).
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// A connection to the member of etcd at `endpoint`. Files are read each time: passwords and certificates change.
///
/// # Errors
/// If a file cannot be read or etcd does not let us in: a phrase that says so.
pub(super) async fn connect(config: &Etcd, endpoint: &str, limit: Duration) -> Result<Client, String> {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(limit)
        .with_keep_alive(KEEPALIVE.0, KEEPALIVE.1)
        // A member of etcd that has lost the others would otherwise keep us in the dark.
        .with_require_leader(true);
    if let Some(login) = &config.login {
        let password = read(&login.password_file)?;
        let password = String::from_utf8(password)
            .map_err(|_| format!("{} holds something other than text", login.password_file.display()))?;
        options = options.with_user(&login.username, password.trim_end_matches(['\n', '\r']));
    }
    if let Some(tls) = &config.tls {
        let mut with = TlsOptions::new().ca_certificate(Certificate::from_pem(read(&tls.ca_file)?));
        if let Some((certificate, key)) = &tls.identity {
            with = with.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        options = options.with_tls(with);
    }
    within(limit, Client::connect([endpoint], Some(options))).await
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {} ({error})", path.display()))
}

/// What comes of `call`, unless it takes longer than `limit`.
pub(super) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timeout(limit, call).await {
        Ok(outcome) => outcome.map_err(words),
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
    }
}

/// The error as people say it.
pub(super) fn words(error: Error) -> String {
    let Error::GRpcStatus(status) = error else { return error.to_string() };
    // Of a connection that is refused gRPC says "transport error", and only the innermost cause what it was.
    let mut source = std::error::Error::source(&status);
    let mut said = status.message().to_owned();
    while let Some(error) = source {
        said = error.to_string();
        source = error.source();
    }
    said
}
