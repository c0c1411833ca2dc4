//! `ringsteer ring show`: a ring, and what each member owns of it.

use anyhow::Result;
use clap::Parser;
use serde::Serialize;

use super::input::{Given, Origin};
use crate::{
    cli::{
        node::Node,
        output::{self, Output, Verdict, exit_codes, facts, left, percent, right, table},
    },
    ring::{Algorithm, Digest, Epoch, Member, Precision, RingDescription},
};

/// Show a ring: its name, its members, and the share of all users that each owns
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:\n  \
       ringsteer ring show                         the ring in force on this node\n  \
       ringsteer ring show previous                the one before it\n  \
       ringsteer ring show -o json > ring.json     the first again, to be kept and compared later\n  \
       ringsteer ring show gw-0:88,gw-1:88         what OpenIM makes of two hosts\n\n",
    exit_codes!()
))]
pub struct Args {
    /// The ring: `current`, `previous`, a file, `-`, or hosts separated by commas
    #[arg(default_value = "current")]
    ring: String,
    #[command(flatten)]
    node: Node,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// A ring as JSON. Whoever reads a [`RingDescription`] can read it.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    origin: Origin,
    epoch: Epoch,
    digest: Digest,
    algorithm: Algorithm,
    allow_identities_without_port: bool,
    precision: Precision,
    balance: f64,
    members: Vec<ShownMember<'a>>,
}

#[derive(Serialize)]
struct ShownMember<'a> {
    #[serde(flatten)]
    member: &'a Member,
    share: f64,
}

impl Args {
    /// Finds and prints it.
    pub async fn run(self) -> Result<Verdict> {
        let given = Given::find(&self.ring, &self.node).await?;
        let shown = Shown::of(&given);
        output::print(&match self.output {
            Output::Table => shown.text(),
            Output::Json => output::json(&shown)?,
        })?;
        Ok(Verdict::Fine)
    }
}

impl<'a> Shown<'a> {
    fn of(Given { ring, origin, name }: &'a Given) -> Self {
        let shares = ring.shares();
        let description = RingDescription::from(ring);
        Self {
            name,
            origin: *origin,
            epoch: ring.epoch(),
            digest: ring.digest(),
            algorithm: ring.algorithm(),
            allow_identities_without_port: description.allow_identities_without_port,
            precision: ring.algorithm().precision(),
            balance: ring.balance(&shares),
            members: ring
                .members()
                .iter()
                .zip(shares)
                .map(|(member, (_, share))| ShownMember { member, share })
                .collect(),
        }
    }

    fn text(&self) -> String {
        let Self { algorithm, precision, balance, .. } = self;
        let members = format!("{}, the fullest owns {balance:.2} times the mean", self.members.len());
        let algorithm = format!("{algorithm}, shares {precision}");
        let share = |member: &ShownMember<'_>| percent(member.share);
        if self.origin == Origin::Hosts {
            let rows = self.members.iter().map(|one| [one.member.identity.to_string(), share(one)]);
            return facts([("algorithm", algorithm), ("members", members)])
                + "\n"
                + &table([left("member"), right("share")], rows);
        }
        let rows = self.members.iter().map(|one| {
            let Member { number, identity, address, state } = one.member;
            [number.to_string(), identity.to_string(), address.to_string(), state.to_string(), share(one)]
        });
        facts([
            ("epoch", self.epoch.to_string()),
            ("digest", self.digest.to_string()),
            ("algorithm", algorithm),
            ("members", members),
        ]) + "\n"
            + &table([right("number"), left("member"), left("address"), left("state"), right("share")], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::ring::input, ring::fixtures};

    fn given(identities: &[&str], origin: Origin) -> Given {
        Given { ring: fixtures::ring_of(identities), origin, name: "x".into() }
    }

    #[test]
    fn people_see_who_owns_what() {
        let given = given(&["gw-0:88", "gw-1:88"], Origin::File);
        let digest = given.ring.digest();
        let expected = format!(
            "\
epoch       1
digest      {digest}
algorithm   openim, shares exact
members     2, the fullest owns 1.19 times the mean

number  member   address       state    share
     1  gw-0:88  198.51.100.1  active  40.3 %
     2  gw-1:88  198.51.100.2  active  59.7 %
"
        );
        assert_eq!(Shown::of(&given).text(), expected);
    }

    #[test]
    fn of_hosts_nothing_made_up_is_shown() {
        let text = Shown::of(&given(&["gw-0:88", "gw-1:88"], Origin::Hosts)).text();
        assert!(!text.contains("198.51.100") && !text.contains("epoch") && !text.contains("digest"), "{text}");
    }

    #[test]
    fn what_is_printed_for_scripts_is_a_ring_again() {
        for identities in [["gw-0:88", "gw-1:88"], ["gw-0", "gw-1"]] {
            let given = given(&identities, Origin::Agent);
            let json = output::json(&Shown::of(&given)).unwrap();
            let (ring, origin) = input::parse(&json).unwrap();
            assert_eq!((ring.digest(), ring.epoch()), (given.ring.digest(), given.ring.epoch()));
            assert_eq!(origin, Origin::File);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            let share = value["members"][0]["share"].as_f64().unwrap();
            assert!((share - given.ring.shares()[0].1).abs() < 1e-12, "{share}");
            assert_eq!(value["precision"], "exact");
        }
    }
}
