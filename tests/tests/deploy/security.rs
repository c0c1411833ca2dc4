//! Who may do what. That the lists of capabilities suffice, and that none of them can go, is shown by
//! `tests/capabilities.rs` on the running programs.

use anyhow::{Context as _, Result, ensure};
use ringsteer::config::{Config, Overrides, read_token};
use ringsteer_tests::deploy::{self, KUSTOMIZATIONS, containers, find, pods};
use serde_json::{Value, json};

#[test]
fn the_roles_have_their_capabilities_and_no_other() -> Result<()> {
    assert_eq!(deploy::capabilities("agent")?, ["BPF", "NET_ADMIN"]);
    assert_eq!(deploy::capabilities("gateway")?, ["NET_ADMIN"]);
    assert_eq!(deploy::capabilities("load")?, ["BPF", "NET_ADMIN", "PERFMON"]);
    Ok(())
}

#[test]
fn every_container_is_confined() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        for (holder, pod) in pods(&objects) {
            ensure!(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", "{holder}: seccomp");
            ensure!(pod["automountServiceAccountToken"] == false, "{holder} mounts a token everywhere");
            for container in containers(pod) {
                let name = container["name"].as_str().context("a container without a name")?;
                let place = || format!("{kustomization}: {holder}: {name}");
                let context = &container["securityContext"];
                ensure!(context["readOnlyRootFilesystem"] == true, "{}: the root can be written", place());
                // Said, because the image's own user is nobody: root where it takes capabilities or the agent's socket.
                let is_nobody = pod["securityContext"]["runAsNonRoot"] == true && context["runAsUser"].is_null();
                ensure!(is_nobody == (name == "msg") && (is_nobody || context["runAsUser"] == 0), "{}: user", place());
                let adds = context["capabilities"]["add"].as_array();
                ensure!(pod["hostNetwork"] == true || adds.is_none(), "{}: capabilities", place());
                ensure!(container["resources"]["limits"]["memory"].is_string(), "{}: no limit", place());
                ensure!(container["resources"]["requests"]["cpu"].is_string(), "{}: no request", place());
                if context["privileged"] == true {
                    ensure!(name == "prepare", "{}: privileged", place());
                    continue;
                }
                ensure!(context["allowPrivilegeEscalation"] == false, "{}: may gain rights", place());
                ensure!(context["capabilities"]["drop"] == json!(["ALL"]), "{}: keeps capabilities", place());
                for mount in container["volumeMounts"].as_array().into_iter().flatten() {
                    // The API server admits it for privileged containers only.
                    ensure!(mount["mountPropagation"] != "Bidirectional", "{}: mounts for the host", place());
                }
            }
            ensure!(
                pod["containers"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .all(|one| one["securityContext"]["privileged"] != true),
                "{holder} has a privileged container that stays"
            );
        }
    }
    Ok(())
}

#[test]
fn the_secret_is_the_nodes_and_the_token_the_agents_alone() -> Result<()> {
    let objects = deploy::objects("base")?;
    let pod = &find(&objects, "DaemonSet", "ringsteer-node")?["spec"]["template"]["spec"];
    for container in containers(pod) {
        let mounts: Vec<&str> =
            container["volumeMounts"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
        for (volume, trusted) in [("secret", &["agent", "gateway"][..]), ("token", &["agent"])] {
            let name = container["name"].as_str().context("a container without a name")?;
            ensure!(mounts.contains(&volume) == trusted.contains(&name), "{name}: {volume}");
        }
    }
    Ok(())
}

#[test]
fn the_agents_may_follow_endpoints_and_keep_one_object() -> Result<()> {
    for kustomization in KUSTOMIZATIONS {
        let objects = deploy::objects(kustomization)?;
        let expected = json!([
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": ["ringsteer-ring"],
                "verbs": ["get", "list", "watch", "update"]
            },
        ]);
        assert_eq!(find(&objects, "Role", "ringsteer")?["rules"], expected, "{kustomization}");
        let binding = find(&objects, "RoleBinding", "ringsteer")?;
        assert_eq!(binding["roleRef"]["name"], "ringsteer");
        let account = find(&objects, "ServiceAccount", "ringsteer")?;
        assert_eq!(binding["subjects"][0]["namespace"], account["metadata"]["namespace"], "{kustomization}");
        ensure!(!objects.iter().any(|one| one["kind"].as_str().is_some_and(|kind| kind.starts_with("Cluster"))));
    }
    Ok(())
}

/// Who applies the manifests as they are gets an agent that refuses, not one whose secret everybody knows.
#[test]
fn the_secret_in_the_manifests_is_none() -> Result<()> {
    let objects = deploy::objects("base")?;
    let secret = &find(&objects, "Secret", "ringsteer")?["stringData"]["current"];
    let text = secret.as_str().context("there is no secret")?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let config = format!(
        "[node]\nname = \"n\"\nidentity = \"n:88\"\ninterfaces = [\"eth0\"]\n\
         [secrets]\ncurrent_file = {:?}\n[ring]\nepoch = 1\n\
         [[ring.members]]\nnumber = 1\nidentity = \"n:88\"\naddress = \"198.51.100.11\"\n",
        file.path()
    );
    let error = Config::parse(&config, &Overrides::default())?.secrets().expect_err("a secret was taken").to_string();
    ensure!(error.contains("32 hexadecimal digits"), "{error}");

    let token = find(&objects, "Secret", "ringsteer")?["stringData"]["push-token"].clone();
    std::fs::write(file.path(), token.as_str().context("there is no token")?)?;
    let push = format!("[push]\ntoken_file = {:?}\n[ring]", file.path());
    let config = config.replace("[ring]", &push);
    let error =
        Config::parse(&config, &Overrides::default())?.push.tokens().expect_err("a token was taken").to_string();
    ensure!(error.contains("a token for pushing is"), "{error}");

    for kustomization in ["overlays/openim", "overlays/whole"] {
        let objects = deploy::objects(kustomization)?;
        let secret = find(&objects, "Secret", "ringsteer")?["stringData"]["token-secret"].clone();
        std::fs::write(file.path(), secret.as_str().context("there is no token secret")?)?;
        let openim = format!("[openim]\ntoken_secret_files = [{:?}]\n[ring]", file.path());
        let openim = Config::parse(&config.replace("[ring]", &openim), &Overrides::default())?.openim;
        ensure!(openim.context("no OpenIM")?.keys().is_err(), "{kustomization}: anybody can sign tokens");
    }
    let objects = deploy::objects("overlays/whole")?;
    let token = find(&objects, "Secret", "ringsteer")?["stringData"]["msg-token"].clone();
    std::fs::write(file.path(), token.as_str().context("there is no token")?)?;
    ensure!(read_token(file.path()).is_err(), "everybody knows the message service's token");
    Ok(())
}

/// Only what must differ differs.
#[test]
fn the_overlays_run_the_containers_of_the_base() -> Result<()> {
    let pod = |kustomization: &str, kind: &str, name: &str| -> Result<Value> {
        let objects = deploy::objects(kustomization)?;
        let mut pod = find(&objects, kind, name)?["spec"]["template"]["spec"].clone();
        for list in ["initContainers", "containers"] {
            for container in pod[list].as_array_mut().into_iter().flatten() {
                container["env"].take();
            }
        }
        Ok(pod)
    };
    let base = pod("base", "DaemonSet", "ringsteer-node")?;
    let openim = pod("overlays/openim", "StatefulSet", "openim-openim-msggateway")?;
    let steer_only = pod("overlays/steer-only", "DaemonSet", "ringsteer-node")?;
    assert_eq!(openim["initContainers"], base["initContainers"]);
    // The gateway is called by OpenIM's pushers at a port below 1024.
    let mut called = base["containers"].clone();
    let gateway = called.as_array_mut().and_then(|all| all.iter_mut().find(|one| one["name"] == "gateway"));
    let gateway = gateway.context("no gateway")?;
    let add = |list: &mut Value, value| list.as_array_mut().context("no list").map(|list| list.push(value));
    add(&mut gateway["ports"], json!({"name": "openim-push", "containerPort": 88}))?;
    add(&mut gateway["securityContext"]["capabilities"]["add"], json!("NET_BIND_SERVICE"))?;
    assert_eq!(openim["containers"], called);
    let whole = pod("overlays/whole", "DaemonSet", "ringsteer-node")?;
    assert_eq!((&whole["initContainers"], &whole["containers"]), (&base["initContainers"], &base["containers"]));
    assert_eq!(steer_only["initContainers"], base["initContainers"]);
    assert_eq!(steer_only["containers"][0], base["containers"][0]);
    assert_eq!(steer_only["containers"].as_array().map(Vec::len), Some(1), "steer-only has a gateway");
    Ok(())
}
