//! What there is to say over the links of one kind: the part of agents, or of gateways.

use std::sync::Arc;

use super::{Shared, Why};
use crate::{
    peer::{
        counters::Way,
        message::{Hello, Incarnation},
    },
    ring::NodeAddress,
};

/// How an attempt to have a link to a node went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::peer) struct Dialled {
    /// Why there is no link any more, or none at all.
    pub(in crate::peer) error: String,
    /// The node's kernel said that nobody listens there.
    pub(in crate::peer) refused: bool,
}

/// One kind of talkers.
pub(in crate::peer) trait Speech: Sized + Send + Sync + 'static {
    /// The other ends, as an operator is told of them.
    const OTHERS: &'static str;

    /// Where the configuration has the port.
    const PORT_KEY: &'static str;

    /// Whether to dial nobody before we have our own port. Then a process that says hello is the only one of its node.
    const LISTEN_FIRST: bool;

    /// One link's part.
    type Part: Part;

    /// The name of our process, if the other ends are to know it.
    fn incarnation(&self) -> Option<Incarnation>;

    /// The link is up: the other end has said hello.
    ///
    /// # Errors
    /// If we do not want it all the same.
    fn open(
        shared: &Arc<Shared<Self>>,
        peer: NodeAddress,
        way: Way,
        hello: Hello,
    ) -> impl Future<Output = Result<Self::Part, Why>> + Send;

    /// A link that we make has ended or did not come up.
    fn dialled(&self, to: NodeAddress, how: Dialled) -> impl Future<Output = ()> + Send;
}

/// What is said over one link.
pub(in crate::peer) trait Part: Send {
    /// Acts on what the other end said.
    ///
    /// # Errors
    /// If the link must end for it.
    fn hear(&mut self, message: Vec<u8>) -> impl Future<Output = Result<(), Why>> + Send;

    /// The next thing to say, as soon as there is something. Dropped before it completes it has done nothing.
    ///
    /// # Errors
    /// If the link must end.
    fn next(&mut self) -> impl Future<Output = Result<Vec<u8>, Why>> + Send;

    /// What to say every second: it shows that we live.
    fn tick(&mut self) -> Vec<u8>;
}
