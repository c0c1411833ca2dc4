//! What can be wrong with the configuration, and how to mend it.
//!
//! These messages are all an operator sees, so their words are tested like any other interface.

use std::{
    fmt, io,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use ringsteer_ebpf::layout::service::{MAX_PARAMETER, MAX_SERVICES};

use super::{MAX_CONFIG_BYTES, MAX_NAME, MAX_SOCKET_PATH, Source, front::MAX_WEBHOOK_SECRET};
use crate::ring::{IdentityError, MemberNumberError, NodeAddressError, RingError};

/// The configuration cannot be used: where, what is wrong, and how to mend it. Trying again without a change will not
/// help.
#[derive(Debug)]
pub struct ConfigError {
    path: Option<PathBuf>,
    /// Counted from 1.
    line: Option<usize>,
    problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be opened or read.
    #[error("cannot read the configuration: {0}; write one there, or name another file")]
    Unreadable(io::Error),
    /// The file is no configuration.
    #[error("the configuration is larger than {MAX_CONFIG_BYTES} bytes; is this the right file?")]
    FileTooLarge,
    /// Not TOML, or a key that is unknown, missing or of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// `node.name` cannot be shown.
    #[error("`name` must be 1 to {MAX_NAME} bytes of text on one line")]
    NodeName,
    /// A number that names no member.
    #[error(transparent)]
    MemberNumber(#[from] MemberNumberError),
    /// A value that every node needs.
    #[error("the `[node]` table has no `{key}`; set it there, or {variable} in the environment")]
    NoNodeKey {
        /// Which.
        key: &'static str,
        /// What may be set instead.
        variable: &'static str,
    },
    /// Something that the environment or the command line says is wrong.
    #[error("{source_of}: {problem}")]
    Override {
        /// What says it.
        source_of: Source,
        /// What is wrong with it.
        problem: Box<Problem>,
    },
    /// Not a URL of a service that pushes.
    #[error("`push = {0:?}` must be a URL such as \"http://127.0.0.1:10140\", or \"\" for none")]
    PushUrl(String),
    /// The file with a token cannot be read.
    #[error("cannot read the token in {path}: {error}; create it with the token on one line, readable to this process", path = path.display())]
    UnreadableToken {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that holds no token.
    #[error("{path} must hold a token: a line of 8 to 512 characters that are no spaces", path = path.display())]
    MalformedToken {
        /// Which.
        path: PathBuf,
    },
    /// The node cannot announce where it is.
    #[error(
        "with etcd each node announces where it is: set `address` in `[node]`, or RINGSTEER_NODE_ADDRESS in the \
         environment, to this node's own address"
    )]
    NoNodeAddress,
    /// No place that a ring could come from.
    #[error("there is no ring; list its members in `[ring]`, or say in `[membership]` where they are kept")]
    NoRing,
    /// Two places that a ring could come from.
    #[error(
        "`[ring]` lists members, and `[membership]` names another place for them; keep one, for two rings are one too many"
    )]
    TwoRings,
    /// A key that the chosen source of membership has no use for.
    #[error("`{key}` means nothing with `source = \"{source_name}\"`; remove it, or choose the source it belongs to")]
    ForeignKey {
        /// Which.
        key: &'static str,
        /// The source.
        source_name: &'static str,
    },
    /// A key that the chosen source of membership cannot do without.
    #[error("`source = \"{source_name}\"` needs `{key}`: {meaning}")]
    MissingKey {
        /// Which.
        key: &'static str,
        /// The source.
        source_name: &'static str,
        /// What it says.
        meaning: &'static str,
    },
    /// Not a URL of etcd.
    #[error("the endpoint {0:?} must be a URL such as \"http://198.51.100.5:2379\" or \"https://etcd.example:2379\"")]
    Endpoint(String),
    /// Certificates, and an endpoint that would not use them.
    #[error(
        "the endpoint {0:?} would be talked to in the clear although there is a `ca_file`; write https, or remove that"
    )]
    PlainEndpoint(String),
    /// A prefix that would mix our keys with others.
    #[error("the prefix {0:?} must begin and end with a slash, such as \"/ringsteer/\"")]
    Prefix(String),
    /// A name that Kubernetes would not take.
    #[error("{0:?} is no name of a Kubernetes object: lower-case letters, digits, `-` and `.`, at most 253 of them")]
    KubernetesName(String),
    /// Not an address and port to listen on.
    #[error(
        "`{key} = {text:?}` must be an address and a port to listen on, such as \"127.0.0.1:9600\", or \"\" for none"
    )]
    ListenAddress {
        /// Which.
        key: &'static str,
        /// As written.
        text: String,
    },
    /// One port for two kinds of links.
    #[error(
        "agents and gateways cannot both have port {0} for their links; choose another `gateway_port` in `[peers]`"
    )]
    OnePeerPort(u16),
    /// Nobody could push, or anybody.
    #[error(
        "pushes need a token: set `token_file` in `[push]` to a file that holds one (`openssl rand -hex 32` makes one), or \
         `insecure_no_auth = true` if anybody who can reach this node may push"
    )]
    NoPushToken,
    /// Not a token.
    #[error("a token for pushing is 16 to 512 characters without spaces, as they stand in a header")]
    PushToken,
    /// Tokens, and nobody asks for one.
    #[error("`[push]` has tokens, and `insecure_no_auth` lets everybody push; remove one of the two")]
    TokensForNothing,
    /// The file with the tokens cannot be read.
    #[error("cannot read the tokens in {}: {error}; create it with a token a line, readable to this process", path.display())]
    UnreadableTokens {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not a network.
    #[error(
        "`proxy_protocol_from` has {0:?}, which is no network; write addresses and prefixes such as \"198.51.100.0/24\", with \
         nothing but zeros behind the prefix"
    )]
    Network(String),
    /// Nobody could log in, or anybody.
    #[error(
        "OpenIM's clients show tokens: set `token_secret_files` in `[openim]` to files that hold the secret with which \
         OpenIM signs them"
    )]
    NoTokenSecret,
    /// A policy that there is not.
    #[error("`login_policy = {0}` must be 0, 1, 4 or 5")]
    LoginPolicy(i64),
    /// Not the URL of a message service.
    #[error("`msg_service = {0:?}` must be a URL such as \"http://127.0.0.1:10130\", or \"\" for none")]
    MsgServiceUrl(String),
    /// The file with a secret or token cannot be read.
    #[error("cannot read {}: {error}; create it with the secret on one line, readable to this process", path.display())]
    UnreadableTokenSecret {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file without a secret.
    #[error("{} must hold a secret, on one line of at most 4096 bytes", .0.display())]
    EmptySecret(PathBuf),
    /// Not a place where a webhook can be.
    #[error("the webhook's url {0:?} must be one such as \"https://notify.example/offline\"")]
    WebhookUrl(String),
    /// Not a secret to sign with.
    #[error("the secret of a webhook is 1 to {MAX_WEBHOOK_SECRET} bytes")]
    WebhookSecret,
    /// The programs would attach nowhere.
    #[error("`interfaces` is empty; list those on which clients and nodes reach this one, such as [\"eth0\"]")]
    NoInterfaces,
    /// A string that Linux takes for no interface.
    #[error("{0:?} is no interface name; `ip link` lists those there are")]
    InterfaceName(String),
    /// An interface twice.
    #[error("the interface {0} is listed twice; remove one")]
    DuplicateInterface(String),
    /// A path whose meaning would hang on the working directory.
    #[error("`{key} = {path:?}` must be an absolute path")]
    RelativePath {
        /// Which.
        key: &'static str,
        /// As written.
        path: PathBuf,
    },
    /// A path that does not fit the kernel's socket address.
    #[error("`socket` is {0} bytes long, and the kernel takes {MAX_SOCKET_PATH}; choose a shorter path")]
    SocketPathTooLong(usize),
    /// A number outside its limits.
    #[error("`{key} = {value}` is out of range; it goes from {} to {}", range.0, range.1)]
    OutOfRange {
        /// Which.
        key: &'static str,
        /// As written.
        value: i64,
        /// Smallest and largest.
        range: (i64, i64),
    },
    /// Neither a secret nor a file.
    #[error(
        "there is no secret; set `current_file` to a file that holds 32 hexadecimal digits, the same on every node \
         (`openssl rand -hex 16` makes them)"
    )]
    NoSecret,
    /// A secret and a file.
    #[error("`{key}` and `{key}_file` are both set; keep one")]
    TwoSecrets {
        /// `current` or `previous`.
        key: &'static str,
    },
    /// A secret that is none. It is not shown: most of it may be right.
    #[error("{place} holds {digits} where a secret has 32 hexadecimal digits (`openssl rand -hex 16` makes one)")]
    MalformedSecret {
        /// The key, or the file.
        place: String,
        /// What is there instead, by number and kind.
        digits: String,
    },
    /// The file with the secret cannot be read.
    #[error("cannot read the secret in {path}: {error}; create it with 32 hexadecimal digits, readable to this process", path = path.display())]
    UnreadableSecret {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A member's identity is wrong.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A member's address is wrong.
    #[error(transparent)]
    NodeAddress(#[from] NodeAddressError),
    /// The members do not make a ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// More than the map holds.
    #[error("there are {0} services, and a node has room for {MAX_SERVICES}; remove some")]
    TooManyServices(usize),
    /// A name that logs and metrics could not carry.
    #[error("the service name {0:?} must be 1 to 64 letters, digits, `-`, `_` or `.`")]
    ServiceName(String),
    /// One name for two services.
    #[error("two services are called {0:?}; rename one")]
    DuplicateServiceName(String),
    /// Not an address and a port.
    #[error(
        "the service address {0:?} must be a virtual address and a TCP port, such as \"192.0.2.1:10001\" or \
         \"[2001:db8::1]:10001\""
    )]
    ServiceAddress(String),
    /// One address and port for two services.
    #[error("the services {first:?} and {second:?} share the address {address}; change one")]
    DuplicateServiceAddress {
        /// The address and port.
        address: SocketAddr,
        /// Who has it first.
        first: String,
        /// Who has it again.
        second: String,
    },
    /// A parameter that the kernel program cannot look for.
    #[error(
        "the parameter {0:?} must be 1 to {MAX_PARAMETER} letters, digits, `-`, `_`, `.` or `~`, as it stands in the \
         request line"
    )]
    Parameter(String),
    /// Our gateway would not know the user.
    #[error(
        "the service {0:?} is served by this gateway, which needs a `parameter` that names the user: `sendID` for \
         websockets, `recvID` for pushes"
    )]
    ServedWithoutParameter(String),
    /// Connections of it could not be handed over.
    #[error(
        "the service `{0}` is served by somebody else, and with `mode = \"accept\"` only ringsteer's own gateway can hand \
         its connections to their owners; give it a `serve`, or use `mode = \"late-binding\"`"
    )]
    AcceptedByNobody(String),
}

// === impl ConfigError ===

impl ConfigError {
    /// An error at a place in the text.
    pub(super) fn at(text: &str, span: Option<Range<usize>>, problem: Problem) -> Self {
        let line = span.and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
        Self { path: None, line, problem }
    }

    /// An error about something outside the text.
    pub(super) fn elsewhere(problem: Problem) -> Self {
        Self { path: None, line: None, problem }
    }

    /// The same, in that file.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }

    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// On which line, counted from 1, if it is on one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.line) {
            (Some(path), Some(line)) => write!(f, "{}, line {line}: ", path.display())?,
            (Some(path), None) => write!(f, "{}: ", path.display())?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        self.problem.fmt(f)
    }
}

// The problem is already in the message: naming it as the source as well would print it twice.
impl std::error::Error for ConfigError {}
