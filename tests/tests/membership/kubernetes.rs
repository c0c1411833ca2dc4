//! In Kubernetes.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use ringsteer::ring::{Ring, RingDescription};
use ringsteer_api_server::{ApiServer, Resource};
use ringsteer_tests::{
    fleet::host_names,
    lab::{Family, Host, Lab},
};
use serde_json::{Value, json};

use crate::Store;

/// Where the API server listens.
const PORT: u16 = 8080;

const NAMESPACE: &str = "im";
const SERVICE: &str = "ringsteer-members";
const RING: &str = "ringsteer-ring";
const SLICE: &str = "ringsteer-members-x7k2p";

/// An API server on the store host.
pub struct InKubernetes {
    server: Arc<ApiServer>,
    family: Family,
    /// How the agents find it, as a file.
    kubeconfig: PathBuf,
}

/// Runs something with the server on the store host, whose sockets and tasks then are that host's.
fn on_host<T: Send + 'static>(host: &Host, task: impl Future<Output = T> + Send + 'static) -> Result<T> {
    Ok(host.block_on(host.spawn(task)?)?)
}

impl Store for InKubernetes {
    fn start(lab: &Lab, family: Family) -> Result<Self> {
        let host = lab.store(0);
        let address = (host.address(family), PORT).into();
        let server = on_host(host, ApiServer::start_on(address))?.context("starting the API server")?;
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
        let empty = |name: &str| json!({"metadata": {"name": name}});
        server.create(Resource::ConfigMaps, NAMESPACE, empty(RING)).map_err(wrong)?;
        server.create(Resource::EndpointSlices, NAMESPACE, slice(family, &[])).map_err(wrong)?;
        let kubeconfig = host.run_dir().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": format!("http://{}", server.address())}}],
            "users": [{"name": "agent", "user": {}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "agent", "namespace": NAMESPACE}}],
            "current-context": "lab",
        });
        fs::write(&kubeconfig, text.to_string())?;
        Ok(Self { server: Arc::new(server), family, kubeconfig })
    }

    fn membership(&self) -> String {
        format!(
            "[membership]\nsource = \"kubernetes\"\nmode = \"nodes\"\nservice = \"{SERVICE}\"\nport = 88\n\
             config_map = \"{RING}\"\ngrace_s = 1\n"
        )
    }

    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("KUBECONFIG", self.kubeconfig.clone())]
    }

    fn set_nodes(&self, lab: &Lab, nodes: &[usize]) -> Result<()> {
        let names = host_names(lab.nodes().len());
        let endpoint = |&node: &usize| {
            json!({
                "addresses": [lab.node(node).address(self.family)],
                "nodeName": names[node],
                "targetRef": {"kind": "Pod", "name": format!("ringsteer-{node}")},
                "conditions": {"ready": true, "serving": true, "terminating": false},
            })
        };
        let endpoints: Vec<_> = nodes.iter().map(endpoint).collect();
        self.server.replace(Resource::EndpointSlices, NAMESPACE, slice(self.family, &endpoints)).map_err(wrong)?;
        Ok(())
    }

    fn ring(&self, _: &Lab) -> Result<Ring> {
        let object = self.server.get(Resource::ConfigMaps, NAMESPACE, RING).context("there is no ring object")?;
        let text = object["data"]["ring"].as_str().context("the ring object holds no ring")?;
        Ok(serde_json::from_str::<RingDescription>(text)?.try_into()?)
    }

    fn stop(&self) -> Result<()> {
        self.server.stop();
        Ok(())
    }

    fn resume(&self, lab: &Lab) -> Result<()> {
        let server = Arc::clone(&self.server);
        Ok(on_host(lab.store(0), async move { server.resume() })??)
    }
}

fn slice(family: Family, endpoints: &[Value]) -> Value {
    let address_type = match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    json!({
        "metadata": {"name": SLICE, "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": address_type,
        "endpoints": endpoints,
        "ports": [],
    })
}

fn wrong(error: ringsteer_api_server::StoreError) -> anyhow::Error {
    anyhow::anyhow!("the API server: {error:?}")
}
