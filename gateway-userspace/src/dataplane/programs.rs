//! Loading the programs, with the maps of an earlier run adopted.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::MapInfo,
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};

use super::{
    kernel_types::KernelTypes,
    maps::{Maps, PINNED},
    object,
};

/// What the programs need to know at load time.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where maps and links are pinned: a directory on a BPF file system.
    pub pin_dir: PathBuf,
    /// Most flows the table can hold; counts only when the table is created.
    pub max_flows: u32,
    /// log2 of the nanoseconds a cookie slot lasts.
    pub slot_shift: u8,
    /// Another object file than the embedded one.
    pub object: Option<PathBuf>,
}

/// The loaded programs and their maps. Dropping it detaches nothing that is pinned.
pub struct Dataplane {
    pub(super) ebpf: Ebpf,
    pub(super) pin_dir: PathBuf,
    /// The maps.
    pub maps: Maps,
}

impl Dataplane {
    /// Loads the programs and creates the maps, or adopts the pinned ones. Attaches nothing.
    ///
    /// # Errors
    /// Says what is missing: kernel features, capabilities, the BPF file system; or that pinned maps have another
    /// layout. Maps that were pinned by this call are unpinned again.
    pub fn load(settings: &Settings) -> Result<Self> {
        let types = KernelTypes::of_running_kernel()?;
        let mut bytes = object::read(settings.object.as_deref())?;
        object::link(&mut bytes, &types)?;
        let parsed = aya_obj::Object::parse(&bytes).context("cannot read the kernel programs")?;
        let pins = Pins::prepare(&settings.pin_dir)?;
        pins.check_layouts(&parsed)?;

        let timewait_offset = types.field_offset("tcp_timewait_sock", "skc_tw_rcv_nxt")?;
        let mut loader = EbpfLoader::new();
        loader
            .override_global("SLOT_SHIFT", &settings.slot_shift, true)
            .override_global("TIMEWAIT_RCV_NXT", &timewait_offset, true)
            .map_max_entries("flows", settings.max_flows);
        for &name in PINNED {
            loader.map_pin_path(name, settings.pin_dir.join(name));
        }
        let loaded = loader.load(&bytes).map_err(anyhow::Error::from).and_then(|mut ebpf| {
            let steer: &mut Xdp = loaded(&mut ebpf, "steer")?;
            steer.load().context("the kernel refused the program `steer`")?;
            let btf_id = steer.info()?.btf_id().context("the program `steer` carries no BTF")?;
            let admit: &mut SchedClassifier = loaded(&mut ebpf, "admit")?;
            admit.load().context("the kernel refused the program `admit`")?;
            let maps = Maps::take(&mut ebpf, &parsed, btf_id)?;
            Ok(Self { ebpf, pin_dir: settings.pin_dir.clone(), maps })
        });
        match loaded {
            Ok(dataplane) => Ok(dataplane),
            Err(error) => {
                pins.withdraw();
                Err(explained(error))
            }
        }
    }

    /// The XDP program.
    pub fn steer(&mut self) -> Result<&mut Xdp, ProgramError> {
        loaded(&mut self.ebpf, "steer")
    }

    /// The tc program.
    pub fn admit(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        loaded(&mut self.ebpf, "admit")
    }

    /// The programs' log lines, for `aya-log`.
    pub fn log(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

/// A program of the object, by name.
pub(super) fn loaded<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    // `Dataplane::load` has found both programs in the object.
    let Some(program) = ebpf.program_mut(name) else { return Err(ProgramError::NotLoaded) };
    program.try_into()
}

/// The error, with the likely cause in front where the kernel's answer alone does not tell.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let denied = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.raw_os_error() == Some(libc::EPERM));
    if denied {
        return error.context("not allowed to load BPF programs: run the agent as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
    }
    error
}

/// The pin directory before loading.
struct Pins {
    directory: PathBuf,
    /// Maps that are pinned already.
    present: Vec<&'static str>,
    /// Whether the directory itself is ours to remove.
    created: bool,
}

impl Pins {
    fn prepare(directory: &Path) -> Result<Self> {
        let created = !directory.exists();
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the pin directory {}", directory.display()))?;
        if !is_bpffs(directory)? {
            if created {
                let _ = std::fs::remove_dir(directory);
            }
            bail!(
                "the pin directory {} is not on a BPF file system. Mount one: mount -t bpf bpf /sys/fs/bpf",
                directory.display()
            );
        }
        let present = PINNED.iter().copied().filter(|name| directory.join(name).exists()).collect();
        Ok(Self { directory: directory.to_path_buf(), present, created })
    }

    /// Refuses pinned maps that these programs would misread.
    fn check_layouts(&self, object: &aya_obj::Object) -> Result<()> {
        for &name in &self.present {
            let wanted = object.maps.get(name).with_context(|| format!("the object has no map `{name}`"))?;
            let path = self.directory.join(name);
            let pinned =
                MapInfo::from_pin(&path).with_context(|| format!("cannot open the pinned map {}", path.display()))?;
            let same = pinned.map_type()? as u32 == wanted.map_type()
                && pinned.key_size() == wanted.key_size()
                && pinned.value_size() == wanted.value_size();
            ensure!(
                same,
                "the pinned map {} has another layout than this version's (keys of {} bytes instead of {}, values of {} instead of {}). \
                 It belongs to another version of ringsteer: run `ringsteer uninstall` first; live connections end then",
                path.display(),
                pinned.key_size(),
                wanted.key_size(),
                pinned.value_size(),
                wanted.value_size(),
            );
        }
        Ok(())
    }

    /// Takes back what was pinned since.
    fn withdraw(&self) {
        for name in PINNED.iter().filter(|name| !self.present.contains(name)) {
            let _ = std::fs::remove_file(self.directory.join(name));
        }
        if self.created {
            let _ = std::fs::remove_dir(&self.directory);
        }
    }
}

/// Whether a directory lies on a BPF file system.
fn is_bpffs(directory: &Path) -> Result<bool> {
    let found =
        nix::sys::statfs::statfs(directory).with_context(|| format!("cannot look at {}", directory.display()))?;
    Ok(found.filesystem_type() == nix::sys::statfs::FsType(libc::BPF_FS_MAGIC as _))
}
