//! Every object has the shape that Kubernetes gives it, and no field that Kubernetes does not know.
//!
//! Two accounts of that shape: the types of k8s-openapi, made from the API's OpenAPI description, and the JSON schemas
//! that `kubernetes-validate` carries.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount},
    policy::v1::PodDisruptionBudget,
    rbac::v1::{Role, RoleBinding},
};
use ringsteer_tests::deploy::{self, KUSTOMIZATIONS};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Through the type and back: what the type does not know is lost on the way, and shows.
fn fits<T: Serialize + DeserializeOwned>(object: &Value) -> Result<()> {
    let typed: T = serde_json::from_value(object.clone())?;
    let back = serde_json::to_value(&typed)?;
    if let Some(path) = difference(object, &back) {
        bail!("Kubernetes does not know {path}");
    }
    Ok(())
}

/// Where two values differ, as a path.
fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().chain(b.keys()).find_map(|key| match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => difference(a, b).map(|rest| format!(".{key}{rest}")),
                _ => Some(format!(".{key}")),
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => (a.iter().zip(b).enumerate())
            .find_map(|(index, (a, b))| difference(a, b).map(|rest| format!("[{index}]{rest}"))),
        _ => (one != other).then(|| format!(" = {one}")),
    }
}

/// Checks an object by its type.
fn check(object: &Value) -> Result<()> {
    let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    match (version.context("no apiVersion")?, kind.context("no kind")?) {
        ("v1", "Namespace") => fits::<Namespace>(object),
        ("v1", "ServiceAccount") => fits::<ServiceAccount>(object),
        ("v1", "ConfigMap") => fits::<ConfigMap>(object),
        ("v1", "Secret") => fits::<Secret>(object),
        ("v1", "Service") => fits::<Service>(object),
        ("apps/v1", "DaemonSet") => fits::<DaemonSet>(object),
        ("apps/v1", "Deployment") => fits::<Deployment>(object),
        ("apps/v1", "StatefulSet") => fits::<StatefulSet>(object),
        ("policy/v1", "PodDisruptionBudget") => fits::<PodDisruptionBudget>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => fits::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => fits::<RoleBinding>(object),
        (version, kind) => bail!("no type is known here for {version} {kind}"),
    }
}

#[test]
fn every_object_fits_its_type() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        ensure!(objects.len() >= 8, "{kustomization} has only {} objects", objects.len());
        for object in &objects {
            check(object)
                .with_context(|| format!("{kustomization}: {} {}", object["kind"], object["metadata"]["name"]))?;
        }
    }
    Ok(())
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() -> Result<()> {
    let objects = deploy::objects("base")?;
    let good = deploy::find(&objects, "DaemonSet", "ringsteer-node")?;
    let broken = |pointer: &str, key: &str, value: Value| {
        let mut object = good.clone();
        object.pointer_mut(pointer).expect("the place exists")[key] = value;
        check(&object).expect_err(key).to_string()
    };
    let said = broken("/spec/template/spec", "hostNetworks", true.into());
    ensure!(said.contains(".spec.template.spec.hostNetworks"), "{said}");
    let said = broken("/spec/template/spec/containers/0/securityContext", "readonlyRootFilesystem", true.into());
    ensure!(said.contains("containers[0].securityContext.readonlyRootFilesystem"), "{said}");
    let said = broken("/spec/template/spec", "hostNetwork", "yes".into());
    ensure!(said.contains("invalid type"), "{said}");
    Ok(())
}

/// The validator that `cargo xtask test` provides.
fn validator() -> Result<PathBuf> {
    let path = std::env::var_os("RINGSTEER_KUBERNETES_VALIDATE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kubernetes-validate/bin/kubernetes-validate"),
        PathBuf::from,
    );
    ensure!(path.exists(), "there is no {}: run this through `cargo xtask test`, which installs it", path.display());
    Ok(path)
}

fn validate(text: &str) -> Result<Output> {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    file.write_all(text.as_bytes())?;
    let mut command = Command::new(validator()?);
    command.args(["--strict", "--kubernetes-version", "1.33"]).arg(file.path());
    command.output().context("cannot run kubernetes-validate")
}

#[test]
fn every_object_fits_its_json_schema() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let text = deploy::build(kustomization)?;
        let output = validate(&text)?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{kustomization}: {said}");
        let passed = said.matches(" passed for resource ").count();
        let objects = deploy::documents(&text)?.len();
        ensure!(passed == objects, "{kustomization}: {passed} of {objects} objects were checked: {said}");
    }
    Ok(())
}

#[test]
fn the_json_schemas_find_mistakes_too() -> Result<()> {
    let good = deploy::build("base")?;
    for (from, to) in [("hostNetwork: true", "hostNetworks: true"), ("periodSeconds: 2", "periodSeconds: two")] {
        ensure!(good.contains(from), "the manifests have no {from}");
        let output = validate(&good.replacen(from, to, 1))?;
        ensure!(!output.status.success(), "{to} was not found");
    }
    Ok(())
}
