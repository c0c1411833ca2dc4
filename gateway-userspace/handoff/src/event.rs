//! What can happen to a gateway's part in moves, and what it wants done.
//!
//! `D` is what a session is when it is at rest: socket and plain data as the shell keeps them. `P` is what a push says.
//! Both are opaque here.

use crate::{
    message::{Message, Reached, RefusedBecause},
    name::{Epoch, Gateway, Incarnation, MoveId, NodeId, PushId, SessionId, User},
};

/// What the core asks of the one around it, at once, without waiting.
pub trait Host<P> {
    /// Who owns the user by the ring of the latest [`Event::Ring`]; none if it has no active member.
    fn owner(&self, user: &User) -> Option<NodeId>;

    /// Gives a push to a session that is active here. False if it could not take it; it is being closed then.
    fn deliver(&mut self, session: SessionId, push: PushId, body: &P) -> bool;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<D, P> {
    // Sessions of this gateway.
    /// A connection is here whose user is known. It may be misplaced. Not after [`Action::Activate`], which says so
    /// itself.
    Arrived {
        /// Named by the shell.
        session: SessionId,
        /// Whose.
        user: User,
        /// Whether it has been told that it is connected (101): from then on pushes are owed to it.
        opened: bool,
        /// Told in answers.
        platform: i32,
    },
    /// A connection that was not open is now.
    Opened {
        /// Which.
        session: SessionId,
    },
    /// A session of ours is over. Not for one that this side has been told to discard or drop.
    Ended {
        /// Which.
        session: SessionId,
    },

    // The fleet.
    /// The ring has changed; [`Host::owner`] answers by it already.
    Ring {
        /// Its epoch.
        epoch: Epoch,
        /// Its members, those that drain included.
        members: Vec<NodeId>,
    },
    /// There is a link to that gateway. If another incarnation of that node was known, its end has been told before.
    PeerUp {
        /// Who.
        peer: Gateway,
    },
    /// There is no link any more. That says nothing about the gateway.
    PeerDown {
        /// Whose node.
        node: NodeId,
    },
    /// That gateway has ended, for certain.
    PeerEnded {
        /// Who.
        peer: Gateway,
    },
    /// A gateway said something, over a link that proves who it is.
    Said {
        /// Who.
        from: Gateway,
        /// To which incarnation of this node's gateway.
        to: Incarnation,
        /// What.
        message: Message<D, P>,
    },

    // What became of an action, by the move that it was for.
    /// The session stands still: nothing is read from its socket or written to it.
    Suspended {
        /// Which move.
        id: MoveId,
    },
    /// The agent has confirmed that the flow is held for this move.
    Held {
        /// Which move.
        id: MoveId,
    },
    /// The socket is in repair mode, and this is all there is of the session.
    Dumped {
        /// Which move.
        id: MoveId,
        /// The session.
        dump: D,
    },
    /// Suspending, holding or dumping did not work.
    Failed {
        /// Which move.
        id: MoveId,
        /// What that means.
        failure: Failure,
    },
    /// The agent has confirmed that the flow is not held any more.
    Released {
        /// Which move.
        id: MoveId,
    },
    /// The copy is whole, its socket silent.
    Restored {
        /// Which move.
        id: MoveId,
    },
    /// It cannot be made.
    RestoreFailed {
        /// Which move.
        id: MoveId,
    },
    /// What the old owner's agent says to a claim. An agent that cannot be reached is asked until it answers.
    Claimed {
        /// Which move.
        id: MoveId,
        /// Whether the session is ours now.
        granted: bool,
    },

    // Pushes.
    /// A push from a pusher.
    Push {
        /// To be repeated in the answer.
        ticket: u64,
        /// For whom.
        user: User,
        /// Its name.
        push: PushId,
        /// What it says.
        body: P,
    },

    // Control.
    /// No move begins from now on.
    Pause,
    /// They may begin again.
    Continue,
    /// As [`Event::Pause`], and what is not committed is aborted.
    Stop,
    /// So many moves may begin in a second from now on; none for as many as can be.
    Rate {
        /// That many.
        moves_per_s: Option<u32>,
    },
    /// Time has passed.
    Tick,
}

/// What failed to be suspended, held or dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It may work another time.
    Again,
    /// This connection cannot move at all: its socket is not established, or its state is not ours to move.
    Never,
    /// It turned out to be over. Nothing is left to resume.
    Over,
}

/// What is to be done. All of it may take time but [`Action::Discard`], [`Action::Drop`] and [`Action::Answer`]; what is
/// reported when it is done stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action<D, P> {
    // The old owner's.
    /// Have the session stand still: [`Event::Suspended`] or [`Event::Failed`].
    Suspend {
        /// Which move.
        id: MoveId,
    },
    /// Have the agent hold its flow for this move: [`Event::Held`] or [`Event::Failed`], and that of a hold that may
    /// have happened only after it is certain that it will not any more.
    Hold {
        /// Which move.
        id: MoveId,
        /// To whom it is going.
        to: NodeId,
    },
    /// Dump socket and session: [`Event::Dumped`] or [`Event::Failed`].
    Dump {
        /// Which move.
        id: MoveId,
    },
    /// Have the agent release the flow, and repeat that until it has confirmed: [`Event::Released`].
    Release {
        /// Which move.
        id: MoveId,
    },
    /// Take the session up again, from wherever it was suspended. It is active.
    Resume {
        /// Which move.
        id: MoveId,
    },
    /// Have the agent send on what arrives for the flow, and repeat that until it has confirmed. Comes after
    /// [`Action::Discard`].
    Repoint {
        /// Which move.
        id: MoveId,
        /// To whom.
        to: NodeId,
    },
    /// It is another's now: close the socket silently and forget the session.
    Discard {
        /// Which move.
        id: MoveId,
    },
    /// The session cannot be moved, though it is misplaced; what to do is the shell's decision.
    Stranded {
        /// Which.
        session: SessionId,
    },

    // The new owner's.
    /// Make socket and session of this, silently: [`Event::Restored`] or [`Event::RestoreFailed`].
    Restore {
        /// Which move.
        id: MoveId,
        /// Whose session.
        user: User,
        /// Whether it has been told that it is connected.
        opened: bool,
        /// The session.
        dump: D,
    },
    /// The session is ours: let it go on, and have the agent tell all edges. It is active.
    Activate {
        /// Which move.
        id: MoveId,
    },
    /// Close the copy silently and forget it. May come while it is being restored.
    Drop {
        /// Which move.
        id: MoveId,
    },
    /// Ask the agent of a gateway that has ended whether the session is ours now: [`Event::Claimed`].
    Claim {
        /// Which move.
        id: MoveId,
        /// Who offered it.
        from: Gateway,
    },

    // Everybody's.
    /// Say something to a gateway. If there is no link, forget it.
    Send {
        /// To whom; nobody else may get it.
        to: Gateway,
        /// What.
        message: Message<D, P>,
    },
    /// Answer a push.
    Answer {
        /// The push's.
        ticket: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// The ring is in force: users that it brings us may be let in.
    InForce {
        /// Which ring.
        epoch: Epoch,
    },
    /// Something to write down; no reaction is needed.
    Note(Note),
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// These sessions have taken it.
    Delivered(Vec<Reached>),
    /// The user has no session anywhere.
    Offline,
    /// It could not be found out in time; these sessions have taken it anyway.
    Unsure(Vec<Reached>),
}

/// For logs and counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    /// The other side did not take it.
    Refused(MoveId, RefusedBecause),
    /// No ready in time, or the other side ended.
    Aborted(MoveId),
    /// The one to whom it was committed has ended, or was out of reach for too long.
    Lost(MoveId),
    /// A message that was for or from another incarnation, or of a move that it had no part in.
    Foreign(Gateway),
}
