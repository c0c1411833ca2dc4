//! Putting the programs onto interfaces, and a newer version in the place of an older one.
//!
//! Each interface has two pinned links, `steer-<mode>-<interface>` and, but for mode "accept", `admit-<interface>`. A link that is pinned
//! already gets the new program in one step (`BPF_LINK_UPDATE`): every packet is seen by the old one or the new one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
    xdp::XdpLink,
};

use super::{Dataplane, maps::PINNED, pins, privileges};

/// How the XDP program may be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// Behind it.
    Generic,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Native, Self::Generic];

    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    fn flag(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// An interface the programs run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// How `steer` is attached.
    pub mode: Mode,
    /// Whether an older version was replaced in place.
    pub replaced: bool,
}

/// The name of a link's pin. A BPF file system allows no dots.
fn steer_pin(interface: &str, mode: Mode) -> String {
    format!("steer-{}-{}", mode.name(), interface.replace('.', "_"))
}

fn admit_pin(interface: &str) -> String {
    format!("admit-{}", interface.replace('.', "_"))
}

impl Dataplane {
    /// Attaches the programs to every interface, in the first of `modes` that works, and pins the links. Interfaces
    /// that were attached before and are not named are let go.
    ///
    /// # Errors
    /// Says which interface and why. What this call attached newly is off again then; what ran before runs on.
    pub fn attach(&mut self, interfaces: &[String], modes: &[Mode]) -> Result<Vec<Attached>> {
        self.attach_all(interfaces, modes).map_err(|error| privileges::explained(error, privileges::AGENT))
    }

    fn attach_all(&mut self, interfaces: &[String], modes: &[Mode]) -> Result<Vec<Attached>> {
        let mut fresh: Vec<(FdLink, PathBuf)> = Vec::new();
        let mut attached = Vec::new();
        for interface in interfaces {
            if let Some(mode) = self.replace(interface, &mut fresh)? {
                attached.push(Attached { interface: interface.clone(), mode, replaced: true });
                continue;
            }
            // `admit` first: from its first packet on, `steer` counts on it.
            let admit = self.attach_admit(interface)?;
            let (steer, mode) = self.attach_steer(interface, modes)?;
            fresh.extend(admit);
            fresh.push((steer, self.pin_dir.join(steer_pin(interface, mode))));
            attached.push(Attached { interface: interface.clone(), mode, replaced: false });
        }
        // Until here, links not pinned yet detach when dropped.
        for (link, path) in fresh {
            remove(&path)?;
            link.pin(&path).with_context(|| format!("cannot pin {}", path.display()))?;
        }
        let wanted: Vec<String> = attached
            .iter()
            .flat_map(|one| {
                let admit = self.admit.is_some().then(|| admit_pin(&one.interface));
                [steer_pin(&one.interface, one.mode)].into_iter().chain(admit)
            })
            .collect();
        for path in link_pins(&self.pin_dir)? {
            if !wanted.iter().any(|name| path.ends_with(name)) {
                remove(&path)?;
            }
        }
        // Programs that were pinned for an earlier run, and replaced just now.
        for path in pins::programs(&self.pin_dir)? {
            if !self.program_pins.contains(&path) {
                remove(&path)?;
            }
        }
        Ok(attached)
    }

    /// Puts the new programs into the links of an earlier run on this interface. `None` if there are none, or if they
    /// have outlived the interface they were made for. An `admit` that was not there is attached and added to `fresh`.
    fn replace(&mut self, interface: &str, fresh: &mut Vec<(FdLink, PathBuf)>) -> Result<Option<Mode>> {
        for mode in Mode::ALL {
            let Some(steer) = open(&self.pin_dir.join(steer_pin(interface, mode)))? else { continue };
            let replaced = self.replace_admit(interface).and_then(|admit| {
                self.replace_steer(steer)?;
                Ok(admit)
            });
            return match replaced {
                Ok(admit) => {
                    fresh.extend(admit);
                    Ok(Some(mode))
                }
                Err(error) if outlived(&error) => Ok(None),
                Err(error) => Err(error).with_context(|| format!("cannot replace the programs on {interface}")),
            };
        }
        Ok(None)
    }

    fn replace_steer(&mut self, link: FdLink) -> Result<()> {
        let program = &mut self.steer;
        let id = program.attach_to_link(XdpLink::try_from(link)?)?;
        // Taken back, so that it does not hang on this process; the pin holds it.
        program.take_link(id)?;
        Ok(())
    }

    /// The link of `admit` if it is a new one, with where it is to be pinned.
    fn replace_admit(&mut self, interface: &str) -> Result<Option<(FdLink, PathBuf)>> {
        let Some(program) = &mut self.admit else { return Ok(None) };
        let Some(link) = open(&self.pin_dir.join(admit_pin(interface)))? else { return self.attach_admit(interface) };
        let id = program.attach_to_link(SchedClassifierLink::try_from(link)?)?;
        program.take_link(id)?;
        Ok(None)
    }

    /// The link, and where it is to be pinned; none without the program.
    fn attach_admit(&mut self, interface: &str) -> Result<Option<(FdLink, PathBuf)>> {
        let Some(program) = &mut self.admit else { return Ok(None) };
        let attach = |program: &mut SchedClassifier| -> Result<FdLink> {
            let options = TcAttachOptions::TcxOrder(LinkOrder::first());
            let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
            Ok(program.take_link(id)?.try_into()?)
        };
        let link = attach(program)
            .map_err(|error| no_interface(interface, error))
            .with_context(|| format!("cannot attach `admit` to {interface}"))?;
        Ok(Some((link, self.pin_dir.join(admit_pin(interface)))))
    }

    fn attach_steer(&mut self, interface: &str, modes: &[Mode]) -> Result<(FdLink, Mode)> {
        let program = &mut self.steer;
        let mut refusals = Vec::new();
        for &mode in modes {
            let attach = |program: &mut Xdp| -> Result<FdLink> {
                let id = program.attach(interface, mode.flag())?;
                Ok(program.take_link(id)?.try_into()?)
            };
            match attach(program) {
                Ok(link) => return Ok((link, mode)),
                Err(error) => refusals.push(format!("{}: {:#}", mode.name(), no_interface(interface, error))),
            }
        }
        bail!(
            "cannot attach `steer` to {interface} ({}); another XDP program there shows in `ip link show {interface}`",
            refusals.join("; ")
        )
    }
}

/// Whether an update failed because the link's interface is gone.
fn outlived(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.raw_os_error() == Some(libc::ENOLINK))
}

/// The error, in plain words if the interface does not exist.
fn no_interface(interface: &str, error: anyhow::Error) -> anyhow::Error {
    if nix::net::if_::if_nametoindex(interface).is_err() {
        return anyhow::anyhow!("there is no interface `{interface}` here; `ip link` lists those there are");
    }
    error
}

/// The pinned link at `path`, if there is one.
fn open(path: &Path) -> Result<Option<FdLink>> {
    match PinnedLink::from_pin(path) {
        Ok(link) => Ok(Some(link.into())),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot open the pinned link {}", path.display())),
    }
}

/// All links pinned in a directory.
pub(super) fn link_pins(directory: &Path) -> Result<Vec<PathBuf>> {
    pins::starting_with(directory, &["steer-", "admit-"])
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Takes everything off: links first, so that no program runs without its maps, then the maps. Returns what was removed.
pub fn uninstall(pin_dir: &Path) -> Result<Vec<PathBuf>> {
    if !pin_dir.exists() {
        return Ok(Vec::new());
    }
    let mut removed = link_pins(pin_dir)?;
    // `steer` before `admit`, the reverse of attaching.
    removed.sort_by_key(|path| std::cmp::Reverse(path.clone()));
    removed.extend(pins::programs(pin_dir)?);
    removed.extend(PINNED.iter().map(|name| pin_dir.join(name)).filter(|path| path.exists()));
    for path in &removed {
        remove(path)?;
    }
    // Somebody else's files stay, and the directory with them.
    let _ = fs::remove_dir(pin_dir);
    Ok(removed)
}
