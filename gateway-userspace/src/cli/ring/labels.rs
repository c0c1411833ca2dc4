//! Short names for members, where two stand in a line: names in a cluster are long and alike behind the first dot.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use crate::ring::{Identity, Ring};

/// What members are called in a table.
pub struct Labels(HashSet<Identity>);

impl Labels {
    /// For the members of these rings.
    pub fn of_rings(rings: [&Ring; 2]) -> Self {
        Self::of(rings.map(|ring| ring.members().iter().map(|member| &member.identity)))
    }

    /// For the members in these lists.
    pub fn of<'a, L: IntoIterator<Item = &'a Identity>>(lists: impl IntoIterator<Item = L>) -> Self {
        let mut long = HashSet::new();
        for list in lists {
            let mut by_label: HashMap<&str, Vec<&Identity>> = HashMap::new();
            for identity in list {
                by_label.entry(first_label(identity)).or_default().push(identity);
            }
            long.extend(by_label.into_values().filter(|alike| alike.len() > 1).flatten().cloned());
        }
        Self(long)
    }

    /// The first label of the member's name, if no other member in its list has the same; else all of the identity.
    pub fn label<'a>(&self, identity: &'a Identity) -> &'a str {
        if self.0.contains(identity) { identity.as_str() } else { first_label(identity) }
    }
}

fn first_label(identity: &Identity) -> &str {
    let name = identity.name();
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    match name.split_once('.') {
        Some((label, _)) if !is_address && !label.is_empty() => label,
        // Already short, and the port may be all that tells it from another.
        _ => identity.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::fixtures;

    #[test]
    fn short_where_nobody_is_mistaken() {
        let cases: [(&[&str], &[&str]); 4] = [
            (&["gw-0.a.example:88", "gw-1.a.example:88"], &["gw-0", "gw-1"]),
            (
                &["gw-0.a.example:88", "gw-0.b.example:88", "gw-1.a:88"],
                &["gw-0.a.example:88", "gw-0.b.example:88", "gw-1"],
            ),
            (&["198.51.100.1:88", "198.51.100.2:88"], &["198.51.100.1:88", "198.51.100.2:88"]),
            (&["gw:1", "gw:2", ".odd:3"], &["gw:1", "gw:2", ".odd:3"]),
        ];
        for (identities, expected) in cases {
            let ring = fixtures::ring_of(identities);
            let labels = Labels::of_rings([&ring, &ring]);
            let found: Vec<_> = ring.members().iter().map(|member| labels.label(&member.identity)).collect();
            assert_eq!(found, expected);
        }
    }
}
