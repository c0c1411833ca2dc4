//! Walking a hash map, the flow table above all, many entries a system call.
//!
//! `BPF_MAP_LOOKUP_BATCH` (Linux 5.6) goes through the table bucket by bucket: unlike asking for the next key again and
//! again it ends although entries come and go meanwhile, sees each that stays exactly once, and takes a hundredth of
//! the calls.

use std::{
    io,
    marker::PhantomData,
    ops::ControlFlow,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use bytemuck::Pod;
use ringsteer_ebpf::layout::flow::{Flow, FlowKey};

/// Entries a call, unless a bucket has more.
const BATCH: usize = 4096;

/// Entries of one bucket that we believe in. The kernel makes as many buckets as the table has room for entries.
const MAX_BATCH: usize = 1 << 20;

/// A hash map, for walking.
pub struct Walk<K, V> {
    map: OwnedFd,
    entries: PhantomData<(K, V)>,
}

/// The flow table, for walking.
pub type FlowWalk = Walk<FlowKey, Flow>;

/// The part of `union bpf_attr` that the command reads (`struct { … } batch` in `include/uapi/linux/bpf.h`).
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

impl FlowWalk {
    /// Opens the flow table pinned in `pin_dir`.
    ///
    /// # Errors
    /// If it is not there, or does not hold flows as this version knows them.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        Self::open_map(pin_dir, "flows")
    }
}

impl<K: Pod, V: Pod> Walk<K, V> {
    /// Opens the hash map `name` that is pinned in `pin_dir`.
    ///
    /// # Errors
    /// If it is not there, or its entries are not as this version knows them.
    pub fn open_map(pin_dir: &Path, name: &str) -> Result<Self> {
        let path = pin_dir.join(name);
        let opened = || format!("cannot open the pinned map {}", path.display());
        let data = MapData::from_pin(&path).with_context(opened)?;
        let info = data.info().with_context(opened)?;
        // What the kernel writes is as long as the map says, and must fit what we have room for.
        anyhow::ensure!(
            info.key_size() as usize == size_of::<K>() && info.value_size() as usize == size_of::<V>(),
            "the pinned map {} has another layout than this version's",
            path.display()
        );
        Ok(Self { map: data.fd().as_fd().try_clone_to_owned().with_context(opened)?, entries: PhantomData })
    }

    /// Hands every entry to `each` until that breaks off. Entries that come or go meanwhile may or may not be seen.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn each(&self, mut each: impl FnMut(&K, &V) -> ControlFlow<()>) -> io::Result<()> {
        let mut room = BATCH;
        let mut keys = vec![K::zeroed(); room];
        let mut values = vec![V::zeroed(); room];
        let mut position: Option<u32> = None;
        loop {
            let (found, next) = match self.batch(position, &mut keys, &mut values) {
                // One bucket has more than there is room for; nothing was written.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < MAX_BATCH => {
                    room *= 2;
                    keys.resize(room, K::zeroed());
                    values.resize(room, V::zeroed());
                    continue;
                }
                batch => batch?,
            };
            for (key, value) in keys.iter().zip(&values).take(found) {
                if each(key, value).is_break() {
                    return Ok(());
                }
            }
            match next {
                Some(next) => position = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// How many entries there are.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn count(&self) -> io::Result<u64> {
        let mut count = 0;
        self.each(|_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// The entries from `position` on, as many as fit whole buckets: their number, and where to go on, if there is more.
    fn batch(&self, position: Option<u32>, keys: &mut [K], values: &mut [V]) -> io::Result<(usize, Option<u32>)> {
        /// `BPF_MAP_LOOKUP_BATCH`.
        const COMMAND: libc::c_long = 24;
        let room = keys.len().min(values.len());
        let mut next = 0u32;
        let mut attributes = Attributes {
            in_batch: position.as_ref().map_or(0, |position| std::ptr::from_ref(position) as u64),
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: room as u32,
            map: self.map.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes are as long as we say. `keys` and `values` have room for `count` entries of the map's
        // sizes, which `open` has compared; positions of a hash are `u32`. All of it outlives the call, and every bit
        // pattern is a valid key or value.
        let result = unsafe { libc::syscall(libc::SYS_bpf, COMMAND, &raw mut attributes, size_of::<Attributes>()) };
        let found = (attributes.count as usize).min(room);
        if result == 0 {
            return Ok((found, Some(next)));
        }
        match io::Error::last_os_error() {
            // The last ones.
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok((found, None)),
            error => Err(error),
        }
    }
}
