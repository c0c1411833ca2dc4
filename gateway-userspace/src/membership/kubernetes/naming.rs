//! How members are called, and so who the candidates for the ring are. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use super::endpoints::{Condition, Endpoint};
use crate::{
    config::{Kubernetes, KubernetesMode},
    membership::reconcile::Candidate,
    ring::{Identity, IdentityError, MemberState, NodeAddress},
};

/// Where services have their names in DNS. The default of every installer, and what OpenIM's components write.
const CLUSTER_DOMAIN: &str = "svc.cluster.local";

/// How endpoints become members.
#[derive(Clone, Debug)]
pub struct Naming {
    mode: KubernetesMode,
    namespace: String,
    service: String,
    port: u16,
    /// The identities of OpenIM's gateways; empty in other modes.
    expected: Vec<Identity>,
}

// === impl Naming ===

impl Naming {
    /// As the configuration says, in that namespace.
    ///
    /// # Errors
    /// If the names of OpenIM's gateways would be no identities.
    pub fn new(config: &Kubernetes, namespace: &str) -> Result<Self, IdentityError> {
        let (instance, replicas) = match config.mode {
            KubernetesMode::OpenimStatefulset => {
                (config.instance.as_deref().unwrap_or_default(), config.replicas.unwrap_or(0))
            }
            _ => ("", 0),
        };
        let service = match config.mode {
            // The name in the identity is OpenIM's, whichever service we take the endpoints from.
            KubernetesMode::OpenimStatefulset => format!("{instance}-openim-msggateway-headless"),
            _ => config.service.clone(),
        };
        let mut naming = Self {
            mode: config.mode,
            namespace: namespace.to_owned(),
            service,
            port: config.port,
            expected: Vec::new(),
        };
        naming.expected = (0..replicas)
            .map(|ordinal| naming.in_dns(&format!("{instance}-openim-msggateway-{ordinal}")))
            .collect::<Result<_, _>>()?;
        Ok(naming)
    }

    /// The members among these endpoints, one for each identity: of several endpoints with one identity (an old pod and
    /// its successor) the best counts.
    ///
    /// Endpoints that are not ready count only if `unready_too`: for the first ring of a fleet, whose nodes may be
    /// waiting for just that before they call themselves ready.
    ///
    /// What is no member is left out, and told.
    pub fn candidates(&self, endpoints: &[Endpoint], unready_too: bool) -> (Vec<Candidate>, Vec<String>) {
        let mut found: BTreeMap<Identity, (Condition, NodeAddress)> = BTreeMap::new();
        let mut left_out = Vec::new();
        for endpoint in endpoints {
            if endpoint.condition == Condition::Unready && !unready_too {
                continue;
            }
            let (identity, address) = match self.member(endpoint) {
                Ok(member) => member,
                Err(why) => {
                    left_out.push(why);
                    continue;
                }
            };
            // Of equal ones the same one at every look: the order of slices and endpoints means nothing.
            let this = (endpoint.condition, address);
            let best = found.entry(identity).or_insert(this);
            *best = this.max(*best);
        }
        let state = |condition| match condition {
            Condition::Leaving => MemberState::Draining,
            Condition::Ready | Condition::Unready => MemberState::Active,
        };
        let candidates = found
            .into_iter()
            .map(|(identity, (condition, address))| Candidate { identity, address, state: state(condition) })
            .collect();
        left_out.sort();
        left_out.dedup();
        (candidates, left_out)
    }

    fn member(&self, endpoint: &Endpoint) -> Result<(Identity, NodeAddress), String> {
        let shown = endpoint.name.as_deref().unwrap_or("without a name");
        let place = || format!("the endpoint {shown} at {}", endpoint.address);
        let identity = match self.mode {
            KubernetesMode::Endpoints | KubernetesMode::OpenimStatefulset => {
                let name = endpoint.name.as_ref().ok_or_else(|| format!("{} belongs to no pod", place()))?;
                self.in_dns(name)
            }
            KubernetesMode::Nodes => {
                let node = endpoint.node.as_ref().ok_or_else(|| format!("{} is on no node", place()))?;
                Identity::new(format!("{node}:{}", self.port))
            }
            KubernetesMode::Addresses => Identity::new(match endpoint.address {
                IpAddr::V4(v4) => format!("{v4}:{}", self.port),
                IpAddr::V6(v6) => format!("[{v6}]:{}", self.port),
            }),
        };
        let identity = identity.map_err(|error| format!("{}: {error}", place()))?;
        if self.mode == KubernetesMode::OpenimStatefulset && !self.expected.contains(&identity) {
            return Err(format!(
                "{} is none of the {} gateways that `instance` and `replicas` name",
                place(),
                self.expected.len()
            ));
        }
        let address = NodeAddress::new(endpoint.address).map_err(|error| format!("{}: {error}", place()))?;
        Ok((identity, address))
    }

    /// The identity of a pod by its name in DNS.
    fn in_dns(&self, pod: &str) -> Result<Identity, IdentityError> {
        let Self { service, namespace, port, .. } = self;
        Identity::new(format!("{pod}.{service}.{namespace}.{CLUSTER_DOMAIN}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NewRing;

    fn endpoint(name: &str, host: u8, condition: Condition) -> Endpoint {
        Endpoint {
            address: [198, 51, 100, host].into(),
            name: Some(name.into()),
            node: Some(format!("worker-{host}")),
            condition,
        }
    }

    fn naming(mode: KubernetesMode) -> Naming {
        let new_ring = NewRing { algorithm: Default::default(), allow_identities_without_port: false, grace_s: 0 };
        let config = Kubernetes {
            namespace: None,
            service: "members".into(),
            port: 88,
            config_map: "ring".into(),
            mode,
            instance: Some("openim".into()),
            replicas: Some(12),
            new_ring,
        };
        Naming::new(&config, "default").unwrap()
    }

    fn identities(candidates: &[Candidate]) -> Vec<&str> {
        candidates.iter().map(|one| one.identity.as_str()).collect()
    }

    #[test]
    fn each_mode_has_its_names() {
        let endpoints = [endpoint("pod-1", 11, Condition::Ready)];
        for (mode, expected) in [
            (KubernetesMode::Endpoints, "pod-1.members.default.svc.cluster.local:88"),
            (KubernetesMode::Nodes, "worker-11:88"),
            (KubernetesMode::Addresses, "198.51.100.11:88"),
        ] {
            assert_eq!(identities(&naming(mode).candidates(&endpoints, false).0), [expected]);
        }
        let v6 = [Endpoint { address: "2001:db8::11".parse().unwrap(), ..endpoints[0].clone() }];
        assert_eq!(identities(&naming(KubernetesMode::Addresses).candidates(&v6, false).0), ["[2001:db8::11]:88"]);
    }

    #[test]
    fn openims_gateways_are_called_as_openim_calls_them() {
        let naming = naming(KubernetesMode::OpenimStatefulset);
        let gateways = [endpoint("openim-openim-msggateway-7", 11, Condition::Ready)];
        let (candidates, left_out) = naming.candidates(&gateways, false);
        assert_eq!(
            identities(&candidates),
            ["openim-openim-msggateway-7.openim-openim-msggateway-headless.default.svc.cluster.local:88"]
        );
        assert_eq!(left_out, [""; 0]);
    }

    #[test]
    fn the_spelling_is_that_of_the_golden_vectors() {
        let naming = naming(KubernetesMode::OpenimStatefulset);
        let ring = crate::ring::fixtures::openim(5, ":88");
        let golden: Vec<_> = ring.members().iter().map(|member| member.identity.clone()).collect();
        assert_eq!(naming.expected[..5], golden);
    }

    #[test]
    fn a_gateway_too_many_is_told() {
        let naming = naming(KubernetesMode::OpenimStatefulset);
        let (candidates, left_out) =
            naming.candidates(&[endpoint("openim-openim-msggateway-12", 11, Condition::Ready)], false);
        assert_eq!(candidates, []);
        assert!(left_out[0].contains("msggateway-12 at 198.51.100.11 is none of the 12 gateways"), "{left_out:?}");
    }

    #[test]
    fn of_two_endpoints_with_one_name_the_better_counts() {
        let old = Endpoint { address: [198, 51, 100, 10].into(), ..endpoint("pod-1", 11, Condition::Leaving) };
        let new = endpoint("pod-1", 11, Condition::Ready);
        for endpoints in [[old.clone(), new.clone()], [new, old]] {
            let (candidates, _) = naming(KubernetesMode::Nodes).candidates(&endpoints, false);
            assert_eq!(candidates.len(), 1);
            assert_eq!(candidates[0].state, MemberState::Active);
            assert_eq!(candidates[0].address.to_string(), "198.51.100.11");
        }
    }

    #[test]
    fn who_is_not_ready_counts_for_the_first_ring_alone() {
        let naming = naming(KubernetesMode::Nodes);
        let endpoints = [endpoint("a", 11, Condition::Unready), endpoint("b", 12, Condition::Leaving)];
        let (candidates, _) = naming.candidates(&endpoints, false);
        assert_eq!(candidates.iter().map(|one| one.state).collect::<Vec<_>>(), [MemberState::Draining]);
        let (candidates, _) = naming.candidates(&endpoints, true);
        let states: Vec<_> = candidates.iter().map(|one| one.state).collect();
        assert_eq!(states, [MemberState::Active, MemberState::Draining]);
    }
}
