//! Against an API server in this process.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, Config};
use ringsteer_api_server::{ApiServer, Resource};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    Access, KubernetesSource,
    follow::{Follow, Selection, Told},
};
use crate::{
    config::{Kubernetes, KubernetesMode, NewRing},
    membership::{
        Event, Source,
        contract::{Store, contract},
    },
    ring::{Algorithm, MemberState, Ring, RingDescription, fixtures, golden},
};

const NAMESPACE: &str = "here";

/// How long to wait for what must come. Not a measure of speed.
const PATIENCE: Duration = Duration::from_secs(60);

fn client(server: &ApiServer) -> Client {
    let mut config = Config::new(format!("http://{}", server.address()).parse().unwrap());
    config.default_namespace = NAMESPACE.into();
    Client::try_from(config).unwrap()
}

fn config_map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"value": value}})
}

struct Following(Follow<ConfigMap>);

impl Following {
    fn start(server: &ApiServer, name: &str) -> Self {
        Self(Follow::new(Api::default_namespaced(client(server)), Selection::Name(name.into())))
    }

    async fn next(&mut self) -> String {
        let value = |one: &ConfigMap| one.data.clone().unwrap_or_default().remove("value").unwrap_or_default();
        match timeout(PATIENCE, self.0.next()).await.expect("something in time") {
            Told::All(all) => format!("all: {}", all.iter().map(value).collect::<Vec<_>>().join(" ")),
            Told::Changed(one) => format!("changed: {}", value(&one)),
            Told::Gone(one) => format!("gone: {}", value(&one)),
            Told::Broken(_) => "broken".into(),
            Told::Connected => "connected".into(),
        }
    }
}

#[tokio::test]
async fn what_happens_is_told_in_order() {
    let server = ApiServer::start().await.unwrap();
    server.create(Resource::ConfigMaps, NAMESPACE, config_map("it", "1")).unwrap();
    server.create(Resource::ConfigMaps, NAMESPACE, config_map("other", "x")).unwrap();
    let mut following = Following::start(&server, "it");
    assert_eq!(following.next().await, "all: 1");
    for value in ["2", "3"] {
        server.replace(Resource::ConfigMaps, NAMESPACE, config_map("other", value)).unwrap();
        server.replace(Resource::ConfigMaps, NAMESPACE, config_map("it", value)).unwrap();
    }
    assert_eq!(following.next().await, "changed: 2");
    assert_eq!(following.next().await, "changed: 3");
    server.delete(Resource::ConfigMaps, NAMESPACE, "it").unwrap();
    assert_eq!(following.next().await, "gone: 3");
}

/// A cut connection loses nothing: the watch goes on where it was.
#[tokio::test]
async fn a_cut_watch_is_taken_up() {
    let server = ApiServer::start().await.unwrap();
    server.create(Resource::ConfigMaps, NAMESPACE, config_map("it", "1")).unwrap();
    let mut following = Following::start(&server, "it");
    assert_eq!(following.next().await, "all: 1");
    for round in 0..5 {
        // In the middle of a watch: it has told something.
        server.replace(Resource::ConfigMaps, NAMESPACE, config_map("it", &format!("{round} before"))).unwrap();
        assert_eq!(following.next().await, format!("changed: {round} before"));
        server.cut_connections();
        server.replace(Resource::ConfigMaps, NAMESPACE, config_map("it", &format!("{round} after"))).unwrap();
        let mut told = following.next().await;
        while matches!(told.as_str(), "broken" | "connected") {
            told = following.next().await;
        }
        assert_eq!(told, format!("changed: {round} after"));
    }
    let lists = server.requests().iter().filter(|one| !one.contains("watch=true")).count();
    assert_eq!(lists, 1, "it was listed again: {:?}", server.requests());
}

/// Where the past is forgotten, everything is listed anew.
#[tokio::test]
async fn after_410_gone_all_is_listed() {
    let server = ApiServer::start().await.unwrap();
    server.create(Resource::ConfigMaps, NAMESPACE, config_map("it", "1")).unwrap();
    let mut following = Following::start(&server, "it");
    assert_eq!(following.next().await, "all: 1");
    server.stop();
    assert_eq!(following.next().await, "broken");
    server.replace(Resource::ConfigMaps, NAMESPACE, config_map("it", "2")).unwrap();
    server.compact();
    server.resume().unwrap();
    let mut told = following.next().await;
    while matches!(told.as_str(), "broken" | "connected") {
        told = following.next().await;
    }
    assert_eq!(told, "all: 2");
}

#[tokio::test]
async fn an_outage_is_told_and_so_is_its_end() {
    let server = ApiServer::start().await.unwrap();
    let mut following = Following::start(&server, "it");
    assert_eq!(following.next().await, "all: ");
    server.stop();
    assert_eq!(following.next().await, "broken");
    server.resume().unwrap();
    let mut told = following.next().await;
    while told == "broken" {
        told = following.next().await;
    }
    assert_eq!(told, "connected");
    server.create(Resource::ConfigMaps, NAMESPACE, config_map("it", "1")).unwrap();
    assert_eq!(following.next().await, "changed: 1");
}

#[tokio::test]
async fn what_is_forbidden_is_said() {
    let server = ApiServer::start().await.unwrap();
    server.restrict(json!([]));
    let mut following = Following::start(&server, "it");
    let Told::Broken(why) = timeout(PATIENCE, following.0.next()).await.unwrap() else { panic!("it was allowed") };
    assert!(why.contains("cannot list configmaps") && why.contains("403"), "{why}");
}

// The source, by the contract.

/// A service called `members` whose endpoints are pods, and an empty ring object beside it.
struct Cluster {
    server: ApiServer,
    /// What stood in the object before it was spoiled.
    good: Option<Value>,
}

const SERVICE: &str = "members";
const RING: &str = "ring";

fn slice(name: &str, endpoints: &[Value]) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [],
    })
}

/// The endpoint of a member called `<host>:88`.
fn endpoint(host: &str, address: &str, ready: bool, terminating: bool) -> Value {
    json!({
        "addresses": [address],
        "nodeName": host,
        "targetRef": {"kind": "Pod", "name": format!("pod-on-{host}")},
        "conditions": {"ready": ready, "serving": ready, "terminating": terminating},
    })
}

impl Cluster {
    fn config(grace_s: u32) -> Kubernetes {
        Kubernetes {
            namespace: None,
            service: SERVICE.into(),
            port: 88,
            config_map: RING.into(),
            mode: KubernetesMode::Nodes,
            instance: None,
            replicas: None,
            new_ring: NewRing { algorithm: Algorithm::OpenIm, allow_identities_without_port: false, grace_s },
        }
    }

    fn source_with(&self, grace_s: u32) -> Box<dyn Source> {
        let access = Access::By(client(&self.server));
        Box::new(KubernetesSource { access, config: Self::config(grace_s), address: None })
    }

    fn endpoints(&self, endpoints: &[Value]) {
        // In two slices, as a large service has them.
        let (first, second) = endpoints.split_at(endpoints.len() / 2);
        for (name, part) in [("members-a", first), ("members-b", second)] {
            self.server.replace(Resource::EndpointSlices, NAMESPACE, slice(name, part)).unwrap();
        }
    }

    fn ring(&self) -> Option<RingDescription> {
        let object = self.server.get(Resource::ConfigMaps, NAMESPACE, RING)?;
        serde_json::from_str(object["data"]["ring"].as_str()?).ok()
    }
}

impl Store for Cluster {
    async fn start() -> Self {
        let server = ApiServer::start().await.unwrap();
        // What the manifests allow has to do.
        server.restrict(json!([
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": [RING],
                "verbs": ["get", "list", "watch", "update"]
            },
        ]));
        server.create(Resource::ConfigMaps, NAMESPACE, json!({"metadata": {"name": RING}})).unwrap();
        for name in ["members-a", "members-b"] {
            server.create(Resource::EndpointSlices, NAMESPACE, slice(name, &[])).unwrap();
        }
        Self { server, good: None }
    }

    fn source(&mut self) -> Box<dyn Source> {
        self.source_with(0)
    }

    async fn set_members(&mut self, identities: &[&str]) {
        let endpoints: Vec<Value> = identities
            .iter()
            .map(|identity| {
                let host = identity.strip_suffix(":88").unwrap();
                // An address of its own that stays with it.
                let number = host.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)) % 250 + 1;
                endpoint(host, &format!("198.51.100.{number}"), true, false)
            })
            .collect();
        self.endpoints(&endpoints);
    }

    async fn spoil(&mut self) {
        self.good = self.server.get(Resource::ConfigMaps, NAMESPACE, RING);
        let spoilt = json!({"metadata": {"name": RING}, "data": {"ring": "members: none"}});
        self.server.replace(Resource::ConfigMaps, NAMESPACE, spoilt).unwrap();
    }

    async fn mend(&mut self) {
        self.server.replace(Resource::ConfigMaps, NAMESPACE, self.good.take().unwrap()).unwrap();
    }

    async fn cut(&mut self) {
        self.server.stop();
    }

    async fn restore(&mut self) {
        self.server.resume().unwrap();
    }
}

contract!(kubernetes: Cluster);

/// A node's source, and what it tells.
struct Node {
    events: mpsc::Receiver<Event>,
    _state: watch::Sender<MemberState>,
}

impl Node {
    fn start(source: Box<dyn Source>) -> Self {
        let (_state, state) = watch::channel(MemberState::Active);
        let (told, events) = mpsc::channel(64);
        tokio::spawn(source.follow(state, told));
        Self { events, _state }
    }

    async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the source goes on")
    }

    /// The first ring whose members, with their states, are these; others before it are passed over.
    async fn ring(&mut self, members: &[(&str, MemberState)]) -> Ring {
        loop {
            if let Event::Ring(ring) = self.next().await
                && ring.members().iter().map(|one| (one.identity.as_str(), one.state)).eq(members.iter().copied())
            {
                return ring;
            }
        }
    }

    async fn trouble(&mut self) -> String {
        loop {
            if let Event::Trouble(what) = self.next().await {
                return what;
            }
        }
    }

    /// Nothing has been told, although as much was asked of the server as it takes to know.
    fn is_silent(&mut self) -> bool {
        matches!(self.events.try_recv(), Err(mpsc::error::TryRecvError::Empty))
    }
}

const ACTIVE: MemberState = MemberState::Active;
const DRAINING: MemberState = MemberState::Draining;

/// Ready, then about to go, then gone: active, draining, no member.
#[tokio::test]
async fn a_pod_that_ends_drains_and_goes() {
    let cluster = Cluster::start().await;
    let a = endpoint("a", "198.51.100.11", true, false);
    cluster.endpoints(&[a.clone(), endpoint("b", "198.51.100.12", true, false)]);
    let mut node = Node::start(cluster.source_with(0));
    let both = node.ring(&[("a:88", ACTIVE), ("b:88", ACTIVE)]).await;
    cluster.endpoints(&[a.clone(), endpoint("b", "198.51.100.12", false, true)]);
    let draining = node.ring(&[("a:88", ACTIVE), ("b:88", DRAINING)]).await;
    cluster.endpoints(&[a]);
    let alone = node.ring(&[("a:88", ACTIVE)]).await;
    assert!(both.epoch() < draining.epoch() && draining.epoch() < alone.epoch());
    assert_eq!(alone.members()[0].number, both.members()[0].number);
}

/// A pod that fails its probes for a while, within the grace period, moves nobody.
#[tokio::test]
async fn a_short_absence_is_no_change() {
    let cluster = Cluster::start().await;
    let a = endpoint("a", "198.51.100.11", true, false);
    let b = |ready| endpoint("b", "198.51.100.12", ready, false);
    cluster.endpoints(&[a.clone(), b(true)]);
    let mut node = Node::start(cluster.source_with(3600));
    let before = node.ring(&[("a:88", ACTIVE), ("b:88", ACTIVE)]).await;
    cluster.endpoints(&[a.clone(), b(false)]);
    cluster.endpoints(std::slice::from_ref(&a));
    cluster.endpoints(&[a.clone(), b(true)]);
    // What is told after all that is the next thing to happen, one epoch later.
    cluster.endpoints(&[a, b(true), endpoint("c", "198.51.100.13", true, false)]);
    let after = node.ring(&[("a:88", ACTIVE), ("b:88", ACTIVE), ("c:88", ACTIVE)]).await;
    assert_eq!(after.epoch().0, before.epoch().0 + 1);
}

/// All nodes write at once: the server takes one, the others find their ring in what it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_one_succeeds() {
    const NODES: usize = 8;
    let cluster = Cluster::start().await;
    let a = endpoint("a", "198.51.100.11", true, false);
    cluster.endpoints(std::slice::from_ref(&a));
    let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::start(cluster.source_with(0))).collect();
    for node in &mut nodes {
        node.ring(&[("a:88", ACTIVE)]).await;
    }
    cluster.server.hold_updates();
    cluster.endpoints(&[a, endpoint("b", "198.51.100.12", true, false)]);
    timeout(PATIENCE, cluster.server.updates_held(NODES)).await.expect("all want to write");
    cluster.server.release_updates();
    let mut epochs = Vec::new();
    for node in &mut nodes {
        epochs.push(node.ring(&[("a:88", ACTIVE), ("b:88", ACTIVE)]).await.epoch().0);
    }
    assert_eq!(epochs, [2; NODES]);
    assert_eq!(cluster.ring().unwrap().epoch.0, 2);
    let answers = |status: &str| {
        cluster.server.requests().iter().filter(|one| one.starts_with("PUT") && one.ends_with(status)).count()
    };
    // A conflict each for those who came too late. (The first ring of all may have seen some more.)
    assert!(answers(" 409") >= NODES - 1, "{:?}", cluster.server.requests());
    assert_eq!(answers(" 200"), 2);
}

/// The names that OpenIM computes, and its order, whatever the order of the endpoints.
#[tokio::test]
async fn openims_statefulset_makes_openims_ring() {
    let cluster = Cluster::start().await;
    let gateway = |ordinal: u8| {
        json!({
            "addresses": [format!("198.51.100.{}", 11 + ordinal)],
            "hostname": format!("openim-openim-msggateway-{ordinal}"),
            "nodeName": format!("worker-{ordinal}"),
            "conditions": {"ready": true},
        })
    };
    cluster.endpoints(&[11, 3, 10, 0, 7, 1, 9, 2, 8, 5, 4, 6, 12].map(gateway));
    let config = Kubernetes {
        mode: KubernetesMode::OpenimStatefulset,
        namespace: Some(NAMESPACE.into()),
        instance: Some("openim".into()),
        replicas: Some(12),
        ..Cluster::config(0)
    };
    let access = Access::By(client(&cluster.server));
    let mut node = Node::start(Box::new(KubernetesSource { access, config, address: None }));
    let ring = loop {
        match node.next().await {
            Event::Ring(ring) if ring.members().len() == 12 => break ring,
            _ => {}
        }
    };
    let expected: Vec<String> = golden::openim_identities(12, ":88")
        .iter()
        .map(|identity| identity.replace(".default.", &format!(".{NAMESPACE}.")))
        .collect();
    assert_eq!(ring.members().iter().map(|one| one.identity.as_str()).collect::<Vec<_>>(), expected);
    for user in ["alice", "bob", "carol"] {
        assert_eq!(ring.owner(user.as_bytes()).identity, fixtures::ring_of(&expected).owner(user.as_bytes()).identity);
    }
    // The thirteenth is none of those that were announced.
    let trouble = node.trouble().await;
    assert!(trouble.contains("msggateway-12 at 198.51.100.23 is none of the 12 gateways"), "{trouble}");
}

/// Nodes that wait for a ring before they call themselves ready get one.
#[tokio::test]
async fn the_first_ring_does_not_wait_for_readiness() {
    let cluster = Cluster::start().await;
    let b = |ready| endpoint("b", "198.51.100.12", ready, false);
    cluster.endpoints(&[endpoint("a", "198.51.100.11", false, false), b(false)]);
    let mut node = Node::start(cluster.source_with(3600));
    node.ring(&[("a:88", ACTIVE), ("b:88", ACTIVE)]).await;
    // Later ones have to be ready.
    let c = |ready| endpoint("c", "198.51.100.13", ready, false);
    cluster.endpoints(&[b(true), c(false)]);
    cluster.endpoints(&[b(true), c(true)]);
    let ring = node.ring(&[("a:88", ACTIVE), ("b:88", ACTIVE), ("c:88", ACTIVE)]).await;
    assert_eq!(ring.epoch().0, 2);
}

/// What somebody has removed is written again: same epoch, same numbers, and nobody has to be told.
#[tokio::test]
async fn a_ring_that_is_lost_is_written_again() {
    let cluster = Cluster::start().await;
    cluster.endpoints(&[endpoint("a", "198.51.100.11", true, false)]);
    let mut node = Node::start(cluster.source_with(3600));
    node.ring(&[("a:88", ACTIVE)]).await;
    let written = cluster.ring().unwrap();
    let mut changes = Following::start(&cluster.server, RING);
    changes.next().await;
    let empty = json!({"metadata": {"name": RING}});
    cluster.server.replace(Resource::ConfigMaps, NAMESPACE, empty).unwrap();
    changes.next().await;
    changes.next().await;
    assert_eq!(cluster.ring(), Some(written));
    assert!(node.is_silent());
}

#[tokio::test]
async fn without_an_object_it_says_so_and_waits() {
    let cluster = Cluster::start().await;
    cluster.endpoints(&[endpoint("a", "198.51.100.11", true, false)]);
    cluster.server.delete(Resource::ConfigMaps, NAMESPACE, RING).unwrap();
    let mut node = Node::start(cluster.source_with(0));
    let trouble = node.trouble().await;
    assert!(trouble.starts_with("there is no ConfigMap here/ring;"), "{trouble}");
    cluster.server.create(Resource::ConfigMaps, NAMESPACE, json!({"metadata": {"name": RING}})).unwrap();
    node.ring(&[("a:88", ACTIVE)]).await;
}

#[tokio::test]
async fn who_may_not_write_says_so() {
    let cluster = Cluster::start().await;
    cluster.endpoints(&[endpoint("a", "198.51.100.11", true, false)]);
    cluster.server.restrict(json!([
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
    ]));
    let mut node = Node::start(cluster.source_with(0));
    let trouble = node.trouble().await;
    assert!(trouble.contains("cannot be changed (cannot update configmaps") && trouble.contains("403"), "{trouble}");
}

/// A fleet without pods is told to be one, and not taken for an empty ring.
#[tokio::test]
async fn nobody_is_no_ring() {
    let cluster = Cluster::start().await;
    let mut node = Node::start(cluster.source_with(0));
    let trouble = node.trouble().await;
    assert!(trouble.contains("the service has no endpoints"), "{trouble}");
    cluster.endpoints(&[endpoint("a", "198.51.100.11", true, false)]);
    let before = node.ring(&[("a:88", ACTIVE)]).await;
    cluster.endpoints(&[]);
    cluster.endpoints(&[endpoint("b", "198.51.100.12", true, false)]);
    let after = node.ring(&[("b:88", ACTIVE)]).await;
    assert!(after.epoch() > before.epoch());
}
