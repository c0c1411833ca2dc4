//! From the file's shape to a configuration that can be used, or the first thing wrong with it.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    path::PathBuf,
};

use ringsteer_ebpf::layout::{flow::DEFAULT_MAX_FLOWS, service::MAX_SERVICES};
use toml::Spanned;

use super::{
    Config, DEFAULT_PIN_DIR, DEFAULT_SOCKET, Gateway, MAX_MESSAGE_BYTES, MAX_NAME, MAX_SOCKET_PATH, Node, Parameter,
    Problem, Secret, SecretSource, Serve, Service, file, service,
};
use crate::ring::{Epoch, Identity, Member, MemberNumber, NodeAddress, Ring, RingError};

/// A problem, and the bytes of the text it is about.
pub(super) struct Located {
    pub(super) problem: Problem,
    pub(super) span: Range<usize>,
}

type Checked<T> = Result<T, Located>;

/// The configuration that `file` describes.
pub(super) fn config(file: file::File) -> Checked<Config> {
    let ring = ring(file.ring)?;
    let member_span = file.node.member.span();
    let node = node(file.node)?;
    if ring.member(node.member).is_none() {
        return Err(Located { problem: Problem::NotInRing(node.member), span: member_span });
    }
    let (current, previous) = secrets(file.secrets)?;
    Ok(Config { node, current, previous, ring, services: services(file.services)?, gateway: gateway(file.gateway)? })
}

/// Passes the value to `check`, and locates what it finds.
fn located<T, U, E: Into<Problem>>(value: Spanned<T>, check: impl FnOnce(T) -> Result<U, E>) -> Checked<U> {
    let span = value.span();
    check(value.into_inner()).map_err(|problem| Located { problem: problem.into(), span })
}

/// The number under `key`, or its default, if it lies within the limits.
fn number<T>(key: &'static str, value: Option<Spanned<i64>>, default: T, smallest: T, largest: T) -> Checked<T>
where
    T: TryFrom<i64> + Into<i64> + PartialOrd,
{
    let Some(value) = value else { return Ok(default) };
    located(value, |value| match T::try_from(value) {
        Ok(valid) if valid >= smallest && valid <= largest => Ok(valid),
        _ => Err(Problem::OutOfRange { key, value, range: (smallest.into(), largest.into()) }),
    })
}

fn node(file: file::Node) -> Checked<Node> {
    Ok(Node {
        name: located(file.name, |name| {
            let good = (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control);
            if good { Ok(name) } else { Err(Problem::NodeName) }
        })?,
        member: located(file.member, MemberNumber::try_from)?,
        interfaces: interfaces(file.interfaces)?,
        pin_dir: absolute("pin_dir", file.pin_dir)?.unwrap_or_else(|| DEFAULT_PIN_DIR.into()),
        socket: socket(file.socket)?,
        tunnel_port: number("tunnel_port", file.tunnel_port, 6080, 1, u16::MAX)?,
        // The upper limit is some 8 GB of kernel memory: beyond it the mistake is more likely than the wish.
        max_flows: number("max_flows", file.max_flows, DEFAULT_MAX_FLOWS, 1, 1 << 26)?,
        xdp_mode: file.xdp_mode,
        flow_idle_s: number("flow_idle_s", file.flow_idle_s, 8000, 1, u32::MAX)?,
        handshake_slot_shift: number("handshake_slot_shift", file.handshake_slot_shift, 36, 28, 40)?,
    })
}

fn interfaces(list: Spanned<Vec<Spanned<String>>>) -> Checked<Vec<String>> {
    let span = list.span();
    let list = list.into_inner();
    if list.is_empty() {
        return Err(Located { problem: Problem::NoInterfaces, span });
    }
    let mut seen = HashSet::new();
    list.into_iter()
        .map(|name| {
            located(name, |name| {
                // What Linux takes for a name (`dev_valid_name`).
                let good = (1..=15).contains(&name.len())
                    && !matches!(name.as_str(), "." | "..")
                    && !name.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0'));
                if !good {
                    Err(Problem::InterfaceName(name))
                } else if !seen.insert(name.clone()) {
                    Err(Problem::DuplicateInterface(name))
                } else {
                    Ok(name)
                }
            })
        })
        .collect()
}

fn absolute(key: &'static str, path: Option<Spanned<PathBuf>>) -> Checked<Option<PathBuf>> {
    path.map(|path| {
        located(path, |path| if path.is_absolute() { Ok(path) } else { Err(Problem::RelativePath { key, path }) })
    })
    .transpose()
}

fn socket(path: Option<Spanned<PathBuf>>) -> Checked<PathBuf> {
    let Some(path) = path else { return Ok(DEFAULT_SOCKET.into()) };
    let span = path.span();
    let path = absolute("socket", Some(path))?.unwrap_or_default();
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(Located { problem: Problem::SocketPathTooLong(length), span });
    }
    Ok(path)
}

fn secrets(table: Spanned<file::Secrets>) -> Checked<(SecretSource, Option<SecretSource>)> {
    let span = table.span();
    let file::Secrets { current, current_file, previous, previous_file } = table.into_inner();
    let current = secret("current", current, ("current_file", current_file))?;
    let previous = secret("previous", previous, ("previous_file", previous_file))?;
    match current {
        Some(current) => Ok((current, previous)),
        None => Err(Located { problem: Problem::NoSecret, span }),
    }
}

fn secret(
    key: &'static str,
    inline: Option<Spanned<String>>,
    (file_key, file): (&'static str, Option<Spanned<PathBuf>>),
) -> Checked<Option<SecretSource>> {
    match (inline, file) {
        (Some(_), Some(file)) => Err(Located { problem: Problem::TwoSecrets { key }, span: file.span() }),
        (Some(inline), None) => located(inline, |digits| Secret::from_hex(digits.as_bytes(), || format!("`{key}`")))
            .map(|secret| Some(SecretSource::Inline(secret))),
        (None, file) => Ok(absolute(file_key, file)?.map(SecretSource::File)),
    }
}

fn ring(table: Spanned<file::Ring>) -> Checked<Ring> {
    let whole = table.span();
    let file::Ring { epoch, algorithm, allow_identities_without_port, members } = table.into_inner();
    let identity = if allow_identities_without_port { Identity::port_optional } else { Identity::new };
    // Where number, identity and address of each member stand.
    let mut spans = Vec::with_capacity(members.len());
    let members = members
        .into_iter()
        .map(|member| {
            spans.push([member.number.span(), member.identity.span(), member.address.span()]);
            Ok(Member {
                number: located(member.number, MemberNumber::try_from)?,
                identity: located(member.identity, identity)?,
                address: located(member.address, NodeAddress::try_from)?,
                state: member.state,
            })
        })
        .collect::<Checked<_>>()?;
    Ring::new(Epoch(epoch), algorithm, members).map_err(|error| {
        let span = match error {
            RingError::Empty | RingError::NoneActive | RingError::TooManyMembers { .. } => whole,
            RingError::DuplicateNumber { index, .. } => spans[index][0].clone(),
            RingError::DuplicateIdentity { index, .. } => spans[index][1].clone(),
            RingError::DuplicateAddress { index, .. } => spans[index][2].clone(),
        };
        Located { problem: error.into(), span }
    })
}

fn services(list: Vec<file::Service>) -> Checked<Vec<Service>> {
    if let Some(beyond) = list.get(MAX_SERVICES) {
        return Err(Located { problem: Problem::TooManyServices(list.len()), span: beyond.name.span() });
    }
    let mut names = HashSet::new();
    let mut addresses = HashMap::new();
    list.into_iter()
        .map(|service| {
            let name_span = service.name.span();
            let name = located(service.name, |name| {
                let name = service::name(name)?;
                if names.insert(name.clone()) { Ok(name) } else { Err(Problem::DuplicateServiceName(name)) }
            })?;
            let address = located(service.address, |text| {
                let address = service::address(&text)?;
                match addresses.insert(address, name.clone()) {
                    None => Ok(address),
                    Some(first) => Err(Problem::DuplicateServiceAddress { address, first, second: name.clone() }),
                }
            })?;
            let parameter = service.parameter.map(|name| located(name, Parameter::try_from)).transpose()?;
            if service.serve != Serve::None && parameter.is_none() {
                return Err(Located { problem: Problem::ServedWithoutParameter(name), span: name_span });
            }
            Ok(Service { name, address, parameter, serve: service.serve })
        })
        .collect()
}

fn gateway(file: file::Gateway) -> Checked<Gateway> {
    let max_message_bytes =
        number::<u32>("max_message_bytes", file.max_message_bytes, 51_200, 1, MAX_MESSAGE_BYTES)? as usize;
    Ok(Gateway { max_message_bytes })
}
