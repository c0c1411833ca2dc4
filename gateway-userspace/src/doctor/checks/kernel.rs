//! The kernel: version, types, options, compiler.

use crate::{
    config::Mode,
    doctor::{
        facts::{Facts, Kernel},
        finding::{Check, Finding, Setting},
    },
};

/// Linux 6.8; in mode "accept" 5.18.
pub const VERSION: Check = Check {
    name: "kernel-version",
    why: "Sockets are created by bpf_sk_assign_tcp_reqsk, which came with Linux 6.8. Older ones lack more: tcx links \
          (6.6), the question whether a driver runs XDP (6.3), CLOCK_TAI for programs (6.1). Only with \
          `mode = \"accept\"` is none of that needed: there it is helpers for packets in pieces (5.18).",
};

/// BTF with what the programs need in it.
pub const TYPES: Check = Check {
    name: "kernel-types",
    why: "The programs are linked to this kernel's functions and structs by its type information (BTF).",
};

/// `CONFIG_…`.
pub const OPTIONS: Check =
    Check { name: "kernel-options", why: "Parts of the kernel that ringsteer uses can be left out when it is built." };

/// `net.core.bpf_jit_enable`.
pub const JIT: Check = Check {
    name: "bpf-jit",
    why: "Programs that call kernel functions run only when they are compiled; interpreted ones would be too slow, too.",
};

/// Limits that do not matter, for those who wonder.
pub const BPF_LIMITS: Check = Check {
    name: "bpf-limits",
    why: "For information: memory of maps is charged to the control group, so RLIMIT_MEMLOCK does not matter, and \
          ringsteer never relies on unprivileged BPF.",
};

const JIT_SETTING: &str = "net/core/bpf_jit_enable";
const UNPRIVILEGED: &str = "kernel/unprivileged_bpf_disabled";

/// The first version that has everything.
const NEEDED: (u32, u32) = (6, 8);

/// The first that has what mode "accept" needs.
const NEEDED_TO_ACCEPT: (u32, u32) = (5, 18);

/// What helps besides a newer kernel.
const OR_ACCEPT: &str = "or set `mode = \"accept\"` in `[node]`, on all nodes";

/// Settings these checks look at.
pub fn settings() -> Vec<String> {
    vec![JIT_SETTING.into(), UNPRIVILEGED.into()]
}

pub(super) fn all(mode: Mode, facts: &Facts) -> Vec<Finding> {
    vec![
        version(mode, &facts.kernel),
        types(mode, &facts.kernel),
        options(&facts.kernel),
        jit(facts),
        bpf_limits(facts),
    ]
}

/// The version. A distribution may have taken later functions back into an older kernel; its types tell.
pub fn version(mode: Mode, kernel: &Kernel) -> Finding {
    let release = format!("Linux {}", kernel.release);
    let mut numbers = kernel.release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return VERSION.unchecked(format!("{release} is no version number"));
    };
    if mode == Mode::Accept {
        return if (major, minor) >= NEEDED_TO_ACCEPT {
            VERSION.ok(format!("{release}; with `mode = \"accept\"` 5.18 is enough"))
        } else {
            VERSION.wrong(format!("{release}, older than 5.18"), "boot Linux 5.18 or newer")
        };
    }
    if (major, minor) >= NEEDED {
        VERSION.ok(release)
    } else if matches!(&kernel.lacking, Ok(lacking) if lacking.is_empty()) {
        VERSION.warning(
            format!("{release}, older than 6.8, but with all functions the programs call"),
            "boot Linux 6.8 or newer; backports are not tested",
        )
    } else {
        VERSION.wrong(format!("{release}, older than 6.8"), format!("boot Linux 6.8 or newer, {OR_ACCEPT}"))
    }
}

/// The types.
pub fn types(mode: Mode, kernel: &Kernel) -> Finding {
    if mode == Mode::Accept {
        return TYPES.not_applicable("with `mode = \"accept\"` the programs call no function and read no struct of it");
    }
    match &kernel.lacking {
        Ok(lacking) if lacking.is_empty() => TYPES.ok("all functions and fields that the programs use"),
        Ok(lacking) => TYPES.wrong(
            format!("this kernel has no {}", lacking.join(", ")),
            format!("boot Linux 6.8 or newer, built with CONFIG_SYN_COOKIES=y and CONFIG_NET_CLS_ACT=y, {OR_ACCEPT}"),
        ),
        Err(unknown) => TYPES
            .wrong(unknown.0.clone(), "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as most distributions' are"),
    }
}

/// The build options.
pub fn options(kernel: &Kernel) -> Finding {
    const NEEDED: [&str; 5] = ["BPF_SYSCALL", "BPF_JIT", "DEBUG_INFO_BTF", "SYN_COOKIES", "NET_CLS_ACT"];
    let options = match &kernel.options {
        Ok(options) => options,
        Err(unknown) => return OPTIONS.unchecked(format!("{unknown}; what counts shows in its types")),
    };
    let lacking: Vec<_> = NEEDED
        .iter()
        .filter(|name| options.get(**name).is_none_or(|value| value == "n"))
        .map(|name| format!("CONFIG_{name}"))
        .collect();
    if lacking.is_empty() {
        OPTIONS.ok(NEEDED.map(|name| format!("CONFIG_{name}")).join(", "))
    } else {
        OPTIONS.wrong(format!("built without {}", lacking.join(", ")), "boot a kernel built with these options")
    }
}

/// The compiler. Its setting shows in the host's own network namespace only (`net_core_table`).
pub fn jit(facts: &Facts) -> Finding {
    let always =
        matches!(&facts.kernel.options, Ok(options) if options.get("BPF_JIT_ALWAYS_ON").is_some_and(|v| v == "y"));
    match facts.settings.number(JIT_SETTING) {
        Ok(0) => JIT.wrong("net.core.bpf_jit_enable is 0", Setting::new(JIT_SETTING, "1").command()),
        Ok(value) => JIT.ok(format!("net.core.bpf_jit_enable is {value}")),
        Err(_) if always => JIT.ok("CONFIG_BPF_JIT_ALWAYS_ON"),
        Err(unknown) => JIT.unchecked(unknown.0),
    }
}

fn bpf_limits(facts: &Facts) -> Finding {
    match facts.settings.number(UNPRIVILEGED) {
        Ok(0) => BPF_LIMITS.ok("every user may load BPF programs (kernel.unprivileged_bpf_disabled is 0)"),
        Ok(value) => BPF_LIMITS.ok(format!("kernel.unprivileged_bpf_disabled is {value}")),
        Err(unknown) => BPF_LIMITS.unchecked(unknown.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        facts::Unknown,
        finding::Outcome,
        fixtures::{healthy, host},
    };

    fn with_release(release: &str, lacking: &[&str]) -> Kernel {
        let lacking = Ok(lacking.iter().map(|name| name.to_string()).collect());
        Kernel { release: release.into(), lacking, options: host().kernel.options }
    }

    #[test]
    fn versions() {
        for (release, lacking, expected) in [
            ("6.8.0-31-generic", &[][..], Outcome::Ok),
            ("6.18.44", &[], Outcome::Ok),
            ("10.0", &[], Outcome::Ok),
            ("7.1-rc2", &[], Outcome::Ok),
            ("6.6.12", &["function `bpf_sk_assign_tcp_reqsk`"], Outcome::Wrong),
            ("5.14.0-503.el9", &[], Outcome::Warning),
            ("nonsense", &[], Outcome::Unchecked),
        ] {
            assert_eq!(version(Mode::LateBinding, &with_release(release, lacking)).outcome, expected, "{release}");
        }
    }

    #[test]
    fn what_is_missing_can_be_done_without() {
        let old = with_release("6.6.12", &["function `bpf_sk_assign_tcp_reqsk`"]);
        for finding in [version(Mode::LateBinding, &old), types(Mode::LateBinding, &old)] {
            assert!(finding.mend.as_ref().unwrap().contains("set `mode = \"accept\"`"), "{finding:?}");
        }
        assert_eq!(version(Mode::Accept, &old).outcome, Outcome::Ok);
        assert_eq!(types(Mode::Accept, &old).outcome, Outcome::NotApplicable);
        assert_eq!(version(Mode::Accept, &with_release("5.15.0", &[])).outcome, Outcome::Wrong);
    }

    #[test]
    fn missing_types_are_named() {
        let finding = types(Mode::LateBinding, &with_release("6.8.0", &["function `bpf_sk_assign_tcp_reqsk`"]));
        assert_eq!(finding.outcome, Outcome::Wrong);
        assert!(finding.found.contains("bpf_sk_assign_tcp_reqsk"), "{}", finding.found);
        let kernel = Kernel { lacking: Err(Unknown("no BTF here".into())), ..with_release("6.8.0", &[]) };
        assert_eq!(types(Mode::LateBinding, &kernel).outcome, Outcome::Wrong);
        assert_eq!(version(Mode::LateBinding, &kernel).outcome, Outcome::Ok);
    }

    #[test]
    fn options_that_were_left_out() {
        let mut facts = healthy();
        let options = facts.kernel.options.as_mut().unwrap();
        options.insert("SYN_COOKIES".into(), "n".into());
        options.remove("BPF_JIT");
        let finding = options_of(&facts);
        assert_eq!(finding.outcome, Outcome::Wrong);
        assert_eq!(finding.found, "built without CONFIG_BPF_JIT, CONFIG_SYN_COOKIES");
        facts.kernel.options = Err(Unknown("it does not show them".into()));
        assert_eq!(options_of(&facts).outcome, Outcome::Unchecked);
    }

    fn options_of(facts: &Facts) -> Finding {
        options(&facts.kernel)
    }

    #[test]
    fn the_compiler_off_or_hidden() {
        let mut facts = healthy();
        facts.settings.0.insert(JIT_SETTING.into(), Ok("0".into()));
        let finding = jit(&facts);
        assert_eq!(
            (finding.outcome, finding.mend.as_deref()),
            (Outcome::Wrong, Some("sysctl -w net.core.bpf_jit_enable=1"))
        );
        facts.settings.0.remove(JIT_SETTING);
        assert_eq!(jit(&facts).outcome, Outcome::Unchecked);
        facts.kernel.options.as_mut().unwrap().insert("BPF_JIT_ALWAYS_ON".into(), "y".into());
        assert_eq!(jit(&facts).outcome, Outcome::Ok);
    }
}
