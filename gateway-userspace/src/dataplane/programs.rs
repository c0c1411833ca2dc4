//! Loading the programs, or finding them loaded, with the maps of an earlier run adopted.

use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use aya_obj::programs::XdpAttachType;
use ringsteer_ebpf::layout::flow::MAX_DIALLING;

use super::{
    btf,
    maps::{Maps, PINNED},
    object,
    pins::{self, Make, Pins},
    privileges,
};

/// What the programs need to know at load time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where maps, programs and links are pinned: a directory on a BPF file system.
    pub pin_dir: PathBuf,
    /// Most flows the table can hold; counts only when the table is created.
    pub max_flows: u32,
    /// log2 of the nanoseconds a cookie slot lasts.
    pub slot_shift: u8,
    /// Whether nodes accept connections themselves, instead of having sockets made by `admit`: that is not loaded then, and
    /// the kernel needs no function for it.
    pub accept: bool,
    /// Another object file than the embedded one.
    pub object: Option<PathBuf>,
}

/// The loaded programs and their maps. Dropping it detaches nothing that is pinned.
pub struct Dataplane {
    pub(super) steer: Xdp,
    /// None in mode "accept".
    pub(super) admit: Option<SchedClassifier>,
    pub(super) pin_dir: PathBuf,
    /// Where the programs are pinned.
    pub(super) program_pins: Vec<PathBuf>,
    /// Whether they were found loaded.
    found: bool,
    /// The maps.
    pub maps: Maps,
    /// Holds the map of the programs' log.
    ebpf: Ebpf,
}

impl Dataplane {
    /// Creates the maps, or adopts the pinned ones; loads the programs and pins them, or finds this version's pinned.
    /// Attaches nothing. What it takes is told by [`privileges`].
    ///
    /// # Errors
    /// Says what is missing: kernel features, capabilities, the BPF file system; or that pinned maps have another
    /// layout. Maps that were pinned by this call are unpinned again.
    pub fn load(settings: &Settings) -> Result<Self> {
        let mut bytes = object::read(settings.object.as_deref())?;
        // What depends on the kernel is `admit` alone.
        let timewait_offset = if settings.accept { 0 } else { object::link(&mut bytes)? };
        let mut parsed = aya_obj::Object::parse(&bytes).context("cannot read the kernel programs")?;
        let pins = Pins::prepare(&settings.pin_dir)?;
        let loaded = pins
            .check_layouts(&parsed)
            .map_err(|error| privileges::explained(error, privileges::AGENT))
            .and_then(|()| Self::load_into(settings, &pins, timewait_offset, &bytes, &mut parsed));
        if loaded.is_err() {
            pins.withdraw();
        }
        loaded
    }

    fn load_into(
        settings: &Settings,
        pins: &Pins,
        timewait_offset: u32,
        bytes: &[u8],
        parsed: &mut aya_obj::Object,
    ) -> Result<Self> {
        let agent = |error: anyhow::Error| privileges::explained(error, privileges::AGENT);
        let accept = u32::from(settings.accept);
        let mut loader = EbpfLoader::new();
        loader
            .override_global("SLOT_SHIFT", &settings.slot_shift, true)
            .override_global("TIMEWAIT_RCV_NXT", &timewait_offset, true)
            .override_global("ACCEPT", &accept, true)
            .map_max_entries("dialling", if settings.accept { MAX_DIALLING as u32 } else { 1 })
            .map_max_entries("flows", settings.max_flows);
        for &name in PINNED {
            loader.map_pin_path(name, settings.pin_dir.join(name));
        }
        let mut ebpf = loader.load(bytes).map_err(|error| agent(error.into()))?;
        let types = btf::load(parsed).map_err(agent)?;
        let maps = Maps::take(&mut ebpf, parsed, types, &settings.pin_dir)?;

        let make = Make::of(bytes, &[settings.slot_shift.into(), timewait_offset, accept], &pins.map_ids()?);
        let names: &[&str] = if settings.accept { &["steer"] } else { &["steer", "admit"] };
        let program_pins: Vec<PathBuf> =
            names.iter().map(|name| pins::program(&settings.pin_dir, name, make)).collect();
        let found = program_pins.iter().all(|path| path.exists());
        if !found {
            load_and_pin(&mut ebpf, &program_pins).map_err(|error| privileges::explained(error, privileges::LOAD))?;
        }
        let opened = |path: &Path| format!("cannot open the pinned program {}", path.display());
        let steer_pin = &program_pins[0];
        let steer = Xdp::from_pin(steer_pin, XdpAttachType::Interface).with_context(|| opened(steer_pin))?;
        let admit =
            program_pins.get(1).map(|pin| SchedClassifier::from_pin(pin).with_context(|| opened(pin))).transpose()?;
        Ok(Self { steer, admit, pin_dir: settings.pin_dir.clone(), program_pins, found, maps, ebpf })
    }

    /// The XDP program.
    pub fn steer(&mut self) -> &mut Xdp {
        &mut self.steer
    }

    /// The tc program; there is none in mode "accept".
    pub fn admit(&mut self) -> Option<&mut SchedClassifier> {
        self.admit.as_mut()
    }

    /// A descriptor of the program `steer`.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn steer_fd(&mut self) -> Result<OwnedFd> {
        let program = self.steer().fd().context("`steer` is not loaded")?;
        program.as_fd().try_clone_to_owned().context("cannot keep `steer` open")
    }

    /// Whether the programs were found loaded, by an earlier agent or by [`load`](crate::agent::Load).
    pub fn was_loaded_before(&self) -> bool {
        self.found
    }

    /// The programs' log lines, for `aya-log`.
    pub fn log(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

/// Has the kernel check and take the programs, `steer` and, if it has a pin, `admit`. What was pinned is unpinned again if
/// it does not take all.
fn load_and_pin(ebpf: &mut Ebpf, pins: &[PathBuf]) -> Result<()> {
    let load = |ebpf: &mut Ebpf| -> Result<()> {
        let steer: &mut Xdp = of_object(ebpf, "steer")?;
        steer.load().context("the kernel refused the program `steer`")?;
        steer.pin(&pins[0]).with_context(|| format!("cannot pin {}", pins[0].display()))?;
        let Some(admit_pin) = pins.get(1) else { return Ok(()) };
        let admit: &mut SchedClassifier = of_object(ebpf, "admit")?;
        admit.load().context("the kernel refused the program `admit`")?;
        admit.pin(admit_pin).with_context(|| format!("cannot pin {}", admit_pin.display()))
    };
    // One of the two may have been left by somebody who died in between.
    for path in pins {
        let _ = fs::remove_file(path);
    }
    let loaded = load(ebpf);
    if loaded.is_err() {
        for path in pins {
            let _ = fs::remove_file(path);
        }
    }
    loaded
}

/// A program of the object, by name.
fn of_object<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    // The object has both programs: it was built with this binary, or `object::link` found its call in it.
    let Some(program) = ebpf.program_mut(name) else { return Err(ProgramError::NotLoaded) };
    program.try_into()
}
