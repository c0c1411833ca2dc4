//! `ringsteer ring check`: whether a file holds a ring, before a fleet is given it.

use anyhow::{Result, bail};
use clap::Parser;
use serde::Serialize;

use super::input::{Given, Origin};
use crate::{
    cli::{
        node::Node,
        output::{self, Output, Verdict, count, exit_codes},
    },
    ring::{Algorithm, Digest, Epoch, Ring},
};

/// Check that a file holds a ring, and say in a few words which
///
/// Says what is wrong and how to mend it, and then ends with exit code 1. Asks no agent and changes nothing.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer ring check ring.toml && mv ring.toml /etc/ringsteer/ring.toml\n  \
       kubectl get configmap ring -o jsonpath='{.data.ring\\.toml}' | ringsteer ring check -\n\n",
    exit_codes!()
))]
pub struct Args {
    /// A ring file, a configuration with a ring in it, a list of hosts, or `-` for standard input
    #[arg(value_name = "FILE")]
    file: String,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What is said of a good one, as JSON.
#[derive(Serialize)]
struct Checked {
    epoch: Epoch,
    digest: Digest,
    algorithm: Algorithm,
    members: usize,
    balance: f64,
    identities_without_port: usize,
}

impl Args {
    /// Reads and judges it.
    pub async fn run(self) -> Result<Verdict> {
        let given = Given::find(&self.file, &self.node).await?;
        if matches!(given.origin, Origin::Agent | Origin::Maps) {
            bail!(
                "what is or was in force has been checked already; name a file (for one called `current`, `./current`)"
            );
        }
        let checked = Checked::of(&given.ring);
        output::print(&match self.output {
            Output::Table => checked.text(&given),
            Output::Json => output::json(&checked)?,
        })?;
        Ok(Verdict::Fine)
    }
}

impl Checked {
    fn of(ring: &Ring) -> Self {
        Self {
            epoch: ring.epoch(),
            digest: ring.digest(),
            algorithm: ring.algorithm(),
            members: ring.members().len(),
            balance: ring.balance(&ring.shares()),
            identities_without_port: ring.members().iter().filter(|one| one.identity.port().is_none()).count(),
        }
    }

    fn text(&self, given: &Given) -> String {
        let Self { algorithm, balance, .. } = self;
        let mut text = given.summary() + "\n";
        text += &format!("{algorithm}; the fullest member owns {balance:.2} times the mean\n");
        if self.identities_without_port > 0 {
            let bare = count(self.identities_without_port, "member");
            text += &format!("note: {bare} without a port: pushers must hash the same bare name\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    #[test]
    fn bare_names_are_pointed_out() {
        let of = |ring: Ring| {
            let given = Given { ring, origin: Origin::Hosts, name: "hosts.txt".into() };
            Checked::of(&given.ring).text(&given)
        };
        assert_eq!(
            of(fixtures::ring_of(&["gw-0:88", "gw-1"])),
            "hosts.txt: a list of 2 hosts\n\
             openim; the fullest member owns 1.19 times the mean\n\
             note: 1 member without a port: pushers must hash the same bare name\n"
        );
        assert!(!of(fixtures::ring_of(&["gw-0:88", "gw-1:88"])).contains("note"));
    }
}
