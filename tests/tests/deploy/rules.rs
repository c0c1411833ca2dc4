//! What one object says of another: names that must exist, labels that must match, ports that must be free.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use ringsteer_tests::deploy::{self, KUSTOMIZATIONS, containers, find, nodes, pods};
use serde_json::Value;

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

#[test]
fn what_a_pod_mounts_exists() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        for (holder, pod) in pods(&objects) {
            let mut volumes = BTreeSet::new();
            for volume in list(pod, "volumes") {
                if let Some(name) = volume["configMap"]["name"].as_str() {
                    find(&objects, "ConfigMap", name)?;
                }
                if let Some(name) = volume["secret"]["secretName"].as_str() {
                    find(&objects, "Secret", name)?;
                }
                volumes.insert(volume["name"].as_str().context("a volume without a name")?);
            }
            // What a StatefulSet claims for each of its pods.
            let set = objects.iter().find(|one| one["metadata"]["name"] == holder && one["kind"] == "StatefulSet");
            for claim in set.into_iter().flat_map(|set| list(&set["spec"], "volumeClaimTemplates")) {
                volumes.insert(claim["metadata"]["name"].as_str().context("a claim without a name")?);
            }
            let mut mounted = BTreeSet::new();
            for mount in containers(pod).flat_map(|container| list(container, "volumeMounts")) {
                let name = mount["name"].as_str().context("a mount without a name")?;
                ensure!(volumes.contains(name), "{kustomization}: {holder} mounts {name}, which is no volume");
                mounted.insert(name);
            }
            ensure!(volumes == mounted, "{kustomization}: {holder} mounts {mounted:?} of {volumes:?}");
            if let Some(name) = pod["serviceAccountName"].as_str() {
                find(&objects, "ServiceAccount", name)?;
            }
        }
    }
    Ok(())
}

#[test]
fn probes_ask_a_port_that_is_there() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        for (holder, pod) in pods(&objects) {
            for container in list(pod, "containers") {
                for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                    let get = &container[probe]["httpGet"];
                    let port = get["port"].as_str().with_context(|| format!("{holder} has no {probe}"))?;
                    let known = list(container, "ports").any(|one| one["name"] == port);
                    ensure!(known, "{kustomization}: {holder}: {probe} asks {port}");
                    let path = if probe == "readinessProbe" { "/readyz" } else { "/healthz" };
                    ensure!(get["path"] == path, "{kustomization}: {holder}: {probe} asks for {}", get["path"]);
                }
            }
        }
    }
    Ok(())
}

/// The nodes are in their hosts' network.
#[test]
fn no_two_containers_take_one_port() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        ensure!(nodes(&objects).len() == 1, "{kustomization} has another number of kinds of node than one");
        let mut taken = BTreeMap::new();
        for (_, pod) in pods(&objects) {
            for port in containers(pod).flat_map(|container| list(container, "ports")) {
                let name = port["name"].as_str().context("a port without a name")?;
                // IANA_SVC_NAME, which the schemas do not express.
                ensure!(name.len() <= 15, "the port name {name} is too long");
                let key = (port["containerPort"].as_u64(), port["protocol"].as_str().unwrap_or("TCP"));
                ensure!(taken.insert(key, name).is_none(), "{kustomization}: {key:?} is taken twice");
            }
        }
        ensure!(taken.len() >= 2, "{kustomization}: {taken:?}");
    }
    Ok(())
}

/// Whether the labels of some pod among the objects are those of the selector.
fn selects(objects: &[Value], selector: &Value) -> bool {
    let Some(selector) = selector.as_object() else { return false };
    objects
        .iter()
        .map(|one| &one["spec"]["template"]["metadata"]["labels"])
        .any(|labels| !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

#[test]
fn selectors_find_their_pods_and_names_their_ports() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        let ports: BTreeSet<&str> = pods(&objects)
            .into_iter()
            .flat_map(|(_, pod)| containers(pod))
            .flat_map(|container| list(container, "ports"))
            .filter_map(|port| port["name"].as_str())
            .collect();
        for object in &objects {
            let place = || format!("{kustomization}: {} {}", object["kind"], object["metadata"]["name"]);
            let selector = match object["kind"].as_str() {
                Some("Service") => &object["spec"]["selector"],
                Some("PodDisruptionBudget" | "DaemonSet" | "Deployment" | "StatefulSet") => {
                    &object["spec"]["selector"]["matchLabels"]
                }
                _ => continue,
            };
            ensure!(selects(&objects, selector), "{} selects nothing", place());
            for port in list(&object["spec"], "ports").filter_map(|port| port["targetPort"].as_str()) {
                ensure!(ports.contains(port), "{} has the port {port}, which no container has", place());
            }
        }
    }
    Ok(())
}

#[test]
fn every_object_is_in_the_namespace_that_is_made() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        let namespaces: Vec<&Value> = objects.iter().filter(|one| one["kind"] == "Namespace").collect();
        let [namespace] = namespaces[..] else {
            anyhow::bail!("{kustomization} makes {} namespaces", namespaces.len())
        };
        for object in objects.iter().filter(|one| one["kind"] != "Namespace") {
            let name = &object["metadata"]["namespace"];
            ensure!(*name == namespace["metadata"]["name"], "{kustomization}: {} is in {name}", object["kind"]);
        }
    }
    Ok(())
}

/// An update takes one node at a time, and gives its gateway the time to drain.
#[test]
fn updates_drain_one_node_after_the_other() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        let is_node = |one: &&Value| one["spec"]["template"]["spec"]["hostNetwork"] == true;
        let node = objects.iter().find(is_node).context("no node")?;
        ensure!(node["spec"]["updateStrategy"]["type"] == "RollingUpdate", "{kustomization}");
        // A StatefulSet's updates go one by one anyway.
        let unavailable = &node["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"];
        ensure!(node["kind"] == "StatefulSet" || *unavailable == 1, "{kustomization}");
        for (holder, pod) in nodes(&objects) {
            ensure!(pod["priorityClassName"] == "system-node-critical", "{holder}");
            let grace = pod["terminationGracePeriodSeconds"].as_u64().context("no grace period")?;
            for container in list(pod, "containers").filter(|one| one["name"] == "gateway") {
                let sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().context("no preStop")?;
                // The default of grace_s, which the configurations leave alone.
                let stopping = 45;
                ensure!(grace >= sleep + stopping, "{holder} is killed before its sessions are gone");
            }
        }
    }
    Ok(())
}
