//! A real etcd on loopback, and a way to it that can be cut.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use etcd_client::Client;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// How long etcd may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// An etcd of one member. Killed when dropped.
pub(super) struct Server {
    directory: tempfile::TempDir,
    process: Child,
    clients: SocketAddr,
    peers: SocketAddr,
    extra: Vec<String>,
}

/// What becomes of the bytes on a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// They pass.
    Open,
    /// Connections are ended, and new ones as well.
    Closed,
    /// They stay where they are, without a word.
    Silent,
    /// Those that etcd sends stay where they are.
    Deaf,
}

/// Passes connections on to etcd.
pub(super) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    task: JoinHandle<()>,
}

// === impl Server ===

impl Server {
    /// An empty one, ready.
    pub(super) fn start() -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), &[])
    }

    /// One with these arguments besides, in which files of `directory` may be named.
    pub(super) fn start_with(directory: tempfile::TempDir, extra: &[String]) -> Self {
        // A port that is free now may not be a moment later: others run their tests as well.
        for _ in 0..10 {
            let [clients, peers] = [(); 2].map(|()| free_address());
            if let Some(process) = run(&directory.path().join("data"), clients, peers, extra) {
                return Self { directory, process, clients, peers, extra: extra.to_vec() };
            }
        }
        panic!("etcd does not start; it is in Debian's package etcd-server");
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}", scheme(&self.extra), self.clients)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.clients
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect([self.url()], None).await.unwrap()
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, with the data it has.
    pub(super) fn restart(&mut self) {
        self.process =
            run(&self.path("data"), self.clients, self.peers, &self.extra).expect("its ports are free again");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_address() -> SocketAddr {
    StdListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

fn scheme(arguments: &[String]) -> &'static str {
    if arguments.iter().any(|argument| argument.starts_with("--cert-file")) { "https" } else { "http" }
}

/// Starts etcd and waits until it serves; none if it ends before.
fn run(data: &std::path::Path, clients: SocketAddr, peers: SocketAddr, extra: &[String]) -> Option<Child> {
    let (clients, peers) = (format!("{}://{clients}", scheme(extra)), format!("http://{peers}"));
    let mut process = Command::new("etcd")
        .args(["--name", "test", "--data-dir"])
        .arg(data)
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("test={peers}")])
        // It elects itself soon, and grants leases of one second; by default two are the least.
        .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
        .args(extra)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcd, from Debian's package etcd-server");
    let (ready, is_ready) = mpsc::channel();
    let log = BufReader::new(process.stderr.take().expect("it is piped"));
    std::thread::spawn(move || {
        // Read to its end, or etcd would stop when the pipe is full.
        for line in log.lines().map_while(Result::ok) {
            if line.contains("ready to serve client requests") || line.contains("serving client traffic") {
                let _ = ready.send(());
            }
        }
    });
    if is_ready.recv_timeout(READY).is_ok() {
        return Some(process);
    }
    let _ = process.kill();
    let _ = process.wait();
    None
}

// === impl Proxy ===

impl Proxy {
    pub(super) async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, to) = (listener.local_addr().unwrap(), server.address());
        let (way, watched) = watch::channel(Way::Open);
        Self { address, way, task: tokio::spawn(accept(listener, to, watched)) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, way: watch::Receiver<Way>) {
    while let Ok((client, _)) = listener.accept().await {
        if *way.borrow() != Way::Closed
            && let Ok(server) = TcpStream::connect(to).await
        {
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            let (up, down, mut closed) = (way.clone(), way.clone(), way.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = pump(from_client, to_server, up, |way| way != Way::Silent) => {}
                    () = pump(from_server, to_client, down, |way| way == Way::Open) => {}
                    _ = closed.wait_for(|way| *way == Way::Closed) => {}
                }
            });
        }
    }
}

/// Passes bytes on whenever the way `is_open`, until one side ends.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    is_open: impl Fn(Way) -> bool,
) {
    let mut buffer = vec![0; 16 << 10];
    while way.wait_for(|way| is_open(*way)).await.is_ok() {
        tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
                _ => return,
            },
            _ = way.changed() => {}
        }
    }
}
