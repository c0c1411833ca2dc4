//! Who is behind a service, from its endpoint slices. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::discovery::v1 as api;

/// One endpoint, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its first address: the others have no defined meaning.
    pub address: IpAddr,
    /// Its name in the service's domain, or else that of its pod.
    pub name: Option<String>,
    /// The host that it runs on.
    pub node: Option<String>,
    /// How it is.
    pub condition: Condition,
}

/// How an endpoint is, from its conditions `ready`, `serving` and `terminating`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Neither serving nor about to go: it starts, or its probes fail.
    Unready,
    /// About to go: it takes nobody new, and its connections go on.
    Leaving,
    /// In service.
    Ready,
}

/// The slices of a service, by name.
#[derive(Debug, Default)]
pub struct Slices(BTreeMap<String, api::EndpointSlice>);

// === impl Slices ===

impl Slices {
    /// All there are.
    pub fn replace(&mut self, all: Vec<api::EndpointSlice>) {
        self.0.clear();
        all.into_iter().for_each(|slice| self.put(slice));
    }

    /// One was made or has changed.
    pub fn put(&mut self, slice: api::EndpointSlice) {
        self.0.insert(slice.metadata.name.clone().unwrap_or_default(), slice);
    }

    /// One is gone.
    pub fn remove(&mut self, slice: &api::EndpointSlice) {
        self.0.remove(slice.metadata.name.as_deref().unwrap_or_default());
    }

    /// Their endpoints of one address family; where a slice says otherwise than its addresses, these count.
    pub fn endpoints(&self, ipv6: bool) -> Vec<Endpoint> {
        let all = self.0.values().filter(|slice| slice.address_type != "FQDN").flat_map(|slice| &slice.endpoints);
        all.filter_map(endpoint).filter(|endpoint| endpoint.address.is_ipv6() == ipv6).collect()
    }
}

fn endpoint(one: &api::Endpoint) -> Option<Endpoint> {
    let address: IpAddr = one.addresses.first()?.parse().ok()?;
    let pod = one.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(Endpoint {
        address: address.to_canonical(),
        name: one.hostname.clone().or_else(|| pod.and_then(|pod| pod.name.clone())),
        node: one.node_name.clone(),
        condition: condition(one.conditions.as_ref()),
    })
}

/// What is not said counts as the API has it: ready, serving as ready, not terminating.
fn condition(conditions: Option<&api::EndpointConditions>) -> Condition {
    let ready = conditions.and_then(|one| one.ready).unwrap_or(true);
    // A pod that is terminating is never ready, but may well be serving.
    if conditions.and_then(|one| one.terminating).unwrap_or(false) {
        Condition::Leaving
    } else if ready || conditions.and_then(|one| one.serving).unwrap_or(false) {
        Condition::Ready
    } else {
        Condition::Unready
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    pub(crate) fn slice(name: &str, endpoints: Value) -> api::EndpointSlice {
        let slice = json!({"metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints});
        serde_json::from_value(slice).unwrap()
    }

    fn conditions(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> api::EndpointConditions {
        api::EndpointConditions { ready, serving, terminating }
    }

    #[test]
    fn conditions_have_their_defaults() {
        let (yes, no) = (Some(true), Some(false));
        for (ready, serving, terminating, expected) in [
            (None, None, None, Condition::Ready),
            (yes, yes, no, Condition::Ready),
            (no, yes, no, Condition::Ready),
            (no, no, no, Condition::Unready),
            (no, None, None, Condition::Unready),
            (no, yes, yes, Condition::Leaving),
            (no, no, yes, Condition::Leaving),
        ] {
            assert_eq!(condition(Some(&conditions(ready, serving, terminating))), expected);
        }
        assert_eq!(condition(None), Condition::Ready);
    }

    #[test]
    fn slices_come_together() {
        let mut slices = Slices::default();
        slices.replace(vec![slice(
            "a",
            json!([
                {
                    "addresses": ["198.51.100.11"],
                    "nodeName": "worker-1",
                    "targetRef": {"kind": "Pod", "name": "pod-1"},
                    "conditions": {"ready": true},
                },
                {"addresses": ["2001:db8::11"], "hostname": "gw-0"},
                {"addresses": ["no address"]},
                {"addresses": []},
            ]),
        )]);
        slices.put(slice("b", json!([{"addresses": ["198.51.100.12"], "hostname": "gw-1"}])));
        let found = slices.endpoints(false);
        assert_eq!(found.iter().map(|one| one.name.as_deref()).collect::<Vec<_>>(), [Some("pod-1"), Some("gw-1")]);
        assert_eq!(found[0].node.as_deref(), Some("worker-1"));
        assert_eq!(slices.endpoints(true)[0].name.as_deref(), Some("gw-0"));
        slices.remove(&slice("a", json!([])));
        assert_eq!(slices.endpoints(false).len(), 1);
        slices.replace(vec![]);
        assert_eq!(slices.endpoints(false), []);
    }
}
