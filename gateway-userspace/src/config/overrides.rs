//! What the environment says instead of the configuration file: the values in which one node differs from another, so
//! that a fleet can share one file (a Kubernetes DaemonSet has them from the downward API).

use std::env;

/// Values that take the place of those in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `node.name`, from `RINGSTEER_NODE_NAME`.
    pub name: Option<String>,
    /// `node.identity`, from `RINGSTEER_NODE_IDENTITY`.
    pub identity: Option<String>,
    /// `node.address`, from `RINGSTEER_NODE_ADDRESS`.
    pub address: Option<String>,
}

impl Overrides {
    /// What this process was started with. A variable that is empty counts as not set.
    pub fn from_environment() -> Self {
        let value = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            name: value("RINGSTEER_NODE_NAME"),
            identity: value("RINGSTEER_NODE_IDENTITY"),
            address: value("RINGSTEER_NODE_ADDRESS"),
        }
    }
}
