//! The etcd source with a real etcd: the contract, and what only etcd can do to it.

mod access;
mod life;
mod mishaps;
mod server;

use std::collections::BTreeMap;

use etcd_client::{Client, EventType, Txn, TxnOp, WatchOptions};
use tokio::time::timeout;

use self::server::{Proxy, Server, Way};
use super::*;
use crate::{
    config::NewRing,
    membership::contract::{Following, PATIENCE, Store, contract},
    ring::{Algorithm, Identity, Member, NodeAddress},
};

/// A fleet's etcd; some of the nodes reach it by a way that can be cut: `CUT` says how.
struct Fleet<const SILENT: bool> {
    server: Server,
    proxy: Proxy,
    client: Client,
    nodes: Vec<String>,
    /// Addresses of members that are set, by identity.
    addresses: BTreeMap<String, NodeAddress>,
    good: String,
}

fn address(last: u8) -> NodeAddress {
    NodeAddress::new([198, 51, 100, last].into()).unwrap()
}

impl<const SILENT: bool> Fleet<SILENT> {
    fn config(&self, url: String, grace_s: u32) -> Etcd {
        Etcd {
            endpoints: vec![url],
            prefix: "/fleet/".into(),
            lease_ttl_s: 5,
            login: None,
            tls: None,
            new_ring: NewRing { algorithm: Algorithm::OpenIm, allow_identities_without_port: false, grace_s },
        }
    }

    /// A new node, `node-1:88` the first, with this configuration.
    fn node(&mut self, config: Etcd) -> EtcdSource {
        let number = self.nodes.len() as u8 + 1;
        let identity = format!("node-{number}:88");
        self.nodes.push(identity.clone());
        EtcdSource::new(
            config,
            Announcement { identity: Identity::new(identity).unwrap(), address: address(200 + number) },
        )
    }

    /// A new node that reaches etcd directly.
    fn direct(&mut self, grace_s: u32) -> Following {
        let config = self.config(self.server.url(), grace_s);
        Following::start(Box::new(self.node(config)))
    }

    /// A new node that reaches etcd by the proxy, with a lease of a second.
    fn proxied(&mut self, grace_s: u32) -> Following {
        let config = Etcd { lease_ttl_s: 1, ..self.config(self.proxy.url(), grace_s) };
        Following::start(Box::new(self.node(config)))
    }

    async fn text(&mut self, key: &str) -> Option<String> {
        let read = self.client.get(key, None).await.unwrap();
        read.kvs().first().map(|found| found.value_str().unwrap().to_owned())
    }

    /// The lease that the key is bound to, if it is there.
    async fn lease(&mut self, key: &str) -> Option<i64> {
        self.client.get(key, None).await.unwrap().kvs().first().map(|found| found.lease())
    }

    /// Revision of the ring key's last change.
    async fn ring_revision(&mut self) -> i64 {
        self.client.get("/fleet/ring", None).await.unwrap().kvs()[0].mod_revision()
    }

    /// Waits until the key is there, or until it is not.
    async fn wait_for(&mut self, key: &str, there: bool) {
        self.wait_until(key, |value| value.is_some() == there).await;
    }

    /// Waits until the key's value, if it is there, `is_it`; it may be already.
    async fn wait_until(&mut self, key: &str, is_it: impl Fn(Option<&str>) -> bool) {
        let now = self.client.get(key, None).await.unwrap();
        if is_it(now.kvs().first().map(|found| found.value_str().unwrap())) {
            return;
        }
        let from = WatchOptions::new().with_start_revision(now.header().unwrap().revision() + 1);
        let mut watch = self.client.watch(key, Some(from)).await.unwrap();
        let is_that = |event: &etcd_client::Event| match event.event_type() {
            EventType::Put => is_it(Some(event.kv().unwrap().value_str().unwrap())),
            EventType::Delete => is_it(None),
        };
        let changed = async {
            while let Some(message) = watch.message().await.unwrap() {
                if message.events().iter().any(is_that) {
                    return;
                }
            }
            panic!("etcd ended the watch");
        };
        timeout(PATIENCE, changed).await.expect("in time");
    }
}

impl<const SILENT: bool> Store for Fleet<SILENT> {
    async fn start() -> Self {
        let server = Server::start();
        let (proxy, client) = (Proxy::to(&server).await, server.client().await);
        Self { server, proxy, client, nodes: Vec::new(), addresses: BTreeMap::new(), good: String::new() }
    }

    fn source(&mut self) -> Box<dyn Source> {
        let config = self.config(self.proxy.url(), 0);
        Box::new(self.node(config))
    }

    fn nodes(&self) -> Vec<String> {
        self.nodes.clone()
    }

    async fn set_members(&mut self, identities: &[&str]) {
        let mut operations = Vec::new();
        for identity in self.addresses.keys().filter(|identity| !identities.contains(&identity.as_str())) {
            operations.push(TxnOp::delete(format!("/fleet/members/{identity}"), None));
        }
        for &identity in identities {
            let last = self.addresses.len() as u8 + 1;
            let address = *self.addresses.entry(identity.to_owned()).or_insert_with(|| address(last));
            let value = format!("{{\"address\":\"{address}\"}}");
            operations.push(TxnOp::put(format!("/fleet/members/{identity}"), value, None));
        }
        self.client.txn(Txn::new().and_then(operations)).await.unwrap();
    }

    async fn spoil(&mut self) {
        self.good = self.text("/fleet/ring").await.expect("there is a ring");
        self.client.put("/fleet/ring", "a ring, certainly", None).await.unwrap();
    }

    async fn mend(&mut self) {
        self.client.put("/fleet/ring", self.good.clone(), None).await.unwrap();
    }

    async fn cut(&mut self) {
        self.proxy.set(if SILENT { Way::Silent } else { Way::Closed });
    }

    async fn restore(&mut self) {
        self.proxy.set(Way::Open);
    }
}

/// A fleet of so many nodes that reach etcd directly, with a ring of all of them.
async fn fleet_of(nodes: usize, grace_s: u32) -> (Fleet<false>, Vec<Following>) {
    let mut fleet = Fleet::start().await;
    let mut followings: Vec<_> = (0..nodes).map(|_| fleet.direct(grace_s)).collect();
    for following in &mut followings {
        following.ring_with(&fleet, &[]).await;
    }
    (fleet, followings)
}

/// The member of that name.
fn member<'ring>(ring: &'ring Ring, identity: &str) -> Option<&'ring Member> {
    ring.members().iter().find(|member| member.identity.as_str() == identity)
}

type Etcd3 = Fleet<false>;
contract!(cut: Etcd3);

type SilentEtcd = Fleet<true>;
contract!(silent: SilentEtcd);
