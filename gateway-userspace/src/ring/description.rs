//! A ring as it is written down and sent: the members, from which every reader rebuilds the points.

use serde::{Deserialize, Serialize};

use super::{
    Algorithm, Epoch, Identity, IdentityError, Member, MemberNumber, MemberState, NodeAddress, Ring, RingError,
};

/// Everything that makes a ring. Nothing in it has been checked beyond its form; [`Ring::try_from`] does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingDescription {
    /// Its place in time.
    pub epoch: Epoch,
    /// How keys and members are hashed.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Whether its operator has allowed identities without a port.
    #[serde(default)]
    pub allow_identities_without_port: bool,
    /// The members, in ring order.
    pub members: Vec<MemberDescription>,
}

/// One member of a [`RingDescription`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDescription {
    /// Its number.
    pub number: MemberNumber,
    /// What is hashed. Text, because whether it may lack a port is for the ring to say.
    pub identity: String,
    /// Where packets go.
    pub address: NodeAddress,
    /// Whether it takes new users.
    #[serde(default)]
    pub state: MemberState,
}

/// Why a description makes no ring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// One of the identities is wrong.
    #[error("member {number}: {error}")]
    Identity {
        /// Whose.
        number: MemberNumber,
        /// What is wrong with it.
        error: IdentityError,
    },
    /// The members do not make a ring together.
    #[error(transparent)]
    Ring(#[from] RingError),
}

impl From<&Ring> for RingDescription {
    fn from(ring: &Ring) -> Self {
        Self {
            epoch: ring.epoch(),
            algorithm: ring.algorithm(),
            allow_identities_without_port: ring.members().iter().any(|member| member.identity.port().is_none()),
            members: ring
                .members()
                .iter()
                .map(|member| MemberDescription {
                    number: member.number,
                    identity: member.identity.as_str().to_owned(),
                    address: member.address,
                    state: member.state,
                })
                .collect(),
        }
    }
}

impl TryFrom<RingDescription> for Ring {
    type Error = DescriptionError;

    fn try_from(description: RingDescription) -> Result<Self, DescriptionError> {
        let make = if description.allow_identities_without_port { Identity::port_optional } else { Identity::new };
        let members = description
            .members
            .into_iter()
            .map(|MemberDescription { number, identity, address, state }| {
                let identity = make(identity).map_err(|error| DescriptionError::Identity { number, error })?;
                Ok(Member { number, identity, address, state })
            })
            .collect::<Result<_, DescriptionError>>()?;
        Ok(Self::new(description.epoch, description.algorithm, members)?)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures, *};

    #[test]
    fn survives_the_journey_whole() {
        for suffix in [":88", ""] {
            let ring = fixtures::openim(5, suffix);
            let text = serde_json::to_string(&RingDescription::from(&ring)).unwrap();
            let description: RingDescription = serde_json::from_str(&text).unwrap();
            let rebuilt = Ring::try_from(description).unwrap();
            assert_eq!(rebuilt.epoch(), ring.epoch());
            assert_eq!(rebuilt.digest(), ring.digest());
            assert_eq!(rebuilt.members(), ring.members());
            assert_eq!(rebuilt.points(), ring.points());
        }
    }

    #[test]
    fn a_bare_name_is_not_smuggled_in() {
        let mut description = RingDescription::from(&fixtures::openim(2, ""));
        description.allow_identities_without_port = false;
        let error = Ring::try_from(description).unwrap_err();
        assert!(matches!(error, DescriptionError::Identity { error: IdentityError::NoPort(_), .. }), "{error}");
    }
}
