//! What the numbers of nodes mean, where a table shows them or the command line names a node.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::{node::Node, pinned::Pinned, ring::Labels};
use crate::{control, ring::Identity};

/// Names of nodes by their numbers.
pub struct Names {
    names: BTreeMap<u32, String>,
    labels: Labels,
}

impl Names {
    /// Those of the members of the ring in force and, where the agent answers, of the ring before: flows may name them still.
    ///
    /// # Errors
    /// If nobody can tell.
    pub async fn of(node: &Node) -> Result<Self> {
        let question = async |socket: &std::path::Path| {
            let control::Rings { current, previous } = control::ring(socket).await?;
            // Of a number in both rings, the ring in force says whose it is.
            let members = [previous, current].into_iter().flatten().flat_map(|one| one.ring.members);
            Ok(members.map(|member| (u32::from(member.number.get()), member.identity)).collect())
        };
        let read = |pinned: &Pinned| Ok(pinned.nodes()?.into_iter().map(|node| (node.number, node.identity)).collect());
        Ok(Self::new(node.ask_or_read(question, read).await?.0))
    }

    fn new(names: BTreeMap<u32, String>) -> Self {
        let identities: Vec<_> =
            names.values().filter_map(|name| Identity::port_optional(name.as_str()).ok()).collect();
        let labels = Labels::of([identities.iter()]);
        Self { names, labels }
    }

    /// The identity of the node of this number, if it has a name.
    pub fn identity(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }

    /// Its number and, if it has a name, as much of that as tells it from the others.
    pub fn label(&self, number: u32) -> String {
        match self.identity(number) {
            Some(name) => match Identity::port_optional(name) {
                Ok(identity) => format!("{number} {}", self.labels.label(&identity)),
                Err(_) => format!("{number} {name}"),
            },
            None => number.to_string(),
        }
    }

    /// The number of the node that the command line calls `name`: by its number, its identity, or that without the port.
    ///
    /// # Errors
    /// If there is none, or several.
    pub fn find(&self, name: &str) -> Result<u32> {
        if let Ok(number) = name.parse() {
            // One without a name may be all that is left of a node: its flows.
            return Ok(number);
        }
        if let Some((&number, _)) = self.names.iter().find(|(_, identity)| *identity == name) {
            return Ok(number);
        }
        let without_port = |identity: &str| identity.rsplit_once(':').is_some_and(|(bare, _)| bare == name);
        let mut alike = self.names.iter().filter(|(_, identity)| without_port(identity));
        match (alike.next(), alike.next()) {
            (Some((&number, _)), None) => Ok(number),
            (None, _) => bail!("there is no node {name}; `ringsteer nodes` lists them as they are spelled"),
            (Some(_), Some(_)) => {
                bail!("there are several nodes {name}, told apart by their ports; name one with its port")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_in_three_ways() {
        let names = [(1, "gw-0.a.example:88"), (2, "gw-1.a.example:88"), (3, "gw-1.a.example:89"), (4, "bare")];
        let names = Names::new(names.map(|(number, name)| (number, name.to_owned())).into());
        for (name, expected) in [("3", 3), ("gw-1.a.example:89", 3), ("gw-0.a.example", 1), ("bare", 4), ("77", 77)] {
            assert_eq!(names.find(name).unwrap(), expected, "{name}");
        }
        assert!(names.find("gw-9").unwrap_err().to_string().contains("no node gw-9"));
        assert!(names.find("gw-1.a.example").unwrap_err().to_string().contains("several"));
        assert_eq!(names.label(1), "1 gw-0");
        assert_eq!(names.label(3), "3 gw-1.a.example:89");
        assert_eq!(names.label(77), "77");
    }
}
