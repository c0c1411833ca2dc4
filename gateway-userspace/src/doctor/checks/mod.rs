//! The checks: pure functions from [`Facts`] to findings.
//!
//! | file | subject |
//! |---|---|
//! | `kernel` | version, types, options, compiler |
//! | `privileges` | capabilities, and files that must be private |
//! | `pins` | the BPF file system and what is pinned there |
//! | `interfaces` | XDP on each interface, offloads, MTU |
//! | `settings` | what stands below `/proc/sys` |
//! | `addresses` | the virtual addresses and our own |
//! | `listeners` | who listens on the services |
//! | `nodes` | the way to the other nodes |
//! | `clock` | the clock that cookies live by |
//! | `firewall` | rules that drop what is steered |
//! | `agent` | configuration and agent |

pub mod addresses;
pub mod agent;
pub mod clock;
pub mod firewall;
pub mod interfaces;
pub mod kernel;
pub mod listeners;
pub mod nodes;
pub mod pins;
pub mod privileges;
pub mod settings;

use super::{
    facts::Facts,
    finding::{Check, Finding},
    subject::Subject,
};

/// Every check, in the order of the report.
pub const ALL: &[&Check] = &[
    &agent::CONFIGURATION,
    &kernel::VERSION,
    &kernel::TYPES,
    &kernel::OPTIONS,
    &kernel::JIT,
    &kernel::BPF_LIMITS,
    &privileges::CAPABILITIES,
    &privileges::PRIVATE_FILES,
    &pins::FILE_SYSTEM,
    &pins::MAPS,
    &interfaces::INTERFACE,
    &interfaces::XDP,
    &interfaces::ADMIT,
    &interfaces::XDP_TRANSMIT,
    &interfaces::OFFLOADS,
    &interfaces::MTU,
    &settings::SYNCOOKIES,
    &settings::TCP_OPTIONS,
    &settings::FORWARDING,
    &settings::REVERSE_PATH,
    &settings::ARP,
    &addresses::VIRTUAL,
    &addresses::OWN,
    &listeners::LISTENER,
    &listeners::MPTCP,
    &firewall::FIREWALL,
    &clock::SYNCHRONISED,
    &clock::TAI,
    &agent::AGENT,
    &agent::MEMBERSHIP,
    &nodes::NEIGHBOUR_TABLE,
    &nodes::ROUTE,
    &nodes::NEIGHBOUR,
    &nodes::PATH_MTU,
    &nodes::PEER,
    &nodes::RING,
    &nodes::CLOCK_SKEW,
];

/// All findings about a host, in the order of [`ALL`].
pub fn all(subject: &Subject, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![agent::configuration(facts)];
    findings.extend(kernel::all(subject.mode(), facts));
    findings.extend(privileges::all(subject, facts));
    findings.extend(pins::all(facts));
    if let Some(node) = &subject.node {
        findings.extend(interfaces::all(node, facts));
        findings.extend(settings::all(node, facts));
        findings.extend(addresses::all(node, facts));
        findings.extend(listeners::all(node, facts));
    } else {
        findings.push(settings::syncookies(&facts.settings));
        findings.extend(settings::tcp_options(subject.mode(), &facts.settings));
    }
    findings.push(firewall::firewall(facts));
    findings.extend(clock::all(subject, facts));
    findings.push(agent::agent(facts));
    findings.extend(agent::membership(facts));
    if let Some(node) = &subject.node {
        findings.extend(nodes::all(node, facts));
    }
    if !facts.steering() {
        findings = findings.into_iter().map(Finding::before_the_agent).collect();
    }
    let place = |finding: &Finding| ALL.iter().position(|check| check.name == finding.check);
    // Stable: within a check, subjects stay in the order of the configuration.
    findings.sort_by_key(place);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own_and_a_reason() {
        let mut names: Vec<_> = ALL.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for check in ALL {
            assert!(check.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", check.name);
            assert!(check.why.ends_with('.'), "{}", check.name);
        }
    }

    /// An operator finds each check in the manual.
    #[test]
    fn every_check_is_in_the_manual() {
        let manual = include_str!("../../../../docs/doctor.md");
        for check in ALL {
            assert!(manual.contains(&format!("\n### `{}`", check.name)), "docs/doctor.md lacks {}", check.name);
        }
    }
}
