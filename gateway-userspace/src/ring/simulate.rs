//! What a change of the fleet would move, before anybody makes it.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv6Addr},
};

use ringsteer_ebpf::layout::node::MAX_NODES;
use serde::Serialize;

use super::{
    Algorithm, Epoch, Identity, Member, MemberNumber, MemberState, NodeAddress, Ring, RingError,
    diff::{Diff, Tally},
};

/// One thing to do to a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A member more, at the end of the list.
    Add {
        /// What is hashed.
        identity: Identity,
        /// Where packets would go; made up if it is not known yet.
        address: Option<NodeAddress>,
    },
    /// A member gone. Named by its identity, or by that without the port if only one fits.
    Remove(String),
    /// A member that owns nothing any more, named likewise.
    Drain(String),
    /// Other hashing.
    Algorithm(Algorithm),
}

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nobody of that name.
    #[error("the ring has no member {0}; `ringsteer ring show` lists them as they are spelled")]
    NoSuchMember(String),
    /// Several of that name.
    #[error("the ring has several members {0}, told apart by their ports; name one with its port")]
    Ambiguous(String),
    /// Nothing to add.
    #[error("{0} is a member of the ring already; leave it out, or remove it first")]
    AlreadyMember(Identity),
    /// No number is left.
    #[error("all member numbers from 1 to 4095 are taken; remove a member first")]
    NoNumber,
    /// What comes out is no ring.
    #[error("the ring after that could not be: {0}")]
    Ring(#[from] RingError),
}

/// A ring, the one that a change would make of it, and what lies between.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// What would move.
    pub diff: Diff,
    /// How many times the mean the fullest member owns, before and after.
    pub balance: [f64; 2],
    /// The members of both rings: those of the first in its order, then the new ones.
    pub members: Vec<Shift>,
}

/// What a member owns before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shift {
    /// Which member.
    pub identity: Identity,
    /// Its state and share before; `None` if it was no member.
    pub before: Option<Holding>,
    /// Its state and share after; `None` if it is no member any more.
    pub after: Option<Holding>,
}

/// What a member owns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Holding {
    /// Whether it takes new users.
    pub state: MemberState,
    /// The share of all users, from 0 to 1.
    pub share: f64,
}

/// The ring that `changes`, made one after the other, make of `ring`. Its epoch is the next one.
///
/// # Errors
/// If one of them cannot be made, or what comes out is no ring.
pub fn apply(ring: &Ring, changes: &[Change]) -> Result<Ring, ChangeError> {
    let mut members = ring.members().to_vec();
    let mut algorithm = ring.algorithm();
    for change in changes {
        match change {
            Change::Add { identity, address } => {
                if members.iter().any(|member| member.identity == *identity) {
                    return Err(ChangeError::AlreadyMember(identity.clone()));
                }
                let number = free_number(&members)?;
                let address = address.unwrap_or_else(|| made_up_address(number));
                members.push(Member { number, identity: identity.clone(), address, state: MemberState::Active });
            }
            Change::Remove(name) => {
                let place = find(&members, name)?;
                members.remove(place);
            }
            Change::Drain(name) => {
                let place = find(&members, name)?;
                members[place].state = MemberState::Draining;
            }
            Change::Algorithm(other) => algorithm = *other,
        }
    }
    Ok(Ring::new(Epoch(ring.epoch().0.saturating_add(1)), algorithm, members)?)
}

/// What `changes` would do to `ring`.
///
/// # Errors
/// As [`apply`].
pub fn simulate(ring: &Ring, changes: &[Change]) -> Result<Simulation, ChangeError> {
    let after = apply(ring, changes)?;
    let tally = Tally::of(ring, &after);
    let shares = tally.shares(ring, &after);
    let holding = |ring: &Ring, shares: &[(MemberNumber, f64)], identity: &Identity| {
        let place = ring.members().iter().position(|member| member.identity == *identity)?;
        Some(Holding { state: ring.members()[place].state, share: shares[place].1 })
    };
    let new = after.members().iter().filter(|new| !ring.members().iter().any(|old| old.identity == new.identity));
    let members = ring
        .members()
        .iter()
        .chain(new)
        .map(|member| Shift {
            identity: member.identity.clone(),
            before: holding(ring, &shares[0], &member.identity),
            after: holding(&after, &shares[1], &member.identity),
        })
        .collect();
    Ok(Simulation {
        diff: Diff::of(ring, &after, &tally),
        balance: [ring.balance(&shares[0]), after.balance(&shares[1])],
        members,
    })
}

/// Where the member called `name` stands.
fn find(members: &[Member], name: &str) -> Result<usize, ChangeError> {
    if let Some(place) = members.iter().position(|member| member.identity.as_str() == name) {
        return Ok(place);
    }
    let mut named = members.iter().enumerate().filter(|(_, member)| member.identity.name() == name);
    match (named.next(), named.next()) {
        (Some((place, _)), None) => Ok(place),
        (None, _) => Err(ChangeError::NoSuchMember(name.to_owned())),
        (Some(_), Some(_)) => Err(ChangeError::Ambiguous(name.to_owned())),
    }
}

/// A number that nobody has: if possible above all others, where no flow can name an older member by it.
fn free_number(members: &[Member]) -> Result<MemberNumber, ChangeError> {
    const LAST: u16 = MAX_NODES as u16 - 1;
    let taken: HashSet<u16> = members.iter().map(|member| member.number.get()).collect();
    let highest = taken.iter().copied().max().unwrap_or(0);
    let free = (highest + 1..=LAST).chain(1..=highest).find(|number| !taken.contains(number));
    free.and_then(|number| MemberNumber::new(number).ok()).ok_or(ChangeError::NoNumber)
}

/// An address that stands for one not known yet, from the range for documentation (RFC 3849), where no member is.
pub fn made_up_address(number: MemberNumber) -> NodeAddress {
    NodeAddress::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, number.get())))
        .expect("an address of the documentation range is unicast")
}

#[cfg(test)]
mod tests;
