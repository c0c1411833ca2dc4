//! Clients whose TCP leaves something away, or is told to do something unusual.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::{
    lab::Host,
    probe::{Options, Probe},
};

/// How many tempers [`all_talk`] tries.
pub const COUNT: usize = 6;

/// So many users of each temper connect from a host, one after the other, and talk.
///
/// # Errors
/// If one of them is not let in or does not hear what it said; the message names the temper.
pub fn all_talk(client: &Host, address: SocketAddr, users: usize) -> Result<()> {
    talk(client, address, users, Options::default(), "plain")?;
    talk(client, address, users, Options { mss: Some(536), ..Options::default() }, "small-mss")?;
    for (name, off) in [("tcp_timestamps", "0"), ("tcp_window_scaling", "0"), ("tcp_sack", "0"), ("tcp_ecn", "1")] {
        let path = format!("net/ipv4/{name}");
        let before = client.command("sysctl", &["-n", &path])?;
        client.set_sysctl(&path, off)?;
        talk(client, address, users, Options::default(), name).with_context(|| format!("{name} = {off}"))?;
        client.set_sysctl(&path, before.trim())?;
    }
    Ok(())
}

fn talk(client: &Host, address: SocketAddr, users: usize, options: Options, tag: &str) -> Result<()> {
    client.run(|| {
        for index in 0..users {
            let user = format!("{tag}-{index}");
            let mut probe = Probe::open(address, &user, options)?;
            // Small, and large enough to need window scaling and many segments.
            for length in [1, 100, 20_000, 51_000] {
                probe.echo(length).with_context(|| format!("{user}, {length} bytes"))?;
            }
        }
        Ok(())
    })
}
