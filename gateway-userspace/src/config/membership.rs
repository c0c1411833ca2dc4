//! The `[membership]` table: where the ring comes from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ring::Algorithm;

/// Where the ring comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// A file, followed as it changes.
    File {
        /// Which; without one it is the configuration itself, whose `[ring]` then holds the ring.
        path: Option<PathBuf>,
    },
    /// etcd: the nodes announce themselves.
    Etcd(Etcd),
    /// Kubernetes: the endpoints of a service.
    Kubernetes(Kubernetes),
}

/// How the ring is made where it is made from the members found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRing {
    /// How keys and members are hashed.
    pub algorithm: Algorithm,
    /// Whether identities may lack a port.
    pub allow_identities_without_port: bool,
    /// Seconds that a vanished member keeps its place.
    pub grace_s: u32,
}

/// etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// URLs of its members. Not empty.
    pub endpoints: Vec<String>,
    /// What all our keys begin with; ends in a slash.
    pub prefix: String,
    /// Seconds that a node may be silent before its announcement goes.
    pub lease_ttl_s: u32,
    /// As whom to log in.
    pub login: Option<Login>,
    /// Whom to trust, and as whom to appear.
    pub tls: Option<Tls>,
    /// How the ring is made.
    pub new_ring: NewRing,
}

/// A name, and the file that holds its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The file.
    pub password_file: PathBuf,
}

/// Certificates, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Whom to trust.
    pub ca_file: PathBuf,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The namespace of service and ring; without one it is that of the pod we run in.
    pub namespace: Option<String>,
    /// The service whose endpoints are the members.
    pub service: String,
    /// The port that qualifies identities.
    pub port: u16,
    /// The ConfigMap that holds the ring.
    pub config_map: String,
    /// How members are named.
    pub mode: KubernetesMode,
    /// The name of OpenIM's release, for [`KubernetesMode::OpenimStatefulset`].
    pub instance: Option<String>,
    /// How many gateways OpenIM counts on, for [`KubernetesMode::OpenimStatefulset`].
    pub replicas: Option<u32>,
    /// How the ring is made.
    pub new_ring: NewRing,
}

/// How members found in Kubernetes are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KubernetesMode {
    /// `<pod>.<service>.<namespace>.svc.cluster.local`, the pod's name in DNS where the service has no address of its own.
    #[default]
    Endpoints,
    /// By the host that the pod runs on: for a DaemonSet, whose pods get new names with every rollout.
    Nodes,
    /// By their address.
    Addresses,
    /// As OpenIM's own components name the pods of the gateway's StatefulSet.
    OpenimStatefulset,
}
