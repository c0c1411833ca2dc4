//! The manifests of `deploy/`, as kustomize builds them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// What there is to apply: the base, and the overlays.
pub const KUSTOMIZATIONS: [&str; 4] = ["base", "overlays/openim", "overlays/steer-only", "overlays/whole"];

/// The directory with the manifests.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// What kustomize makes of a directory below `deploy/`: a stream of YAML documents.
///
/// # Errors
/// If neither `kustomize` nor `kubectl` is there, or it fails.
pub fn build(kustomization: &str) -> Result<String> {
    let path = directory().join(kustomization);
    for (program, arguments) in [("kustomize", &["build"][..]), ("kubectl", &["kustomize"][..])] {
        match Command::new(program).args(arguments).arg(&path).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot run {program}")),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "{program} cannot build {kustomization}: {said}");
                // Nothing outdated either: it warns of that.
                ensure!(said.is_empty(), "{program} complains about {kustomization}: {said}");
                return Ok(String::from_utf8(output.stdout)?);
            }
        }
    }
    bail!("neither `kustomize` nor `kubectl` is installed (Debian: kubernetes-client)")
}

/// The objects that kustomize makes of a directory below `deploy/`.
///
/// # Errors
/// As [`build`], or if that is no YAML.
pub fn objects(kustomization: &str) -> Result<Vec<Value>> {
    documents(&build(kustomization)?).with_context(|| kustomization.to_owned())
}

/// The documents of a stream of YAML.
///
/// # Errors
/// If it is no YAML.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(text)?)
}

/// The object of that kind and name.
///
/// # Errors
/// If there is none.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    objects
        .iter()
        .find(|one| one["kind"] == kind && one["metadata"]["name"] == name)
        .with_context(|| format!("there is no {kind} {name}"))
}

/// The pod specifications among these objects, with the names of what holds them.
pub fn pods(objects: &[Value]) -> Vec<(&str, &Value)> {
    let mut pods = Vec::new();
    for object in objects {
        let spec = object["spec"]["template"].get("spec");
        pods.extend(object["metadata"]["name"].as_str().zip(spec));
    }
    pods
}

/// Those of them that are a node of the fleet, and not a service beside it.
pub fn nodes(objects: &[Value]) -> Vec<(&str, &Value)> {
    pods(objects).into_iter().filter(|(_, pod)| pod["hostNetwork"] == true).collect()
}

/// The containers of a pod, those that run first included.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().filter_map(|key| pod[key].as_array()).flatten()
}

/// The capabilities that the manifests give to a container of the node's pod, as Kubernetes writes them: `NET_ADMIN`.
///
/// # Errors
/// If there is no such container, or it is not made to drop all others.
pub fn capabilities(container: &str) -> Result<Vec<String>> {
    let objects = objects("base")?;
    let pod = &find(&objects, "DaemonSet", "ringsteer-node")?["spec"]["template"]["spec"];
    let found = containers(pod).find(|one| one["name"] == container);
    let set = &found.with_context(|| format!("there is no container {container}"))?["securityContext"]["capabilities"];
    ensure!(set["drop"] == serde_json::json!(["ALL"]), "{container} keeps capabilities: {set}");
    serde_json::from_value(set["add"].clone()).with_context(|| format!("the capabilities of {container}: {set}"))
}
