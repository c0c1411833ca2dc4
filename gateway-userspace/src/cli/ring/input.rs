//! A ring as the command line names it: the agent's, one in a file, or a plain list of hosts.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::{
    cli::node::{Node, Rings, Source},
    config::{Config, Overrides, parse_ring},
    ring::{
        Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, Ring, RingDescription, simulate::made_up_address,
    },
};

/// Largest text taken for a ring, in bytes: several times the largest ring.
const MAX_BYTES: u64 = 4 << 20;

/// A ring, and where it comes from.
#[derive(Clone, Debug)]
pub struct Given {
    /// The ring.
    pub ring: Ring,
    /// Where it comes from.
    pub origin: Origin,
    /// How the command line called it.
    pub name: String,
}

/// Where a ring comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The agent publishes it.
    Agent,
    /// The agent is gone; it is the one in the pinned maps, or, of the ring before, what the agent has left on disk.
    Maps,
    /// A ring file, or a configuration with a ring in it.
    File,
    /// A list of hosts: identities and nothing else. Numbers, addresses and epoch are made up.
    Hosts,
}

// === impl Origin ===

impl From<Source> for Origin {
    fn from(source: Source) -> Self {
        match source {
            Source::Agent => Self::Agent,
            Source::Maps => Self::Maps,
        }
    }
}

// === impl Given ===

impl Given {
    /// The ring that the command line calls `name`: `current` and `previous` are the agent's, `-` is read from standard
    /// input, text with a comma is a list of hosts, and everything else is a file.
    ///
    /// # Errors
    /// If there is no such ring, or it is none.
    pub async fn find(name: &str, node: &Node) -> Result<Self> {
        let (ring, origin) = match name {
            "current" => {
                let Rings { current, source, .. } = node.rings().await?;
                (current, source.into())
            }
            "previous" => {
                let Rings { previous, source, .. } = node.rings().await?;
                (previous.context("no ring before the one in force is known on this node")?, source.into())
            }
            "-" => read(io::stdin()).and_then(|text| parse(&text)).context("standard input")?,
            _ if name.contains(',') && !Path::new(name).exists() => (hosts(name)?, Origin::Hosts),
            _ => File::open(name).map_err(Into::into).and_then(read).and_then(|text| parse(&text)).with_context(
                || format!("{name} (a ring is `current`, `previous`, a file, `-`, or hosts separated by commas)"),
            )?,
        };
        Ok(Self { ring, origin, name: name.to_owned() })
    }

    /// One line about it: its name in the list of arguments, and what it is.
    pub fn summary(&self) -> String {
        let Self { ring, origin, name } = self;
        let members = ring.members().len();
        match origin {
            Origin::Hosts => format!("{name}: a list of {members} hosts"),
            Origin::Agent | Origin::Maps | Origin::File => {
                format!("{name}: epoch {}, digest {}, {members} members", ring.epoch(), ring.digest().short())
            }
        }
    }
}

fn read(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= MAX_BYTES, "more than {MAX_BYTES} bytes, which is no ring");
    Ok(text)
}

/// The ring in `text`, whichever way it is written down.
///
/// # Errors
/// If it is no ring.
pub fn parse(text: &str) -> Result<(Ring, Origin)> {
    let is_key = |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim().chars().all(is_key_character));
    if text.trim_start().starts_with('{') {
        let description: RingDescription = serde_json::from_str(text).context("not a ring in JSON")?;
        Ok((description.try_into()?, Origin::File))
    } else if text.lines().any(|line| line.trim() == "[node]") {
        let config = Config::parse(text, &Overrides::of_this_process())?;
        match config.ring() {
            Some(ring) => Ok((ring.clone(), Origin::File)),
            None => bail!("the configuration keeps its ring elsewhere, see [membership]; name that ring, or `current`"),
        }
    } else if text.lines().any(is_key) {
        Ok((parse_ring(text)?, Origin::File))
    } else {
        Ok((hosts(text)?, Origin::Hosts))
    }
}

/// Whether a key of TOML may have it.
fn is_key_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// The ring of a list of hosts, as people have them: one a line or separated by commas or spaces, with `#` comments,
/// also as a list in YAML or JSON.
fn hosts(text: &str) -> Result<Ring> {
    let listed: Vec<String> = match serde_json::from_str(text) {
        Ok(listed) => listed,
        Err(_) => text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default())
            .flat_map(|line| line.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\'')))
            .filter(|word| !word.is_empty() && *word != "-")
            .map(str::to_owned)
            .collect(),
    };
    let members = (1..).zip(listed).map(|(number, host)| {
        let number = MemberNumber::try_from(number)?;
        let identity = Identity::port_optional(host)?;
        Ok(Member { number, identity, address: made_up_address(number), state: MemberState::Active })
    });
    let members = members.collect::<Result<Vec<_>>>().context("the list of hosts")?;
    Ring::new(Epoch(0), Algorithm::OpenIm, members).context("the list of hosts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    #[track_caller]
    fn assert_hosts(text: &str, expected: &[&str]) {
        let (ring, origin) = parse(text).unwrap();
        let identities: Vec<_> = ring.members().iter().map(|member| member.identity.as_str()).collect();
        assert_eq!((identities.as_slice(), origin), (expected, Origin::Hosts));
        assert_eq!(ring.points(), fixtures::ring_of(expected).points());
    }

    #[test]
    fn hosts_are_listed_in_many_ways() {
        assert_hosts("gw-0:88\ngw-1:88\n", &["gw-0:88", "gw-1:88"]);
        assert_hosts("# ours\r\ngw-0 # first\r\n\r\n  gw-1\r\n", &["gw-0", "gw-1"]);
        assert_hosts("gw-0:88,gw-1:88, gw-2:88", &["gw-0:88", "gw-1:88", "gw-2:88"]);
        assert_hosts("- gw-0:88\n- \"gw-1:88\"\n", &["gw-0:88", "gw-1:88"]);
        assert_hosts("[\"gw-0:88\", \"gw-1:88\"]", &["gw-0:88", "gw-1:88"]);
        assert_hosts("[2001:db8::1]:88\n[2001:db8::2]:88\n", &["[2001:db8::1]:88", "[2001:db8::2]:88"]);
    }

    const TABLE: &str = r#"
[ring]
epoch = 7

[[ring.members]]
number = 3
identity = "gw-0:88"
address = "198.51.100.1"
"#;

    #[test]
    fn rings_are_written_down_in_several_ways() {
        let (from_table, origin) = parse(TABLE).unwrap();
        assert_eq!((from_table.epoch(), origin), (Epoch(7), Origin::File));
        let json = serde_json::to_string(&RingDescription::from(&from_table)).unwrap();
        assert_eq!(parse(&json).unwrap().0.digest(), from_table.digest());
        let node = "[node]\nname = \"node-1\"\nidentity = \"gw-0:88\"\ninterfaces = [\"eth0\"]\n\
                    [secrets]\ncurrent = \"000102030405060708090a0b0c0d0e0f\"\n";
        assert_eq!(parse(&format!("{node}{TABLE}")).unwrap().0.digest(), from_table.digest());
    }

    #[test]
    fn what_is_no_ring_is_told_why() {
        let told = |text: &str| format!("{:#}", parse(text).unwrap_err());
        assert_eq!(told(""), "the list of hosts: the ring has no members; list at least this node");
        assert_eq!(told("# nobody\n"), "the list of hosts: the ring has no members; list at least this node");
        assert_eq!(
            told("gw-0:88\ngw-1:88\ngw-0:88\n"),
            "the list of hosts: members 1 and 3 both have the identity gw-0:88, so one of them would own nothing; correct \
             or remove one"
        );
        assert_eq!(
            told(&TABLE.replace("gw-0:88", "gw-0")),
            "line 7: the identity \"gw-0\" has no port: OpenIM's pushers hash `name:port`, so they would compute another \
             ring; append the port (`:88` by default), or set `allow_identities_without_port = true` if no such pusher \
             exists"
        );
        assert_eq!(told("{}"), "not a ring in JSON: missing field `epoch` at line 1 column 2");
        assert_eq!(told("{\"epoch\":1,\"members\":[]}"), "the ring has no members; list at least this node");
    }
}
