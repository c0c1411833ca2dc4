//! Interfaces, addresses, routes, neighbours, by rtnetlink.

use std::net::IpAddr;

use futures_util::{Stream, TryStreamExt as _};
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        address::AddressAttribute,
        link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType},
    },
};

use crate::doctor::facts::{Address, Attachment, Fact, Interface, Neighbour, Route, Unknown, Way};

/// What this network namespace is made of.
pub struct Network {
    /// Its interfaces, without what only drivers tell.
    pub interfaces: Fact<Vec<Interface>>,
    /// Its addresses.
    pub addresses: Fact<Vec<Address>>,
    /// Unicast routes of the main table.
    pub routes: Fact<Vec<Route>>,
    neighbours: Fact<Vec<(u32, IpAddr, Neighbour)>>,
    handle: Fact<Handle>,
}

impl Network {
    /// Reads it all.
    pub async fn read() -> Self {
        let handle = connect();
        Self {
            interfaces: interfaces(&handle).await,
            addresses: addresses(&handle).await,
            routes: routes(&handle).await,
            neighbours: neighbours(&handle).await,
            handle,
        }
    }

    /// The way to an address; `None` if there is none.
    pub async fn way_to(&self, address: IpAddr) -> Fact<Option<Way>> {
        let handle = self.handle.as_ref().map_err(Unknown::clone)?;
        let to = match address {
            IpAddr::V4(to) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(to, 32).build(),
            IpAddr::V6(to) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().destination_prefix(to, 128).build(),
        };
        let found = match handle.route().get(to).execute().try_next().await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            // The kernel says so by an error: ENETUNREACH, EHOSTUNREACH, or that of a blackhole.
            Err(rtnetlink::Error::NetlinkError(_)) => return Ok(None),
            Err(error) => return Err(Unknown(format!("cannot ask for the route to {address}: {error}"))),
        };
        let Some(interface) = interfaces_of(&found).into_iter().next() else { return Ok(None) };
        let gateway = found.attributes.iter().find_map(|one| match one {
            RouteAttribute::Gateway(gateway) => address_of(gateway),
            _ => None,
        });
        let mtu = found.attributes.iter().find_map(|one| match one {
            RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
                RouteMetric::Mtu(mtu) => Some(*mtu),
                _ => None,
            }),
            _ => None,
        });
        let hop = gateway.unwrap_or(address);
        let neighbours = self.neighbours.as_ref().map_err(Unknown::clone)?;
        let known = neighbours.iter().find(|(by, who, _)| *by == interface && *who == hop);
        let neighbour = known.map_or(Neighbour::Unknown, |(_, _, state)| *state);
        Ok(Some(Way { interface, gateway, mtu, neighbour }))
    }
}

fn connect() -> Fact<Handle> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| Unknown(format!("cannot open a netlink socket: {error}")))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// All answers to a request.
async fn all<T>(what: &str, answers: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Fact<Vec<T>> {
    answers.try_collect().await.map_err(|error| Unknown(format!("cannot list the {what}: {error}")))
}

async fn interfaces(handle: &Fact<Handle>) -> Fact<Vec<Interface>> {
    let handle = handle.as_ref().map_err(Unknown::clone)?;
    Ok(all("interfaces", handle.link().get().execute()).await?.into_iter().map(interface).collect())
}

fn interface(message: LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut one = Interface {
        name: String::new(),
        index: message.header.index,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        arp: !flags.intersects(LinkFlags::Loopback | LinkFlags::Noarp),
        master: None,
        xdp: Vec::new(),
        driver: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => one.name = name,
            LinkAttribute::Mtu(mtu) => one.mtu = mtu,
            LinkAttribute::Controller(master) => one.master = Some(master),
            LinkAttribute::Xdp(xdp) => one.xdp = xdp.iter().filter_map(attached).collect(),
            _ => {}
        }
    }
    one
}

fn attached(xdp: &LinkXdp) -> Option<(Attachment, u32)> {
    match xdp {
        LinkXdp::DrvProgId(program) => Some((Attachment::Native, *program)),
        LinkXdp::SkbProgId(program) => Some((Attachment::Generic, *program)),
        LinkXdp::HwProgId(program) => Some((Attachment::Offloaded, *program)),
        _ => None,
    }
}

async fn addresses(handle: &Fact<Handle>) -> Fact<Vec<Address>> {
    let handle = handle.as_ref().map_err(Unknown::clone)?;
    let messages = all("addresses", handle.address().get().execute()).await?;
    let one = |message: rtnetlink::packet_route::address::AddressMessage| {
        // On a link between two hosts `Address` is the other end's, and `Local` ours.
        let local = message.attributes.iter().find_map(|one| match one {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let plain = message.attributes.iter().find_map(|one| match one {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let address = local.or(plain)?;
        Some(Address { address, prefix: message.header.prefix_len, interface: message.header.index })
    };
    Ok(messages.into_iter().filter_map(one).collect())
}

async fn routes(handle: &Fact<Handle>) -> Fact<Vec<Route>> {
    let handle = handle.as_ref().map_err(Unknown::clone)?;
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        let messages = all("routes", handle.route().get(message).execute()).await?;
        routes.extend(messages.iter().filter(|message| is_main(message)).map(route));
    }
    Ok(routes)
}

fn is_main(message: &RouteMessage) -> bool {
    message.header.table == RouteHeader::RT_TABLE_MAIN && message.header.kind == RouteType::Unicast
}

fn route(message: &RouteMessage) -> Route {
    let destination = message.attributes.iter().find_map(|one| match one {
        RouteAttribute::Destination(destination) => address_of(destination),
        _ => None,
    });
    Route {
        destination: destination.map(|address| (address, message.header.destination_prefix_length)),
        ipv6: message.header.address_family == AddressFamily::Inet6,
        interfaces: interfaces_of(message),
    }
}

/// The interfaces a route leaves by.
fn interfaces_of(message: &RouteMessage) -> Vec<u32> {
    let by = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    };
    message.attributes.iter().flat_map(by).collect()
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

async fn neighbours(handle: &Fact<Handle>) -> Fact<Vec<(u32, IpAddr, Neighbour)>> {
    let handle = handle.as_ref().map_err(Unknown::clone)?;
    Ok(all("neighbours", handle.neighbours().get().execute()).await?.iter().filter_map(neighbour).collect())
}

fn neighbour(message: &NeighbourMessage) -> Option<(u32, IpAddr, Neighbour)> {
    let address = message.attributes.iter().find_map(|one| match one {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })?;
    // What `bpf_fib_lookup` takes for an answer (`NUD_VALID`).
    let state = match message.header.state {
        NeighbourState::Failed => Neighbour::Failed,
        NeighbourState::Incomplete | NeighbourState::None => Neighbour::Unknown,
        _ => Neighbour::Known,
    };
    Some((message.header.ifindex, address, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_host_has_a_loopback_interface() {
        let network = Network::read().await;
        let interfaces = network.interfaces.as_ref().unwrap();
        let lo = interfaces.iter().find(|one| one.name == "lo").unwrap();
        assert!(!lo.arp && lo.xdp.is_empty() && lo.mtu > 0);
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let addresses = network.addresses.as_ref().unwrap();
        if lo.up {
            assert!(
                addresses.contains(&Address { address: loopback, prefix: 8, interface: lo.index }),
                "{addresses:?}"
            );
            assert_eq!(network.way_to(loopback).await.unwrap().unwrap().interface, lo.index);
        }
        assert!(network.routes.unwrap().iter().all(|route| !route.interfaces.is_empty()));
    }
}
