//! The configuration in force, key by key, with where each value comes from.

use std::{collections::HashMap, path::Path};

use serde::Serialize;
use serde_json::{Value, json};
use toml::de::{DeTable, DeValue};

use super::{
    Config, ConfigError, Etcd, Front, Gateway, Kubernetes, Login, Membership, Metrics, Msg, NewRing, Node, OpenIm,
    Overrides, Peers, Push, Service, Source, Tls, Webhook, read, secret::SecretSource,
};
use crate::ring::Member;

/// What stands for a secret.
const MASK: &str = "********";

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Table by table, in the order of the documentation.
    pub tables: Vec<Table>,
    /// The services, which stand in the file.
    pub services: Vec<Service>,
    /// The ring, where it stands in the file: its epoch and its members.
    pub ring: Option<(u64, Vec<Member>)>,
}

/// A table in force.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its keys.
    pub rows: Vec<Row>,
}

/// A key in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub key: &'static str,
    /// Its value; `None` if it has none.
    pub value: Option<Value>,
    /// Where that comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From the file, on that line.
    Line(usize),
    /// From the environment or the command line.
    Override(String),
    /// Nobody has said anything.
    Default,
}

/// Names and values of a table's keys.
type Rows = Vec<(&'static str, Option<Value>)>;

// === impl Config ===

impl Config {
    /// The configuration of `path` as [`Config::load`] has it, to be shown.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn show(path: &Path) -> Result<Shown, ConfigError> {
        let overrides = Overrides::of_this_process();
        let text = read(path).map_err(|error| error.in_file(path))?;
        let config = Self::parse(&text, &overrides).map_err(|error| error.in_file(path))?;
        Ok(config.shown(&text, &overrides))
    }

    /// The configuration that was read from `text` and `overrides`, to be shown.
    pub(super) fn shown(&self, text: &str, overrides: &Overrides) -> Shown {
        let lines = lines(text);
        let origin = |table: &str, key: &str| match overrides.source(table, key) {
            Some(Source::Environment(name)) => Origin::Override(name.clone()),
            Some(Source::CommandLine(key)) => Origin::Override(format!("--set {key}")),
            None => lines.get(&(table.to_owned(), key.to_owned())).map_or(Origin::Default, |line| Origin::Line(*line)),
        };
        let tables = self.rows().into_iter().map(|(name, rows)| {
            let rows = rows.into_iter().map(|(key, value)| Row { key, value, origin: origin(name, key) });
            Table { name, rows: rows.collect() }
        });
        Shown {
            tables: tables.collect(),
            services: self.services.clone(),
            ring: self.ring.as_ref().map(|ring| (ring.epoch().0, ring.members().to_vec())),
        }
    }

    /// All keys that can be set from outside. Whoever adds one adds it here: the patterns are whole.
    fn rows(&self) -> Vec<(&'static str, Rows)> {
        let Self {
            node,
            services: _,
            membership,
            peers,
            metrics,
            gateway,
            push,
            msg,
            openim,
            front,
            current,
            previous,
            ring: _,
        } = self;
        let mut rows = vec![
            ("node", node_rows(node)),
            ("secrets", secret_rows(current, previous.as_ref())),
            ("membership", membership_rows(membership)),
            ("peers", {
                let Peers { port, gateway_port } = peers;
                vec![("port", some(port)), ("gateway_port", some(gateway_port))]
            }),
            ("metrics", {
                let Metrics { agent, gateway, msg } = metrics;
                // "" is how the file says that there is none.
                let address =
                    |address: &Option<_>| some(address.map_or(String::new(), |a: std::net::SocketAddr| a.to_string()));
                vec![("agent", address(agent)), ("gateway", address(gateway)), ("msg", address(msg))]
            }),
            ("gateway", gateway_rows(gateway)),
            ("push", push_rows(push)),
            ("msg", msg_rows(msg)),
            ("front", front_rows(front)),
        ];
        rows.extend(openim.as_ref().map(|openim| ("openim", openim_rows(openim))));
        rows
    }
}

fn node_rows(node: &Node) -> Rows {
    let Node {
        name,
        identity,
        address,
        interfaces,
        pin_dir,
        socket,
        tunnel_port,
        max_flows,
        mode,
        xdp_mode,
        flow_idle_s,
        handshake_slot_shift,
    } = node;
    vec![
        ("name", some(name)),
        ("identity", some(identity.as_str())),
        ("address", address.map(|address| json!(address.to_string()))),
        ("interfaces", some(interfaces)),
        ("pin_dir", some(pin_dir)),
        ("socket", some(socket)),
        ("tunnel_port", some(tunnel_port)),
        ("max_flows", some(max_flows)),
        ("mode", some(mode)),
        ("xdp_mode", some(xdp_mode)),
        ("flow_idle_s", some(flow_idle_s)),
        ("handshake_slot_shift", some(handshake_slot_shift)),
    ]
}

fn secret_rows(current: &SecretSource, previous: Option<&SecretSource>) -> Rows {
    let parts = |source: Option<&SecretSource>| match source {
        Some(SecretSource::Inline(_)) => (some(MASK), None),
        Some(SecretSource::File(path)) => (None, some(path)),
        None => (None, None),
    };
    let ((current, current_file), (previous, previous_file)) = (parts(Some(current)), parts(previous));
    vec![("current", current), ("current_file", current_file), ("previous", previous), ("previous_file", previous_file)]
}

/// The keys of the chosen source; those of the others have no value.
fn membership_rows(membership: &Membership) -> Rows {
    let mut rows: Rows = match membership {
        Membership::File { path } => vec![("source", some("file")), ("path", path.as_ref().and_then(some))],
        Membership::Etcd(etcd) => {
            let Etcd { endpoints, prefix, lease_ttl_s, login, tls, new_ring } = etcd;
            let (username, password_file) = match login {
                Some(Login { username, password_file }) => (some(username), some(password_file)),
                None => (None, None),
            };
            let (ca_file, identity) = match tls {
                Some(Tls { ca_file, identity }) => (some(ca_file), identity.as_ref()),
                None => (None, None),
            };
            let mut rows = vec![
                ("source", some("etcd")),
                ("endpoints", some(endpoints)),
                ("prefix", some(prefix)),
                ("lease_ttl_s", some(lease_ttl_s)),
                ("username", username),
                ("password_file", password_file),
                ("ca_file", ca_file),
                ("cert_file", identity.and_then(|(cert, _)| some(cert))),
                ("key_file", identity.and_then(|(_, key)| some(key))),
            ];
            rows.extend(new_ring_rows(new_ring));
            rows
        }
        Membership::Kubernetes(kubernetes) => {
            let Kubernetes { namespace, service, port, config_map, mode, instance, replicas, new_ring } = kubernetes;
            let mut rows = vec![
                ("source", some("kubernetes")),
                ("namespace", namespace.as_ref().and_then(some)),
                ("service", some(service)),
                ("port", some(port)),
                ("config_map", some(config_map)),
                ("mode", some(mode)),
                ("instance", instance.as_ref().and_then(some)),
                ("replicas", replicas.as_ref().and_then(some)),
            ];
            rows.extend(new_ring_rows(new_ring));
            rows
        }
    };
    rows.sort_by_key(|(key, value)| (*key != "source", value.is_none()));
    rows
}

fn new_ring_rows(new_ring: &NewRing) -> Rows {
    let NewRing { algorithm, allow_identities_without_port, grace_s } = new_ring;
    vec![
        ("grace_s", some(grace_s)),
        ("algorithm", some(algorithm)),
        ("allow_identities_without_port", some(allow_identities_without_port)),
    ]
}

fn gateway_rows(gateway: &Gateway) -> Rows {
    let Gateway {
        max_message_bytes,
        sessions,
        sessions_per_user,
        logins_per_s,
        queue_messages,
        queue_bytes,
        compression,
        grace_s,
        proxy_protocol_from,
    } = gateway;
    vec![
        ("max_message_bytes", some(max_message_bytes)),
        ("sessions", some(sessions)),
        ("sessions_per_user", some(sessions_per_user)),
        ("logins_per_s", some(logins_per_s)),
        ("queue_messages", some(queue_messages)),
        ("queue_bytes", some(queue_bytes)),
        ("compression", some(compression)),
        ("grace_s", some(grace_s)),
        ("proxy_protocol_from", some(proxy_protocol_from.iter().map(ToString::to_string).collect::<Vec<_>>())),
    ]
}

fn openim_rows(openim: &OpenIm) -> Rows {
    let OpenIm {
        token_secret_files,
        token_leeway,
        login_policy,
        msg_service,
        msg_token_file,
        msg_timeout,
        msg_in_flight,
    } = openim;
    vec![
        ("token_secret_files", some(token_secret_files)),
        ("token_leeway_s", some(token_leeway.as_secs())),
        ("login_policy", some(login_policy)),
        ("msg_service", some(msg_service.as_deref().unwrap_or_default())),
        ("msg_token_file", msg_token_file.as_ref().and_then(some)),
        ("msg_timeout_ms", some(msg_timeout.as_millis() as u64)),
        ("msg_in_flight", some(msg_in_flight)),
    ]
}

fn push_rows(push: &Push) -> Rows {
    let Push { tokens, token_file, insecure_no_auth, online, window, deadline, grpc, grpc_auth } = push;
    vec![
        ("tokens", some(vec![MASK; tokens.len()])),
        ("token_file", token_file.as_ref().and_then(some)),
        ("insecure_no_auth", some(insecure_no_auth)),
        ("online", some(online)),
        ("window_s", some(window.as_secs())),
        ("deadline_ms", some(deadline.as_millis() as u64)),
        ("grpc", some(grpc.map_or(String::new(), |address| address.to_string()))),
        ("grpc_auth", some(grpc_auth)),
    ]
}

fn msg_rows(msg: &Msg) -> Rows {
    let Msg { listen, path, fsync, fsync_interval_ms, push, push_token_file, token_file, max_message_bytes } = msg;
    vec![
        ("listen", some(listen)),
        ("path", some(path)),
        ("fsync", some(fsync)),
        ("fsync_interval_ms", some(fsync_interval_ms)),
        ("push", some(push.as_deref().unwrap_or_default())),
        ("push_token_file", push_token_file.as_ref().and_then(some)),
        ("token_file", token_file.as_ref().and_then(some)),
        ("max_message_bytes", some(max_message_bytes)),
    ]
}

fn front_rows(front: &Front) -> Rows {
    let Front { http, grpc, grpc_auth, metrics, service, deadline, webhook } = front;
    let Webhook { url, token_file, secret_file, attempts, timeout, queue } = webhook;
    let address = |address: &Option<_>| some(address.map_or(String::new(), |a: std::net::SocketAddr| a.to_string()));
    vec![
        ("http", address(http)),
        ("grpc", address(grpc)),
        ("grpc_auth", some(grpc_auth)),
        ("metrics", address(metrics)),
        ("service", service.as_ref().and_then(some)),
        ("deadline_ms", some(deadline.as_millis() as u64)),
        ("webhook_url", some(url.as_ref().map_or(String::new(), |url| url.to_string()))),
        ("webhook_token_file", token_file.as_ref().and_then(some)),
        ("webhook_secret_file", secret_file.as_ref().and_then(some)),
        ("webhook_attempts", some(attempts)),
        ("webhook_timeout_ms", some(timeout.as_millis() as u64)),
        ("webhook_queue", some(queue)),
    ]
}

/// A value as JSON writes it, which TOML reads as well.
fn some(value: impl Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}

/// On which line, counted from 1, each key of a table stands.
fn lines(text: &str) -> HashMap<(String, String), usize> {
    let mut lines = HashMap::new();
    let Ok(parsed) = DeTable::parse(text) else { return lines };
    for (name, table) in parsed.get_ref() {
        let DeValue::Table(table) = table.get_ref() else { continue };
        for key in table.keys() {
            let line = text[..key.span().start].matches('\n').count() + 1;
            lines.insert((name.get_ref().to_string(), key.get_ref().to_string()), line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::keys;

    const START: &str = "[node]\nname = \"n\"\nidentity = \"a:88\"\naddress = \"198.51.100.1\"\ninterfaces = [\"eth0\"]\n\
                         [secrets]\ncurrent = \"000102030405060708090a0b0c0d0e0f\"\n";

    fn shown(rest: &str, overrides: &Overrides) -> Shown {
        let text = format!("{START}{rest}");
        Config::parse(&text, overrides).unwrap().shown(&text, overrides)
    }

    /// Whoever adds a key adds it to what is shown, too.
    #[test]
    fn every_key_is_shown() {
        let mut seen = BTreeSet::new();
        for membership in [
            "source = \"file\"\npath = \"/r.toml\"",
            "source = \"etcd\"\nendpoints = [\"http://198.51.100.5:2379\"]",
            "source = \"kubernetes\"\nservice = \"gateways\"",
        ] {
            let text = format!("[membership]\n{membership}\n[openim]\ntoken_secret_files = [\"/s\"]\n");
            let shown = shown(&text, &Overrides::default());
            seen.extend(shown.tables.iter().flat_map(|table| table.rows.iter().map(|row| (table.name, row.key))));
        }
        let known = keys::TABLES.iter().flat_map(|(table, keys)| keys().iter().map(|key| (*table, *key)));
        assert_eq!(seen, known.collect());
    }

    #[test]
    fn a_value_is_shown_with_where_it_comes_from_and_a_secret_is_not() {
        let overrides = Overrides::of_environment([("RINGSTEER_NODE_MAX_FLOWS", "5")]);
        let shown = shown("[membership]\nsource = \"file\"\npath = \"/r.toml\"\n", &overrides);
        let row = |table: &str, key: &str| {
            let table = shown.tables.iter().find(|one| one.name == table).unwrap();
            let row = table.rows.iter().find(|row| row.key == key).unwrap();
            (row.value.clone(), row.origin.clone())
        };
        assert_eq!(row("node", "identity"), (Some(json!("a:88")), Origin::Line(3)));
        assert_eq!(row("node", "max_flows"), (Some(json!(5)), Origin::Override("RINGSTEER_NODE_MAX_FLOWS".into())));
        assert_eq!(row("node", "tunnel_port"), (Some(json!(6080)), Origin::Default));
        assert_eq!(row("secrets", "current"), (Some(json!(MASK)), Origin::Line(7)));
        assert_eq!(row("secrets", "previous"), (None, Origin::Default));
        assert_eq!(row("membership", "path"), (Some(json!("/r.toml")), Origin::Line(10)));
    }
}
