//! The kernel's routes and neighbour table, by netlink.

use std::{collections::BTreeSet, io, net::IpAddr, pin::pin};

use anyhow::{Context as _, Result};
use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream},
};
use rtnetlink::{
    Handle, MulticastGroup, RouteMessageBuilder,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteProtocol, RouteType, RouteVia},
    },
};

use super::plan::{Entry, Neighbour, Step};

/// Marks the entries we asked for (`NDA_PROTOCOL`), so that another run of the agent knows them. A number that neither
/// the kernel's `rtnetlink.h` nor iproute2's `rt_protos` gives to anybody.
const OURS: RouteProtocol = RouteProtocol::Other(82);

/// The table of the network namespace we are in.
pub struct Table(Handle);

/// What the kernel tells of changes.
pub struct Changes(BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>);

/// Opens both. Must be called within a tokio runtime.
pub fn open() -> io::Result<(Table, Changes)> {
    let groups = [MulticastGroup::Link, MulticastGroup::Neigh, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
    let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
    tokio::spawn(connection);
    // Should the connection go, nothing is heard any more: the periodic look is what remains.
    let messages = messages.map(|(message, _)| message).chain(stream::pending()).boxed();
    Ok((Table(handle), Changes(messages)))
}

impl Changes {
    /// Waits for something that may change what to do: a link or a route changed, an entry was removed.
    pub async fn next(&mut self) {
        while let Some(message) = self.0.next().await {
            // Entries that only change their state, as managed ones do all the time, are the kernel's business.
            if !matches!(message.payload, NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(_))) {
                return;
            }
        }
    }

    /// Forgets the changes that wait: whoever looks now sees them all.
    pub fn forget(&mut self) {
        while let Some(Some(_)) = self.0.next().now_or_never() {}
    }
}

impl Table {
    /// Whom a packet to `node` is handed to, if it leaves this host.
    ///
    /// # Errors
    /// If there is no route.
    pub async fn next_hop(&self, node: IpAddr) -> Result<Option<Neighbour>> {
        let message = match node {
            IpAddr::V4(node) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(node, 32).build(),
            IpAddr::V6(node) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(node, 128).build(),
        };
        let mut answers = pin!(self.0.route().get(message).execute());
        let route = answers.next().await.context("the kernel does not answer")??;
        if route.header.kind != RouteType::Unicast {
            return Ok(None);
        }
        let (mut interface, mut address) = (None, node);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(index),
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => address = gateway.into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => address = gateway.into(),
                RouteAttribute::Via(RouteVia::Inet6(gateway)) => address = gateway.into(),
                _ => {}
            }
        }
        Ok(interface.map(|interface| Neighbour { interface, address }))
    }

    /// All entries.
    pub async fn entries(&self) -> Result<Vec<Entry>> {
        let mut answers = pin!(self.0.neighbours().get().execute());
        let mut entries = Vec::new();
        while let Some(message) = answers.next().await {
            entries.extend(entry(&message.context("cannot read the neighbour table")?));
        }
        Ok(entries)
    }

    /// Does it.
    pub async fn take(&self, step: Step) -> Result<(), rtnetlink::Error> {
        let (neighbour, flags, protocol) = match step {
            Step::Keep(neighbour) => (neighbour, NeighbourExtFlags::Managed, OURS),
            Step::Release(neighbour) => (neighbour, NeighbourExtFlags::empty(), RouteProtocol::Unspec),
        };
        let mut request = self.0.neighbours().add(neighbour.interface, neighbour.address).replace();
        let message = request.message_mut();
        message.attributes.push(NeighbourAttribute::ExtFlags(flags));
        message.attributes.push(NeighbourAttribute::Protocol(protocol));
        // A managed entry keeps the state it has (`__neigh_update`). To release it takes a state that needs no
        // link-layer address, and after which the kernel is free to forget it.
        message.header.state = match step {
            Step::Keep(_) => NeighbourState::None,
            Step::Release(_) => NeighbourState::Failed,
        };
        request.execute().await
    }

    /// Lets go of every entry that we ever asked for.
    pub async fn release_all(&self) -> Result<()> {
        for step in super::plan::steps(&BTreeSet::new(), &self.entries().await?) {
            self.take(step).await?;
        }
        Ok(())
    }
}

fn entry(message: &NeighbourMessage) -> Option<Entry> {
    let (mut address, mut managed, mut ours) = (None, false, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::from(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::from(*v6)),
            NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
            NeighbourAttribute::Protocol(protocol) => ours = *protocol == OURS,
            _ => {}
        }
    }
    Some(Entry {
        neighbour: Neighbour { interface: message.header.ifindex, address: address? },
        managed,
        ours,
        permanent: message.header.state == NeighbourState::Permanent,
    })
}
