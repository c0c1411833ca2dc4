//! In etcd.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use etcd_client::{Client, ConnectOptions};
use ringsteer::ring::{Ring, RingDescription};
use ringsteer_tests::lab::{Etcd, Family, Lab};

use crate::Store;

/// What an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A real etcd.
pub struct InEtcd {
    etcd: Etcd,
    family: Family,
}

impl Store for InEtcd {
    fn start(lab: &Lab, family: Family) -> Result<Self> {
        Ok(Self { etcd: Etcd::start(lab.store(0))?, family })
    }

    fn membership(&self) -> String {
        let endpoint = self.etcd.endpoint(self.family);
        // A lease that a busy machine does not lose.
        format!("[membership]\nsource = \"etcd\"\nendpoints = [\"{endpoint}\"]\nlease_ttl_s = 4\ngrace_s = 2\n")
    }

    fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        Vec::new()
    }

    /// The nodes announce themselves, and what is dead loses its lease.
    fn set_nodes(&self, _: &Lab, _: &[usize]) -> Result<()> {
        Ok(())
    }

    fn ring(&self, lab: &Lab) -> Result<Ring> {
        lab.router().block_on(async {
            let options = ConnectOptions::new().with_connect_timeout(LIMIT).with_timeout(LIMIT);
            let mut client = Client::connect([self.etcd.endpoint(self.family)], Some(options)).await?;
            let answer = client.get("/ringsteer/ring", None).await?;
            let object = answer.kvs().first().context("there is no ring object")?;
            Ok(serde_json::from_slice::<RingDescription>(object.value())?.try_into()?)
        })
    }

    fn stop(&self) -> Result<()> {
        self.etcd.kill().map(drop)
    }

    fn resume(&self, _: &Lab) -> Result<()> {
        self.etcd.restart()
    }
}
