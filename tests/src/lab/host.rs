//! A host of the lab: a network namespace with one address of each family, a directory, and whatever runs in it.

use super::addresses::{self, Addresses};
use super::nursery::Nursery;
use super::process::Process;
use super::runtime::HostRuntime;
use super::{Family, namespace};
use anyhow::{Context, Result};
use std::fmt;
use std::fs::{self, File};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A handle on a host; clones are handles on the same one.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    namespace_name: String,
    router_interface: String,
    namespace: Arc<File>,
    addresses: Addresses,
    run_dir: PathBuf,
    pin_dir: PathBuf,
    nursery: Nursery,
    processes: Arc<Mutex<Vec<Process>>>,
    runtime: Mutex<Option<HostRuntime>>,
}

// === impl Host ===

impl Host {
    /// Opens the namespace of a host and makes its directories.
    pub(super) fn open(
        lab: &super::state::State,
        name: &str,
        router_interface: &str,
        addresses: Addresses,
        nursery: Nursery,
        processes: Arc<Mutex<Vec<Process>>>,
    ) -> Result<Self> {
        let namespace_name = format!("{}-{name}", lab.name);
        let run_dir = lab.directory().join(name);
        let pin_dir = lab.bpf_directory().join(name);
        for directory in [&run_dir, &pin_dir] {
            fs::create_dir(directory).with_context(|| format!("creating {}", directory.display()))?;
        }
        let namespace = Arc::new(namespace::open(&namespace_name)?);
        let name = name.to_owned();
        let runtime = Mutex::new(None);
        let router_interface = router_interface.to_owned();
        let inner = Inner {
            name,
            namespace_name,
            router_interface,
            namespace,
            addresses,
            run_dir,
            pin_dir,
            nursery,
            processes,
            runtime,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// `node0`, `client1`, `router`, `pusher`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The name for `ip netns exec`.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace_name
    }

    /// The router's end of this host's link; for the router itself its bridge.
    pub(super) fn router_interface(&self) -> &str {
        &self.inner.router_interface
    }

    /// The host's own addresses; for the router those on the side of the fleet.
    pub fn addresses(&self) -> Addresses {
        self.inner.addresses
    }

    /// The host's own address of this family.
    pub fn address(&self, family: Family) -> IpAddr {
        self.addresses().of(family)
    }

    /// The host's own IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        self.addresses().v4
    }

    /// The host's own IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        self.addresses().v6
    }

    /// The address of this family that the router sends here and that the kernel of this client host does not know, for
    /// packets made by hand.
    ///
    /// # Panics
    /// On a host that is not a client.
    pub fn spare_address(&self, family: Family) -> IpAddr {
        addresses::spare(self.addresses()).of(family)
    }

    /// A directory for configuration, sockets and logs; gone with the lab.
    pub fn run_dir(&self) -> &Path {
        &self.inner.run_dir
    }

    /// A directory in a bpffs; gone with the lab, and every pin in it.
    pub fn pin_dir(&self) -> &Path {
        &self.inner.pin_dir
    }

    /// Runs a closure on a thread inside the host and gives its result. Sockets that it opens stay on the host when
    /// they are used elsewhere. A child that it spawns is on the host, too, but only those of
    /// [`spawn_command`](Self::spawn_command) end with the lab.
    ///
    /// # Panics
    /// If the closure does, or the thread cannot enter the namespace.
    pub fn run<T: Send>(&self, closure: impl FnOnce() -> T + Send) -> T {
        let enter_and_run = || {
            namespace::enter(&*self.inner.namespace)
                .unwrap_or_else(|errno| panic!("entering the namespace {}: {errno}", self.namespace()));
            closure()
        };
        std::thread::scope(|scope| match scope.spawn(enter_and_run).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs a future to its end on the host, with a tokio runtime of its own. Sockets must be opened by the future:
    /// those it brings along stay where they were opened.
    ///
    /// # Panics
    /// As [`run`](Self::run), or if there is no file descriptor left for a runtime.
    pub fn block_on<F: Future<Output: Send> + Send>(&self, future: F) -> F::Output {
        self.run(|| super::runtime::current_thread().block_on(future))
    }

    /// Spawns a task on the host's own thread and runtime, which is started when first used and ends with the lab.
    /// The handle can be awaited anywhere.
    ///
    /// # Errors
    /// If the thread cannot be started or cannot enter the namespace.
    pub fn spawn<F: Future<Output: Send> + Send + 'static>(
        &self,
        future: F,
    ) -> Result<tokio::task::JoinHandle<F::Output>> {
        let mut runtime = self.inner.runtime.lock().expect("no one panics with the lock");
        if runtime.is_none() {
            *runtime = Some(HostRuntime::start(self.name(), self.inner.namespace.clone())?);
        }
        Ok(runtime.as_ref().expect("just made").spawn(future))
    }

    /// Starts a process on the host. It is called `name`, logs to `<name>.log` in the run directory and dies with the
    /// lab, at the latest with us.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn_command(&self, name: &str, command: Command) -> Result<Process> {
        let log_path = self.run_dir().join(format!("{name}.log"));
        let name = format!("{name}@{}", self.name());
        let process =
            Process::start(&name, command, self.inner.namespace.clone(), log_path, self.inner.nursery.clone())?;
        self.inner.processes.lock().expect("no one panics with the lock").push(process.clone());
        Ok(process)
    }

    /// Runs a tool on the host to its end and gives its standard output.
    ///
    /// # Errors
    /// If it cannot be started or fails; the message carries its standard error.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run(|| super::command::run(program, arguments)).with_context(|| format!("on {}", self.name()))
    }

    /// Sets a value below `/proc/sys` on the host.
    ///
    /// # Errors
    /// If the kernel has none of that name or refuses the value.
    pub fn set_sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.set_sysctls(&[(path, value)])
    }

    /// Sets values below `/proc/sys` on the host.
    ///
    /// # Errors
    /// As [`set_sysctl`](Self::set_sysctl); the first failure ends it.
    pub fn set_sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(path, value)| {
                fs::write(Path::new("/proc/sys").join(path), value)
                    .with_context(|| format!("setting {path} to {value} on {}", self.name()))
            })
        })
    }

    /// Ends the host's runtime, and with it all its tasks.
    pub(super) fn stop_runtime(&self) {
        let runtime = self.inner.runtime.lock().expect("no one panics with the lock").take();
        drop(runtime);
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({} {})", self.namespace(), self.addresses())
    }
}
