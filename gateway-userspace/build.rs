//! Tells the compiler where the kernel program is that the binary carries inside.
//!
//! The source embeds it by `include_bytes!(env!("RINGSTEER_OBJECT"))`. Set `RINGSTEER_OBJECT` to an absolute path while
//! building to embed another one than `cargo xtask build-ebpf` makes.

use std::{
    env,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for variable in ["RINGSTEER_OBJECT", "CARGO_TARGET_DIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let object = env::var_os("RINGSTEER_OBJECT").map_or_else(default_object, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    if object.is_file() {
        println!("cargo::rustc-env=RINGSTEER_OBJECT={}", object.display());
    } else {
        println!("cargo::error=The kernel program is not built yet: run `cargo xtask build-ebpf` first.");
    }
}

/// Where `cargo xtask build-ebpf` puts it. A relative `CARGO_TARGET_DIR` counts from the workspace's root there too.
fn default_object() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells where the package is");
    let workspace = Path::new(&package).parent().expect("the package is a directory of the workspace").to_owned();
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace.join(target).join("bpf/ringsteer.bpf.o")
}
