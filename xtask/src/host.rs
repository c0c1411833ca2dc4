//! What this machine is.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use crate::{command, version::Version};

/// Whether we may install packages, make network namespaces and load programs.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|ourselves| ourselves.uid() == 0)
}

/// Whether packages come from Debian, or from one of its children, which name most of them alike.
pub fn has_apt() -> bool {
    Path::new("/etc/debian_version").exists() && command::find("apt-get").is_some()
}

/// The version of the running kernel.
pub fn kernel() -> Option<Version> {
    Version::parse(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// Whether the kernel publishes its types.
pub fn kernel_has_btf() -> bool {
    Path::new("/sys/kernel/btf/vmlinux").exists()
}
