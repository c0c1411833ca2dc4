//! `ringsteer prepare`: makes a host ready to be a node.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use tracing::info;

use crate::{
    config::{self, Config},
    dataplane::mount_bpf_file_system,
    doctor::preflight,
};

/// Make this host ready to be a node: BPF file system, settings, virtual addresses
///
/// Mounts a BPF file system above the pin directory where there is none, turns on the settings that the programs need,
/// keeps ARP silent about the virtual addresses, and puts those of the configuration's services on `lo`. Needs root.
///
/// Meant for what runs once at boot, such as an init container or a oneshot unit. Running it again changes nothing.
/// Nothing of it is undone by `ringsteer uninstall`.
#[derive(Debug, Parser)]
pub struct Prepare {
    /// The node's configuration file
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

impl Prepare {
    /// Does what is left to do, and returns.
    ///
    /// # Errors
    /// Says what could not be done.
    pub async fn run(self) -> Result<()> {
        let config = Config::load(&self.config)?;
        if let Some(mounted) = mount_bpf_file_system(&config.node.pin_dir)? {
            info!("mounted a BPF file system on {}", mounted.display());
        }
        preflight::check(&config)?;
        preflight::forwarding(&config, address(&config)?)?;
        // Every node has the virtual addresses, and none may answer for them: who gets their packets is for the
        // network's routes to say. Before the addresses, so that no question is ever answered.
        preflight::silence_arp()?;
        for service in &config.services {
            put_on_lo(service.address.ip()).await?;
        }
        info!("this host is ready to be a node");
        Ok(())
    }
}

/// Where this node is, by its configuration.
fn address(config: &Config) -> Result<IpAddr> {
    let listed = || config.ring()?.members().iter().find(|member| member.identity == config.node.identity);
    let address = config.node.address.or_else(|| listed().map(|member| member.address));
    address.map(|address| address.ip()).context("set `node.address` to this node's own address")
}

/// Gives this host the address, on `lo` and alone in its network.
async fn put_on_lo(address: IpAddr) -> Result<()> {
    let lo = nix::net::if_::if_nametoindex("lo").context("this host has no interface `lo`")?;
    let (connection, handle, _) = rtnetlink::new_connection().context("cannot talk to the kernel by netlink")?;
    let connection = tokio::spawn(connection);
    let length = if address.is_ipv4() { 32 } else { 128 };
    let added = handle.address().add(lo, address, length).execute().await;
    connection.abort();
    match added {
        Ok(()) => {
            info!("put the virtual address {address} on lo");
            Ok(())
        }
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => Ok(()),
        Err(error) => Err(error)
            .with_context(|| format!("cannot put the virtual address {address} on lo; `ringsteer prepare` needs root")),
    }
}
