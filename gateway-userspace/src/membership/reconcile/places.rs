//! Who has which address. Two members never share one, for the kernel could not tell their packets apart: where two
//! nodes claim the same, the one who has it keeps it, and a member that is not there gives way to a node that is.

use std::collections::{BTreeMap, HashMap};

use super::Candidate;
use crate::ring::{Identity, Member, NodeAddress};

/// The address of each member that can stay and of each candidate that can be one. Who is not in it has to be left out.
pub(super) fn addresses(
    staying: &[&Member],
    candidates: &BTreeMap<&Identity, &Candidate>,
    complaints: &mut Vec<String>,
) -> HashMap<Identity, NodeAddress> {
    let mut claims = Claims::default();
    let (present, absent): (Vec<&Member>, Vec<&Member>) =
        staying.iter().partition(|member| candidates.contains_key(&member.identity));
    let (settled, moved): (Vec<_>, Vec<_>) =
        present.iter().copied().partition(|member| candidates[&member.identity].address == member.address);
    for member in settled {
        claims.claim(&member.identity, member.address);
    }
    for member in moved {
        let wanted = candidates[&member.identity].address;
        if let Some(holder) = claims.claim(&member.identity, wanted) {
            complaints.push(clash(&member.identity, &holder, wanted, "stays at its old address"));
            // Its old one may have gone to somebody else; then it is left out.
            claims.claim(&member.identity, member.address);
        }
    }
    let members: Vec<&Identity> = staying.iter().map(|member| &member.identity).collect();
    for candidate in candidates.values().filter(|candidate| !members.contains(&&candidate.identity)) {
        if let Some(holder) = claims.claim(&candidate.identity, candidate.address) {
            complaints.push(clash(&candidate.identity, &holder, candidate.address, "is left out"));
        }
    }
    for member in absent {
        claims.claim(&member.identity, member.address);
    }
    claims.by_identity
}

fn clash(second: &Identity, first: &Identity, address: NodeAddress, outcome: &str) -> String {
    format!(
        "{first} and {second} both call {address} their own, and {second} {outcome}; a node is one member: correct the \
         `address` or the `identity` of one of them"
    )
}

#[derive(Default)]
struct Claims {
    by_address: HashMap<NodeAddress, Identity>,
    by_identity: HashMap<Identity, NodeAddress>,
}

impl Claims {
    /// Returns who has it already, if somebody does.
    fn claim(&mut self, identity: &Identity, address: NodeAddress) -> Option<Identity> {
        if let Some(holder) = self.by_address.get(&address) {
            return Some(holder.clone());
        }
        self.by_address.insert(address, identity.clone());
        self.by_identity.insert(identity.clone(), address);
        None
    }
}
