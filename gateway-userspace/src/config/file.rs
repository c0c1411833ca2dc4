//! The file's shape, before anything in it is believed. Every value keeps its place, so that an error can name the line.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::{Serve, XdpMode};
use crate::ring::{Algorithm, MemberState};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) node: Node,
    pub(super) secrets: Spanned<Secrets>,
    pub(super) ring: Spanned<Ring>,
    #[serde(default)]
    pub(super) services: Vec<Service>,
    #[serde(default)]
    pub(super) gateway: Gateway,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) name: Spanned<String>,
    pub(super) member: Spanned<i64>,
    pub(super) interfaces: Spanned<Vec<Spanned<String>>>,
    pub(super) pin_dir: Option<Spanned<PathBuf>>,
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) tunnel_port: Option<Spanned<i64>>,
    pub(super) max_flows: Option<Spanned<i64>>,
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
}
