//! Taking the services' addresses, and accepting what the kernel has admitted.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::TcpMaxSeg};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::sleep,
};

use super::{
    Shared,
    http::Connection,
    push,
    websocket::{self, Door},
};
use crate::{
    config::{ConfigError, Mode, Node, Parameter, Serve, Service},
    segment_size,
};

/// Connections the kernel may have ready before we accept them. Many: after a node's failure its clients all come at
/// once.
const BACKLOG: u32 = 4096;

/// How long to leave a listener alone that cannot accept, for want of file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Nobody could connect.
    #[error("no service is served by this gateway; give one of them `serve = \"websocket\"` or `serve = \"push\"`")]
    NothingToServe,
    /// Somebody else listens there.
    #[error("service {service}: another program listens on {address}; stop it, or choose another port")]
    InUse {
        /// The service.
        service: String,
        /// Its address.
        address: SocketAddr,
    },
    /// The virtual address is missing.
    #[error(
        "service {service}: this host does not have the address {}; add it with \
         `ip address add {}/{} dev lo`",
        address.ip(), address.ip(), if address.is_ipv4() { 32 } else { 128 }
    )]
    NotOurAddress {
        /// The service.
        service: String,
        /// Its address.
        address: SocketAddr,
    },
    /// A service of ours without a parameter; a checked configuration has none.
    #[error("service {0}: a `parameter` must say where the user id is, such as `sendID`")]
    NoParameter(String),
    /// In mode "accept" clients are told how large their segments may be, and that is not known.
    #[error("service {0}: {1:#}")]
    SegmentSize(String, anyhow::Error),
    /// The fleet secret or the tokens for pushing are not there.
    #[error(transparent)]
    Secret(#[from] ConfigError),
    /// The system refused.
    #[error("service {service}: cannot listen on {address}: {error}")]
    Io {
        /// The service.
        service: String,
        /// Its address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// A service whose address we have taken.
#[derive(Debug)]
pub(super) struct Listener {
    service: Service,
    parameter: Parameter,
    address: SocketAddr,
    listener: TcpListener,
}

impl BindError {
    fn of(service: &str, address: SocketAddr, error: io::Error) -> Self {
        let service = service.to_owned();
        match error.kind() {
            ErrorKind::AddrInUse => Self::InUse { service, address },
            ErrorKind::AddrNotAvailable => Self::NotOurAddress { service, address },
            _ => Self::Io { service, address, error },
        }
    }
}

impl Listener {
    /// Takes the service's address.
    pub(super) fn bind(service: &Service, node: &Node) -> Result<Self, BindError> {
        let parameter = service.parameter.clone().ok_or_else(|| BindError::NoParameter(service.name.clone()))?;
        let mss = match node.mode {
            Mode::LateBinding => None,
            Mode::Accept => Some(
                segment_size::of(service.address.ip(), &node.interfaces)
                    .map_err(|error| BindError::SegmentSize(service.name.clone(), error))?,
            ),
        };
        let (listener, address) =
            listen(service.address, mss).map_err(|error| BindError::of(&service.name, service.address, error))?;
        Ok(Self { service: service.clone(), parameter, address, listener })
    }

    /// What whoever serves its clients has to know.
    pub(super) fn door(&self) -> Door {
        door(&self.service, &self.parameter)
    }

    /// The service as configured.
    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// The address taken.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until the gateway stops; each connection becomes a task.
    pub(super) async fn accept(self, shared: Arc<Shared>) {
        let Self { service, parameter, address, listener } = self;
        tracing::info!("service {}: listening on {address}", service.name);
        let door = door(&service, &parameter);
        let stopping = shared.stopping.clone();
        loop {
            let accepted = tokio::select! {
                () = stopping.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Frames are small and somebody waits for each.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!("{peer}: gone before it was accepted: {error}");
                        continue;
                    }
                    let connection = Connection::new(stream, peer);
                    let (shared, door) = (Arc::clone(&shared), door.clone());
                    match service.serve {
                        Serve::Websocket | Serve::OpenIm => {
                            let serve = websocket::serve(connection, door, Arc::clone(&shared));
                            start(&shared, peer, address, serve);
                        }
                        Serve::Push => {
                            let serve = push::serve(connection, door.parameter, Arc::clone(&shared));
                            start(&shared, peer, address, serve);
                        }
                        Serve::None => unreachable!("the gateway listens on services of its own only"),
                    }
                }
                Err(error) => {
                    tracing::warn!("service {}: cannot accept: {error}", service.name);
                    tokio::select! {
                        () = stopping.cancelled() => return,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }
}

/// Starts the task of a connection. In mode "accept" the agent comes first.
fn start(
    shared: &Arc<Shared>,
    client: SocketAddr,
    service: SocketAddr,
    serve: impl Future<Output = ()> + Send + 'static,
) {
    match shared.accepted.clone() {
        None => shared.tasks.spawn(serve),
        Some(accepted) => shared.tasks.spawn(async move {
            accepted.tell(client, service).await;
            serve.await;
        }),
    };
}

/// What whoever serves a service's clients has to know.
fn door(service: &Service, parameter: &Parameter) -> Door {
    Door { service: service.name.as_str().into(), parameter: parameter.as_str().into(), serve: service.serve }
}

/// Takes the address at which OpenIM's services call.
pub(super) fn bind_rpc(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address, None).map(|(listener, _)| listener).map_err(|error| BindError::of("OpenIM's gRPC", address, error))
}

/// Listens; clients are told to send segments of at most `mss` bytes, TCP options included.
fn listen(address: SocketAddr, mss: Option<u16>) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A gateway that restarts must not wait for its predecessor's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    if let Some(mss) = mss {
        // Before it listens: that is when the sockets it accepts inherit it.
        setsockopt(&socket, TcpMaxSeg, &mss.into())?;
    }
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
