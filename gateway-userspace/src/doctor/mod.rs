//! Is this host fit to steer, and does it? `ringsteer doctor`, and what the agent makes sure of when it starts.
//!
//! Probes look at the host and gather [`Facts`]; checks are pure functions from those to [`Finding`]s, each with what was
//! found, why it matters and how to mend it. Nothing is changed, and nothing is sent but a connection to each other
//! agent's port.
//!
//! | file | subject |
//! |---|---|
//! | `finding` | findings and the report |
//! | `subject` | what is examined: the node as the configuration wants it |
//! | `facts` | what was found on the host |
//! | `probe` | how it is found |
//! | `checks` | what is made of it; pure |
//! | `rules` | reading firewall rules; pure |
//! | `preflight` | the part that must hold before the agent touches anything |

pub mod checks;
pub mod facts;
pub mod finding;
#[cfg(test)]
mod fixtures;
pub mod preflight;
mod probe;
mod rules;
pub mod subject;

use std::path::Path;

pub use self::finding::{Finding, Outcome, Report};
use self::{
    facts::{Configuration, Facts},
    subject::Subject,
};
use crate::config::{self, Config, ConfigError, Membership, Problem};

/// Examines this host, as the configuration file at `path` wants it to be. If there is no such file, the host itself is
/// examined; that is an error only if the file was `named` by somebody.
pub async fn examine(path: &Path, named: bool) -> Report {
    let (mut subject, configuration) = match Config::load(path) {
        Ok(config) => {
            let mut subject = Subject::of(&config, path);
            let mut configuration = Configuration::Read(path.to_owned());
            // A ring in a file of its own is part of the configuration.
            if let (Membership::File { path: Some(path) }, Some(node)) = (&config.membership, &mut subject.node) {
                match config::load_ring(path) {
                    Ok(ring) => node.members = subject::members_of(&ring),
                    Err(error) => configuration = Configuration::Unusable(error.to_string()),
                }
            }
            (subject, configuration)
        }
        Err(error) if is_absent(&error) && !named => {
            (Subject::without_configuration(), Configuration::Absent(path.to_owned()))
        }
        Err(error) => (Subject::without_configuration(), Configuration::Unusable(error.to_string())),
    };
    let agent = probe::agent(&subject.socket).await;
    // What the agent has published is in force, whatever the configuration says by now.
    if let (Some(node), Ok(Some(_))) = (&mut subject.node, &agent.running)
        && let Some(ring) = probe::ring_in_force(&subject.socket).await
    {
        node.members = subject::members_of(&ring);
    }
    let facts: Facts = probe::all(&subject, configuration, agent).await;
    Report::new(checks::all(&subject, &facts))
}

fn is_absent(error: &ConfigError) -> bool {
    matches!(error.problem(), Problem::Unreadable(error) if error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthy_hosts_pass_even_a_strict_examination() {
        for (what, subject, facts) in [
            ("a node at work", fixtures::subject(), fixtures::healthy()),
            ("a host without a configuration", Subject::without_configuration(), fixtures::host()),
        ] {
            let report = Report::new(checks::all(&subject, &facts));
            let bad: Vec<_> = report.findings.iter().filter(|one| one.outcome > Outcome::NotApplicable).collect();
            assert!(report.passes(true) && bad.is_empty(), "{what}: {bad:#?}");
        }
    }

    #[test]
    fn a_host_made_ready_lacks_nothing_but_a_server() {
        let report = Report::new(checks::all(&fixtures::subject(), &fixtures::fresh()));
        let bad: Vec<_> = report.findings.iter().filter(|one| one.outcome > Outcome::NotApplicable).collect();
        assert_eq!(bad.iter().map(|one| one.check).collect::<Vec<_>>(), ["listener"], "{bad:#?}");
    }

    #[test]
    fn what_the_agent_will_turn_on_is_not_wrong_before_it_starts() {
        for (mut facts, expected) in [(fixtures::fresh(), Outcome::Warning), (fixtures::healthy(), Outcome::Wrong)] {
            facts.settings.0.insert("net/ipv4/tcp_syncookies".into(), Ok("0".into()));
            let findings = checks::all(&fixtures::subject(), &facts);
            let syncookies = findings.into_iter().find(|one| one.check == "syncookies").unwrap();
            assert_eq!(syncookies.outcome, expected);
            assert!(syncookies.mend.unwrap().ends_with("sysctl -w net.ipv4.tcp_syncookies=1"));
        }
    }

    #[test]
    fn findings_stand_in_the_order_of_the_checks() {
        let report = Report::new(checks::all(&fixtures::subject(), &fixtures::healthy()));
        let place = |one: &Finding| checks::ALL.iter().position(|check| check.name == one.check).expect("is listed");
        assert!(report.findings.is_sorted_by_key(place));
    }
}
