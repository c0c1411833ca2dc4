//! From the file's shape to a configuration that can be used, or the first thing wrong with it.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    ops::Range,
    path::PathBuf,
    time::Duration,
};

use ringsteer_ebpf::layout::{flow::DEFAULT_MAX_FLOWS, service::MAX_SERVICES};
use ringsteer_openim::policy::Policy;
use toml::Spanned;

use super::{
    Config, DEFAULT_MSG_PATH, DEFAULT_PIN_DIR, DEFAULT_SOCKET, Front, Gateway, MAX_MESSAGE_BYTES, MAX_MSG_BYTES,
    MAX_NAME, MAX_SOCKET_PATH, Membership, Metrics, Mode, Msg, Network, Node, OpenIm, Parameter, Peers, Problem, Push,
    Secret, SecretSource, Serve, Service, Webhook, file, service,
};
use crate::push::token::Token;
use crate::ring::{Epoch, Identity, Member, MemberNumber, NodeAddress, Ring, RingError};

/// A problem, and the bytes of the text it is about; none if it is about something outside the text.
pub(super) struct Located {
    pub(super) problem: Problem,
    pub(super) span: Option<Range<usize>>,
}

mod membership;

pub(super) type Checked<T> = Result<T, Located>;

/// The configuration that `file` describes.
pub(super) fn config(file: file::File) -> Checked<Config> {
    let ring = file.ring.map(ring).transpose()?;
    let (membership, bare_names) = match file.membership {
        Some(table) => membership::check(table)?,
        None => (Membership::File { path: None }, true),
    };
    let inline = membership == Membership::File { path: None };
    if inline && ring.is_none() {
        return Err(Located { problem: Problem::NoRing, span: None });
    }
    if let (false, Some(_)) = (inline, &ring) {
        return Err(Located { problem: Problem::TwoRings, span: None });
    }
    let node = node(file.node, bare_names)?;
    if let (Membership::Etcd(_), None) = (&membership, node.address) {
        return Err(Located { problem: Problem::NoNodeAddress, span: None });
    }
    let (current, previous) = secrets(file.secrets)?;
    let services = services(file.services, node.mode)?;
    Ok(Config {
        node,
        membership,
        peers: peers(file.peers)?,
        metrics: Metrics {
            agent: listen("agent", file.metrics.agent, 9600)?,
            gateway: listen("gateway", file.metrics.gateway, 9601)?,
            msg: listen("msg", file.metrics.msg, 9603)?,
        },
        current,
        previous,
        ring,
        openim: openim(file.openim, &services)?,
        services,
        gateway: gateway(file.gateway)?,
        push: push(file.push)?,
        msg: msg(file.msg)?,
        front: front(file.front)?,
    })
}

/// Passes the value to `check`, and locates what it finds.
fn located<T, U, E: Into<Problem>>(value: Spanned<T>, check: impl FnOnce(T) -> Result<U, E>) -> Checked<U> {
    let span = value.span();
    check(value.into_inner()).map_err(|problem| Located { problem: problem.into(), span: Some(span) })
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

fn node(file: file::Node, bare_names: bool) -> Checked<Node> {
    let missing = |key, variable| Located { problem: Problem::NoNodeKey { key, variable }, span: None };
    let identity = if bare_names { Identity::port_optional } else { Identity::new };
    let name = file.name.map(|name| {
        located(name, |name| {
            let good = (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control);
            if good { Ok(name) } else { Err(Problem::NodeName) }
        })
    });
    let name = name.transpose()?;
    let identity = file.identity.map(|text| located(text, identity)).transpose()?;
    let address = file.address.map(|text| located(text, NodeAddress::try_from)).transpose()?;
    Ok(Node {
        name: name.ok_or_else(|| missing("name", "RINGSTEER_NODE_NAME"))?,
        identity: identity.ok_or_else(|| missing("identity", "RINGSTEER_NODE_IDENTITY"))?,
        address,
        interfaces: interfaces(file.interfaces)?,
        pin_dir: absolute("pin_dir", file.pin_dir)?.unwrap_or_else(|| DEFAULT_PIN_DIR.into()),
        socket: socket(file.socket)?,
        tunnel_port: number("tunnel_port", file.tunnel_port, 6080, 1, u16::MAX)?,
        // The upper limit is some 8 GB of kernel memory: beyond it the mistake is more likely than the wish.
        max_flows: number("max_flows", file.max_flows, DEFAULT_MAX_FLOWS, 1, 1 << 26)?,
        mode: file.mode,
        xdp_mode: file.xdp_mode,
        flow_idle_s: number("flow_idle_s", file.flow_idle_s, 8000, 1, u32::MAX)?,
        handshake_slot_shift: number("handshake_slot_shift", file.handshake_slot_shift, 36, 28, 40)?,
    })
}

fn interfaces(list: Spanned<Vec<Spanned<String>>>) -> Checked<Vec<String>> {
    let span = list.span();
    let list = list.into_inner();
    if list.is_empty() {
        return Err(Located { problem: Problem::NoInterfaces, span: Some(span) });
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
        return Err(Located { problem: Problem::SocketPathTooLong(length), span: Some(span) });
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
        None => Err(Located { problem: Problem::NoSecret, span: Some(span) }),
    }
}

fn secret(
    key: &'static str,
    inline: Option<Spanned<String>>,
    (file_key, file): (&'static str, Option<Spanned<PathBuf>>),
) -> Checked<Option<SecretSource>> {
    match (inline, file) {
        (Some(_), Some(file)) => Err(Located { problem: Problem::TwoSecrets { key }, span: Some(file.span()) }),
        (Some(inline), None) => located(inline, |digits| Secret::from_hex(digits.as_bytes(), || format!("`{key}`")))
            .map(|secret| Some(SecretSource::Inline(secret))),
        (None, file) => Ok(absolute(file_key, file)?.map(SecretSource::File)),
    }
}

pub(super) fn ring(table: Spanned<file::Ring>) -> Checked<Ring> {
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
        Located { problem: error.into(), span: Some(span) }
    })
}

fn services(list: Vec<file::Service>, mode: Mode) -> Checked<Vec<Service>> {
    if let Some(beyond) = list.get(MAX_SERVICES) {
        return Err(Located { problem: Problem::TooManyServices(list.len()), span: Some(beyond.name.span()) });
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
                return Err(Located { problem: Problem::ServedWithoutParameter(name), span: Some(name_span) });
            }
            if mode == Mode::Accept && service.serve == Serve::None {
                return Err(Located { problem: Problem::AcceptedByNobody(name), span: Some(name_span) });
            }
            Ok(Service { name, address, parameter, serve: service.serve })
        })
        .collect()
}

fn peers(file: file::Peers) -> Checked<Peers> {
    let span = file.gateway_port.as_ref().or(file.port.as_ref()).map(Spanned::span);
    let peers = Peers {
        port: number("port", file.port, 6081, 1, u16::MAX)?,
        gateway_port: number("gateway_port", file.gateway_port, 6082, 1, u16::MAX)?,
    };
    if peers.port == peers.gateway_port {
        return Err(Located { problem: Problem::OnePeerPort(peers.port), span });
    }
    Ok(peers)
}

/// Where to listen; the empty string says nowhere.
fn listen(key: &'static str, address: Option<Spanned<String>>, default_port: u16) -> Checked<Option<SocketAddr>> {
    let Some(address) = address else { return Ok(Some((Ipv4Addr::LOCALHOST, default_port).into())) };
    located(address, |text| match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(Problem::ListenAddress { key, text }),
    })
}

fn gateway(file: file::Gateway) -> Checked<Gateway> {
    let size = |key, value, default, smallest, largest| -> Checked<usize> {
        Ok(number::<u32>(key, value, default, smallest, largest)? as usize)
    };
    Ok(Gateway {
        max_message_bytes: size("max_message_bytes", file.max_message_bytes, 51_200, 1, MAX_MESSAGE_BYTES)?,
        sessions: size("sessions", file.sessions, 1 << 20, 1, 1 << 26)?,
        sessions_per_user: size("sessions_per_user", file.sessions_per_user, 64, 1, 4096)?,
        logins_per_s: number("logins_per_s", file.logins_per_s, 0, 0, 1_000_000)?,
        queue_messages: size("queue_messages", file.queue_messages, 256, 1, 1 << 20)?,
        queue_bytes: size("queue_bytes", file.queue_bytes, 1 << 20, 1024, 1 << 30)?,
        compression: file.compression.unwrap_or(true),
        grace_s: number("grace_s", file.grace_s, 45, 20, 86_400)?,
        proxy_protocol_from: file
            .proxy_protocol_from
            .into_iter()
            .map(|text| located(text, |text| text.parse::<Network>().map_err(|_| Problem::Network(text))))
            .collect::<Checked<_>>()?,
    })
}

fn openim(table: Option<Spanned<file::OpenIm>>, services: &[Service]) -> Checked<Option<OpenIm>> {
    let is_served = services.iter().any(|service| service.serve == Serve::OpenIm);
    let Some(table) = table else {
        return if is_served { Err(Located { problem: Problem::NoTokenSecret, span: None }) } else { Ok(None) };
    };
    let span = table.span();
    let file = table.into_inner();
    if file.token_secret_files.is_empty() {
        return Err(Located { problem: Problem::NoTokenSecret, span: Some(span) });
    }
    let files = file.token_secret_files.into_iter();
    let files = files.map(|path| absolute("token_secret_files", Some(path)).map(Option::unwrap_or_default));
    let login_policy = file.login_policy.map(|value| {
        let policy = |value: i64| u8::try_from(value).ok().and_then(|number| Policy::try_from(number).ok());
        located(value, |value| policy(value).ok_or(Problem::LoginPolicy(value)))
    });
    let msg_service = file.msg_service.filter(|url| !url.get_ref().is_empty()).map(|url| {
        located(url, |url| {
            let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
            let named = authority.and_then(|rest| rest.parse::<http::uri::Authority>().ok());
            if named.is_some_and(|authority| authority.port().is_some()) {
                Ok(url)
            } else {
                Err(Problem::MsgServiceUrl(url))
            }
        })
    });
    let ms = |ms: u32| Duration::from_millis(ms.into());
    Ok(Some(OpenIm {
        token_secret_files: files.collect::<Checked<_>>()?,
        token_leeway: ms(1000 * number::<u32>("token_leeway_s", file.token_leeway_s, 5, 0, 600)?),
        login_policy: login_policy.transpose()?.unwrap_or_default(),
        msg_service: msg_service.transpose()?,
        msg_token_file: absolute("msg_token_file", file.msg_token_file)?,
        msg_timeout: ms(number::<u32>("msg_timeout_ms", file.msg_timeout_ms, 5000, 10, 60_000)?),
        msg_in_flight: number::<u32>("msg_in_flight", file.msg_in_flight, 4096, 1, 1 << 20)? as usize,
    }))
}

fn push(file: file::Push) -> Checked<Push> {
    let token = |text: String| Token::new(&text).ok_or(Problem::PushToken);
    let tokens = file.tokens.into_iter().map(|text| located(text, token)).collect::<Checked<Vec<_>>>()?;
    let token_file = absolute("token_file", file.token_file)?;
    if file.insecure_no_auth && !(tokens.is_empty() && token_file.is_none()) {
        return Err(Located { problem: Problem::TokensForNothing, span: None });
    }
    Ok(Push {
        tokens,
        token_file,
        insecure_no_auth: file.insecure_no_auth,
        online: file.online,
        window: Duration::from_secs(number::<u32>("window_s", file.window_s, 120, 1, 3600)?.into()),
        deadline: Duration::from_millis(number::<u32>("deadline_ms", file.deadline_ms, 5000, 100, 60_000)?.into()),
        grpc: match file.grpc {
            None => None,
            Some(address) => listen("grpc", Some(address), 0)?,
        },
        grpc_auth: file.grpc_auth,
    })
}

/// What the message service needs of the file.
pub(super) fn msg_alone(file: file::MsgFile) -> Checked<(Msg, Option<SocketAddr>)> {
    Ok((msg(file.msg)?, listen("msg", file.metrics.msg, 9603)?))
}

fn msg(file: file::Msg) -> Checked<Msg> {
    let listen = listen("listen", file.listen.filter(|address| !address.get_ref().is_empty()), 10130)?;
    let push = file.push.filter(|url| !url.get_ref().is_empty()).map(|url| {
        located(url, |url| {
            let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
            let good =
                authority.is_some_and(|rest| rest.parse::<http::uri::Authority>().is_ok_and(|a| a.port().is_some()));
            if good { Ok(url) } else { Err(Problem::PushUrl(url)) }
        })
    });
    Ok(Msg {
        listen: listen.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 10130).into()),
        path: absolute("path", file.path)?.unwrap_or_else(|| DEFAULT_MSG_PATH.into()),
        fsync: file.fsync,
        fsync_interval_ms: number("fsync_interval_ms", file.fsync_interval_ms, 100, 1, 60_000)?,
        push: push.transpose()?,
        push_token_file: absolute("push_token_file", file.push_token_file)?,
        token_file: absolute("token_file", file.token_file)?,
        max_message_bytes: number::<u32>("max_message_bytes", file.max_message_bytes, 128 << 10, 1, MAX_MSG_BYTES)?
            as usize,
    })
}

fn front(file: file::Front) -> Checked<Front> {
    let file::Front { http, grpc, grpc_auth, metrics, service, deadline_ms, webhook_url, .. } = file;
    let address = |key, address: Option<Spanned<String>>| match address {
        None => Ok(None),
        some => listen(key, some, 0),
    };
    let url = |text: String| {
        let url = text.parse::<hyper::Uri>().ok();
        let good = |url: &hyper::Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
        url.filter(good).ok_or(Problem::WebhookUrl(text))
    };
    let webhook_url = webhook_url.filter(|url| !url.get_ref().is_empty());
    let webhook = Webhook {
        url: webhook_url.map(|text| located(text, url)).transpose()?,
        token_file: absolute("webhook_token_file", file.webhook_token_file)?,
        secret_file: absolute("webhook_secret_file", file.webhook_secret_file)?,
        attempts: number("webhook_attempts", file.webhook_attempts, 8, 1, 100)?,
        timeout: Duration::from_millis(
            number::<u32>("webhook_timeout_ms", file.webhook_timeout_ms, 5000, 10, 60_000)?.into(),
        ),
        queue: number::<u32>("webhook_queue", file.webhook_queue, 10_000, 1, 1_000_000)? as usize,
    };
    Ok(Front {
        http: address("http", http)?,
        grpc: address("grpc", grpc)?,
        grpc_auth,
        metrics: listen("metrics", metrics, 9602)?,
        service: service.map(|name| located(name, service::name)).transpose()?,
        deadline: Duration::from_millis(number::<u32>("deadline_ms", deadline_ms, 8000, 100, 60_000)?.into()),
        webhook,
    })
}
