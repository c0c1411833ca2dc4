//! All targets in one program: `RINGSTEER_FUZZ_TARGET` says which one runs. Started by `cargo xtask fuzz`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ringsteer_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("RINGSTEER_FUZZ_TARGET").expect("RINGSTEER_FUZZ_TARGET names the target");
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
});

fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
