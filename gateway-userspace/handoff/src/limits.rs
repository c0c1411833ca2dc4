//! How many, how fast and how long.

use std::time::Duration;

/// The limits of one gateway's part in all moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Moves begun in a second; none for as many as can be.
    pub moves_per_s: Option<u32>,
    /// Sessions on their way from here, up to the commit.
    pub concurrent: usize,
    /// The same, towards one node; if there is a goal, until the move is done.
    pub concurrent_per_node: usize,
    /// How much longer than the quickest a move may take, until the new owner has said that it is done: while they take
    /// longer, fewer are under way at once. None for as many as the limits above permit.
    pub move_goal: Option<Duration>,
    /// Copies taken from all others that are not decided yet. More are refused, and tried again.
    pub copies: usize,
    /// From the suspension to the other's ready: longer, and the move is aborted.
    pub offer_limit: Duration,
    /// From an offer to its decision: longer, and the copy is dropped. Far longer than `offer_limit`.
    pub copy_limit: Duration,
    /// Between repetitions of what has not been answered.
    pub retry: Duration,
    /// Before a move that failed is tried again.
    pub pause_after_failure: Duration,
    /// Failures after which a session is left where it is, until the ring changes again.
    pub attempts: u32,
    /// For how long it is remembered where a session went. Longer than `push_limit`.
    pub memory: Duration,
    /// From a push to its answer: longer, and the answer is "unsure".
    pub push_limit: Duration,
    /// Pushes of one user that may wait.
    pub waiting_pushes: usize,
    /// Pushes that a session remembers having seen.
    pub seen_pushes: usize,
    /// For how long a gateway out of reach may keep a ring from coming into force. Longer than a link takes to notice
    /// that it is dead.
    pub force_limit: Duration,
    /// After so long out of reach a gateway counts as ended where a push asks for sessions; never where a move does.
    pub unreachable_limit: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            moves_per_s: Some(5000),
            concurrent: 256,
            concurrent_per_node: 128,
            move_goal: Some(Duration::from_micros(1500)),
            copies: 1024,
            offer_limit: Duration::from_secs(2),
            copy_limit: Duration::from_secs(60),
            retry: Duration::from_millis(500),
            pause_after_failure: Duration::from_millis(500),
            attempts: 10,
            memory: Duration::from_secs(60),
            push_limit: Duration::from_secs(10),
            waiting_pushes: 1024,
            seen_pushes: 256,
            force_limit: Duration::from_secs(5),
            unreachable_limit: Duration::from_secs(15),
        }
    }
}
