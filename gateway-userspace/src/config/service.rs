//! Virtual addresses, and where the key stands in the first bytes sent to them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ringsteer_ebpf::layout::service::MAX_PARAMETER;
use serde::{Deserialize, Serialize};

use super::Problem;

/// Longest service name, in bytes.
const MAX_SERVICE_NAME: usize = 64;

/// A virtual address and port that is steered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What logs, metrics and the CLI call it.
    pub name: String,
    /// The virtual address and TCP port. IPv4 is never mapped into IPv6.
    pub address: SocketAddr,
    /// The query parameter that holds the key; without one, connections are spread by their 4-tuple.
    pub parameter: Option<Parameter>,
    /// What our gateway does on it.
    pub serve: Serve,
}

/// What our gateway does on a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serve {
    /// Nothing: the server behind the address is somebody else's (steer-only).
    #[default]
    None,
    /// Holds sessions of OpenIM's clients.
    OpenIm,
    /// Holds sessions that are echoed, for trying out.
    Websocket,
    /// Takes pushes.
    Push,
}

/// Name of a query parameter, such as `sendID`: 1 to 24 characters that are never percent-encoded, for the kernel
/// program compares the bytes on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Parameter(String);

// === impl Service ===

/// A service's name, if `name` can be one.
pub(super) fn name(name: String) -> Result<String, Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_SERVICE_NAME || !name.chars().all(plain) {
        return Err(Problem::ServiceName(name));
    }
    Ok(name)
}

/// A service's address, if `text` is one: an address of one host, and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, Problem> {
    let wrong = || Problem::ServiceAddress(text.to_owned());
    let parsed: SocketAddr = text.parse().map_err(|_| wrong())?;
    // A zone names an interface of one host; a virtual address belongs to all of them.
    let zoned = matches!(parsed, SocketAddr::V6(v6) if v6.scope_id() != 0);
    let address = SocketAddr::new(parsed.ip().to_canonical(), parsed.port());
    let broadcast = matches!(address.ip(), IpAddr::V4(v4) if v4.is_broadcast());
    if zoned || broadcast || address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(wrong());
    }
    Ok(address)
}

// === impl Parameter ===

impl Parameter {
    /// The name as it stands in the request line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Parameter {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        let unreserved = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        if text.is_empty() || text.len() > MAX_PARAMETER || !text.chars().all(unreserved) {
            return Err(Problem::Parameter(text));
        }
        Ok(Self(text))
    }
}

impl From<Parameter> for String {
    fn from(parameter: Parameter) -> Self {
        parameter.0
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
