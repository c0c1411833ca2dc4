//! The file's shape, before anything in it is believed. Every value keeps its place, so that an error can name the line.

use std::path::PathBuf;

use serde::{Deserialize, de::IgnoredAny};
use toml::Spanned;

use super::{FsyncPolicy, GrpcAuth, KubernetesMode, Mode, Serve, XdpMode};
use crate::{
    push::OnlineRule,
    ring::{Algorithm, MemberState},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) secrets: Spanned<Secrets>,
    pub(super) ring: Option<Spanned<Ring>>,
    pub(super) membership: Option<Spanned<Membership>>,
    #[serde(default)]
    pub(super) peers: Peers,
    #[serde(default)]
    pub(super) metrics: Metrics,
    #[serde(default)]
    pub(super) services: Vec<Service>,
    #[serde(default)]
    pub(super) gateway: Gateway,
    #[serde(default)]
    pub(super) push: Push,
    #[serde(default)]
    pub(super) msg: Msg,
    pub(super) openim: Option<Spanned<OpenIm>>,
    #[serde(default)]
    pub(super) front: Front,
}

/// The same file as the message service reads it. What is for others may be there, or not.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "these tables are known, and no more")]
pub(super) struct MsgFile {
    node: Option<IgnoredAny>,
    secrets: Option<IgnoredAny>,
    ring: Option<IgnoredAny>,
    membership: Option<IgnoredAny>,
    peers: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) metrics: Metrics,
    services: Option<IgnoredAny>,
    gateway: Option<IgnoredAny>,
    push: Option<IgnoredAny>,
    openim: Option<IgnoredAny>,
    front: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) msg: Msg,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Front {
    pub(super) http: Option<Spanned<String>>,
    pub(super) grpc: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) grpc_auth: GrpcAuth,
    pub(super) metrics: Option<Spanned<String>>,
    pub(super) service: Option<Spanned<String>>,
    pub(super) deadline_ms: Option<Spanned<i64>>,
    pub(super) webhook_url: Option<Spanned<String>>,
    pub(super) webhook_token_file: Option<Spanned<PathBuf>>,
    pub(super) webhook_secret_file: Option<Spanned<PathBuf>>,
    pub(super) webhook_attempts: Option<Spanned<i64>>,
    pub(super) webhook_timeout_ms: Option<Spanned<i64>>,
    pub(super) webhook_queue: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: Option<Spanned<String>>,
    pub(super) identity: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<String>>,
    pub(super) interfaces: Spanned<Vec<Spanned<String>>>,
    pub(super) pin_dir: Option<Spanned<PathBuf>>,
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) tunnel_port: Option<Spanned<i64>>,
    pub(super) max_flows: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) mode: Mode,
    #[serde(default)]
    pub(super) xdp_mode: XdpMode,
    pub(super) flow_idle_s: Option<Spanned<i64>>,
    pub(super) handshake_slot_shift: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Secrets {
    pub(super) current: Option<Spanned<String>>,
    pub(super) current_file: Option<Spanned<PathBuf>>,
    pub(super) previous: Option<Spanned<String>>,
    pub(super) previous_file: Option<Spanned<PathBuf>>,
}

/// A file that holds a ring and nothing else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RingFile {
    pub(super) ring: Spanned<Ring>,
}

/// All keys of all sources: an enumeration by `source` would cost the places of the values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Membership {
    pub(super) source: Spanned<Source>,
    pub(super) path: Option<Spanned<PathBuf>>,
    pub(super) endpoints: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) lease_ttl_s: Option<Spanned<i64>>,
    pub(super) username: Option<Spanned<String>>,
    pub(super) password_file: Option<Spanned<PathBuf>>,
    pub(super) ca_file: Option<Spanned<PathBuf>>,
    pub(super) cert_file: Option<Spanned<PathBuf>>,
    pub(super) key_file: Option<Spanned<PathBuf>>,
    pub(super) namespace: Option<Spanned<String>>,
    pub(super) service: Option<Spanned<String>>,
    pub(super) port: Option<Spanned<i64>>,
    pub(super) config_map: Option<Spanned<String>>,
    pub(super) mode: Option<Spanned<KubernetesMode>>,
    pub(super) instance: Option<Spanned<String>>,
    pub(super) replicas: Option<Spanned<i64>>,
    pub(super) grace_s: Option<Spanned<i64>>,
    pub(super) algorithm: Option<Spanned<Algorithm>>,
    pub(super) allow_identities_without_port: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    File,
    Etcd,
    Kubernetes,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peers {
    pub(super) port: Option<Spanned<i64>>,
    pub(super) gateway_port: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) agent: Option<Spanned<String>>,
    pub(super) gateway: Option<Spanned<String>>,
    pub(super) msg: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ring {
    pub(super) epoch: u64,
    #[serde(default)]
    pub(super) algorithm: Algorithm,
    #[serde(default)]
    pub(super) allow_identities_without_port: bool,
    #[serde(default)]
    pub(super) members: Vec<Member>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub(super) number: Spanned<i64>,
    pub(super) identity: Spanned<String>,
    pub(super) address: Spanned<String>,
    #[serde(default)]
    pub(super) state: MemberState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: Spanned<String>,
    pub(super) address: Spanned<String>,
    pub(super) parameter: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) serve: Serve,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) max_message_bytes: Option<Spanned<i64>>,
    pub(super) sessions: Option<Spanned<i64>>,
    pub(super) sessions_per_user: Option<Spanned<i64>>,
    pub(super) logins_per_s: Option<Spanned<i64>>,
    pub(super) queue_messages: Option<Spanned<i64>>,
    pub(super) queue_bytes: Option<Spanned<i64>>,
    pub(super) compression: Option<bool>,
    pub(super) grace_s: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) proxy_protocol_from: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenIm {
    #[serde(default)]
    pub(super) token_secret_files: Vec<Spanned<PathBuf>>,
    pub(super) token_leeway_s: Option<Spanned<i64>>,
    pub(super) login_policy: Option<Spanned<i64>>,
    pub(super) msg_service: Option<Spanned<String>>,
    pub(super) msg_token_file: Option<Spanned<PathBuf>>,
    pub(super) msg_timeout_ms: Option<Spanned<i64>>,
    pub(super) msg_in_flight: Option<Spanned<i64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Push {
    #[serde(default)]
    pub(super) tokens: Vec<Spanned<String>>,
    pub(super) token_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) insecure_no_auth: bool,
    #[serde(default)]
    pub(super) online: OnlineRule,
    pub(super) window_s: Option<Spanned<i64>>,
    pub(super) deadline_ms: Option<Spanned<i64>>,
    pub(super) grpc: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) grpc_auth: GrpcAuth,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Msg {
    pub(super) listen: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<PathBuf>>,
    #[serde(default)]
    pub(super) fsync: FsyncPolicy,
    pub(super) fsync_interval_ms: Option<Spanned<i64>>,
    pub(super) push: Option<Spanned<String>>,
    pub(super) push_token_file: Option<Spanned<PathBuf>>,
    pub(super) token_file: Option<Spanned<PathBuf>>,
    pub(super) max_message_bytes: Option<Spanned<i64>>,
}
