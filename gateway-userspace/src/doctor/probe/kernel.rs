//! The kernel: version, types, options.

use std::{collections::BTreeMap, fs, process::Command};

use ringsteer_ebpf::kfunc::ASSIGN_REQSK_NAME;

use crate::{
    dataplane::kernel_types::{KernelTypes, KernelTypesError},
    doctor::facts::{Fact, Kernel, Unknown},
};

/// Functions that must be there: the one the programs call, and those behind the ways they are attached and keep time.
const FUNCTIONS: [&str; 3] = [ASSIGN_REQSK_NAME, "tcx_link_attach", "bpf_ktime_get_tai_ns"];

/// Fields the programs read, by struct.
const FIELDS: [(&str, &str); 1] = [("tcp_timewait_sock", "skc_tw_rcv_nxt")];

/// The running kernel.
pub fn read() -> Kernel {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    Kernel { options: options(&release), lacking: lacking(), release }
}

fn lacking() -> Fact<Vec<String>> {
    let types = KernelTypes::of_running_kernel().map_err(|error| Unknown(error.to_string()))?;
    let functions = FUNCTIONS.iter().map(|name| types.function(name));
    let fields = FIELDS.iter().map(|(of, field)| types.field_offset(of, field));
    let mut lacking = Vec::new();
    for found in functions.chain(fields) {
        match found {
            Ok(_) => {}
            Err(KernelTypesError::Missing { what, name }) => lacking.push(format!("{what} `{name}`")),
            Err(error) => return Err(Unknown(error.to_string())),
        }
    }
    Ok(lacking)
}

/// The options the kernel was built with, where it or its package shows them.
fn options(release: &str) -> Fact<BTreeMap<String, String>> {
    let files = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
    let plain = files.iter().find_map(|path| fs::read_to_string(path).ok());
    // gzip is everywhere but in the smallest containers; a library for this one file would not pay.
    let packed = || {
        let output = Command::new("gzip").args(["-dc", "/proc/config.gz"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let text =
        plain.or_else(packed).ok_or_else(|| Unknown("this kernel's build options are nowhere to be read".into()))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let one = |line: &str| {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let options = parse("# comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=\"x=1\"\n");
        let expected = [("A", "y"), ("C", "\"x=1\"")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(options, expected.into());
    }

    #[test]
    fn this_kernel_has_what_the_programs_need() {
        assert_eq!(lacking().unwrap(), Vec::<String>::new());
    }
}
