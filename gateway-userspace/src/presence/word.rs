//! What a node says of a user.

use serde::{Deserialize, Serialize};

use crate::push::round::Went;

/// The platforms on which a user is online, by OpenIM's numbers, in ascending order and each once; none if offline.
pub type Platforms = Vec<i32>;

/// What a node says of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Of two words of a process about a user, the one with the greater stamp is the later one.
    pub stamp: u64,
    /// Where the user has sessions there, those included that are on their way to it or from it.
    pub platforms: Platforms,
    /// Which of them went from there lately, and where to.
    pub went: Vec<Went>,
}

// === impl Word ===

impl Word {
    /// Whether something that `former` said is not said any more.
    pub(super) fn is_less_than(&self, former: &Self) -> bool {
        former.platforms.iter().any(|platform| !self.platforms.contains(platform))
    }

    /// Adds the platforms to others.
    pub(super) fn add_to(&self, platforms: &mut Platforms) {
        platforms.extend_from_slice(&self.platforms);
    }
}

/// In ascending order and each once.
pub(super) fn in_order(mut platforms: Platforms) -> Platforms {
    platforms.sort_unstable();
    platforms.dedup();
    platforms
}
