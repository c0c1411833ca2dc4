//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The directory with the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// Where cargo puts what it builds. A relative `CARGO_TARGET_DIR` counts from the workspace's root.
pub fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where the kernel programs are put, and where `gateway-userspace/build.rs` looks for them.
pub fn bpf_dir() -> PathBuf {
    target_dir().join("bpf")
}
