//! The configuration in the manifests, as a node reads it with the environment that its pod gives it.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer::{
    config::{Config, KubernetesMode, Membership, Overrides, Serve},
    ring::Identity,
};
use ringsteer_tests::{
    deploy::{self, KUSTOMIZATIONS, containers, find, pods},
    fleet,
};
use serde_json::Value;

/// What the downward API would give to the pod called `pod` on the host `worker-1`.
fn field(path: &str, pod: &str, namespace: &str) -> Result<String> {
    Ok(match path {
        "spec.nodeName" => "worker-1".into(),
        "status.hostIP" => "198.51.100.11".into(),
        "metadata.name" => pod.into(),
        "metadata.namespace" => namespace.into(),
        other => bail!("what is {other}?"),
    })
}

/// The environment of a container. As in Kubernetes, `$(NAME)` stands for a variable that comes before.
fn environment(container: &Value, pod: &str, namespace: &str) -> Result<BTreeMap<String, String>> {
    let mut environment = BTreeMap::<String, String>::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some(path) => field(path, pod, namespace)?,
            None => {
                let mut value = variable["value"].as_str().context("a variable without a value")?.to_owned();
                for (name, known) in &environment {
                    value = value.replace(&format!("$({name})"), known);
                }
                ensure!(!value.contains("$("), "{value} names a variable that does not come before");
                value
            }
        };
        environment.insert(variable["name"].as_str().context("a variable without a name")?.to_owned(), value);
    }
    Ok(environment)
}

/// The configurations that the containers of the nodes read; `pod` is the name of the pod.
fn configurations(kustomization: &str, pod: &str) -> Result<Vec<Config>> {
    let objects = deploy::objects(kustomization)?;
    let mut read = Vec::new();
    for (holder, spec) in pods(&objects) {
        let volumes = spec["volumes"].as_array().context("no volumes")?;
        let volume = volumes.iter().find(|one| one["name"] == "config").context("no configuration")?;
        let map = find(&objects, "ConfigMap", volume["configMap"]["name"].as_str().context("no name")?)?;
        let text = map["data"]["ringsteer.toml"].as_str().context("no ringsteer.toml")?;
        let namespace = map["metadata"]["namespace"].as_str().context("no namespace")?;
        for container in containers(spec) {
            // Where the binary looks for it by itself.
            let mount = container["volumeMounts"].as_array().context("no mounts")?;
            ensure!(mount.iter().any(|one| one["name"] == "config" && one["mountPath"] == "/etc/ringsteer"));
            let mut environment = environment(container, pod, namespace)?;
            if container["args"] == serde_json::json!(["msg"]) {
                // It reads the tables that are its own. That the others are good as well is looked at all the same.
                environment.extend([("RINGSTEER_NODE_NAME".into(), "worker-1".into())]);
                environment.extend([("RINGSTEER_NODE_IDENTITY".into(), "worker-1:88".into())]);
                environment.extend([("RINGSTEER_NODE_ADDRESS".into(), "198.51.100.11".into())]);
            }
            let overrides = Overrides::of_environment(environment);
            let config = Config::parse(text, &overrides)
                .with_context(|| format!("{kustomization}: {holder}: {}", container["name"]))?;
            read.push(config);
        }
    }
    Ok(read)
}

#[test]
fn every_container_reads_a_good_configuration() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        let configurations = configurations(kustomization, "openim-openim-msggateway-1")?;
        ensure!(configurations.len() >= 3, "{kustomization} has {} containers", configurations.len());
        for config in configurations {
            assert_eq!(config.node.name, "worker-1");
            let Membership::Kubernetes(kubernetes) = &config.membership else {
                bail!("{kustomization}: no Kubernetes")
            };
            find(&objects, "ConfigMap", &kubernetes.config_map)?;
            if kustomization != "overlays/steer-only" {
                find(&objects, "Service", &kubernetes.service)?;
            }
            if kustomization == "overlays/openim" || kustomization == "overlays/whole" {
                let openim = config.openim.as_ref().context("OpenIM's clients are not served")?;
                let service = openim.msg_service.as_deref().context("no message service")?;
                ensure!(service.ends_with(":10130") && config.msg.listen.port() == 10_130, "{service}");
            }
            // Where the probes ask.
            let everywhere = |port: u16| Some(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)));
            assert_eq!(config.metrics.agent, everywhere(9600));
            let served = config.services.iter().any(|service| service.serve != Serve::None);
            assert_eq!(served, kustomization != "overlays/steer-only");
            if served {
                assert_eq!(config.metrics.gateway, everywhere(9601));
                // Where the secret is mounted, and nobody pushes without.
                let token_file = config.push.token_file().context("no tokens")?;
                assert_eq!(token_file, std::path::Path::new("/etc/ringsteer-secret/push-token"));
            }
        }
    }
    Ok(())
}

/// The ports that the manifests name are those of the configuration.
#[test]
fn what_is_served_is_declared() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        let declared: Vec<u64> = pods(&objects)
            .into_iter()
            .flat_map(|(_, pod)| containers(pod))
            .flat_map(|container| container["ports"].as_array().into_iter().flatten())
            .filter_map(|port| port["containerPort"].as_u64())
            .collect();
        for config in configurations(kustomization, "openim-openim-msggateway-0")? {
            ensure!(declared.contains(&config.node.tunnel_port.into()), "{kustomization}: the tunnel's port");
            let served = config.services.iter().any(|service| service.serve != Serve::None);
            let links = u64::from(config.peers.gateway_port);
            ensure!(declared.contains(&links) == served, "{kustomization}: the port of the gateways' links");
            if let Some(grpc) = config.push.grpc {
                ensure!(declared.contains(&grpc.port().into()), "{kustomization}: where OpenIM's pushers call");
            }
            for service in config.services.iter().filter(|service| service.serve != Serve::None) {
                ensure!(declared.contains(&service.address.port().into()), "{kustomization}: {}", service.name);
            }
        }
    }
    Ok(())
}

/// The services beside the nodes are where the others look for them, by names and ports that are there.
#[test]
fn the_whole_finds_its_parts() -> Result<()> {
    let objects = deploy::objects("overlays/whole")?;
    let config = configurations("overlays/whole", "any")?.pop().context("no configuration")?;
    let openim = config.openim.context("OpenIM's clients are not served")?;
    let (msg, front) = (config.msg, config.front);
    for (url, serves) in [
        (openim.msg_service.context("no message service")?, Some(msg.listen)),
        (msg.push.context("nobody pushes")?, front.grpc),
    ] {
        let (name, port) = url.strip_prefix("http://").and_then(|rest| rest.split_once(':')).context("no address")?;
        let service = find(&objects, "Service", name)?;
        let ports = service["spec"]["ports"].as_array().context("no ports")?;
        let port: u16 = port.parse()?;
        ensure!(ports.iter().any(|one| one["port"] == port), "{name} has no port {port}");
        ensure!(serves.is_some_and(|address| address.port() == port), "nobody serves {url}");
    }
    // Each is shown the token that it wants to see.
    assert_eq!(openim.msg_token_file, msg.token_file);
    ensure!(msg.token_file.is_some(), "the message service takes anybody");
    assert_eq!(msg.push_token_file.as_deref(), config.push.token_file());
    // Metrics and probes are asked for from outside, too.
    let everywhere = |port: u16| Some(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port)));
    assert_eq!((config.metrics.msg, front.metrics), (everywhere(9603), everywhere(9602)));
    // Where the claim is mounted.
    ensure!(msg.path.starts_with("/var/lib/ringsteer"), "messages in {}", msg.path.display());
    Ok(())
}

/// A node of the OpenIM overlay has the very name that a pusher computes for it.
#[test]
fn the_names_are_those_that_openim_computes() -> Result<()> {
    let objects = deploy::objects("overlays/openim")?;
    let set = find(&objects, "StatefulSet", "openim-openim-msggateway")?;
    let replicas = set["spec"]["replicas"].as_u64().context("no replicas")?;
    let namespace = set["metadata"]["namespace"].as_str().context("no namespace")?;
    // Those of the fleet are in the namespace `default`.
    let names = fleet::host_names(replicas as usize);
    for (ordinal, name) in names.iter().enumerate() {
        let expected = format!("{}:88", name.replace(".default.svc.", &format!(".{namespace}.svc.")));
        for config in configurations("overlays/openim", &format!("openim-openim-msggateway-{ordinal}"))? {
            assert_eq!(config.node.identity, Identity::new(expected.clone())?);
            let Membership::Kubernetes(kubernetes) = &config.membership else { bail!("no Kubernetes") };
            assert_eq!(kubernetes.mode, KubernetesMode::OpenimStatefulset);
            assert_eq!(kubernetes.replicas.map(u64::from), Some(replicas));
            assert_eq!(set["spec"]["serviceName"], kubernetes.service);
        }
    }
    Ok(())
}
