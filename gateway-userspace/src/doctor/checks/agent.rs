//! Configuration and agent.

use crate::doctor::{
    facts::{Configuration, Facts},
    finding::{Check, Finding},
};

/// The file.
pub const CONFIGURATION: Check = Check {
    name: "configuration",
    why: "It says what this node should be; without it only the host itself can be examined.",
};

/// The process.
pub const AGENT: Check = Check {
    name: "agent",
    why: "Without it the kernel goes on steering by the last ring, but follows no change and forgets no flow.",
};

/// Where the ring comes from.
pub const MEMBERSHIP: Check = Check {
    name: "membership",
    why: "While the source of the ring is out of reach the last ring stays in force: nothing breaks, and no change is heard.",
};

/// Whether the file can be used.
pub fn configuration(facts: &Facts) -> Finding {
    match &facts.configuration {
        Configuration::Read(path) => CONFIGURATION.ok(path.display().to_string()),
        Configuration::Absent(path) => {
            CONFIGURATION.not_applicable(format!("there is no {}: only the host itself was examined", path.display()))
        }
        Configuration::Unusable(error) => {
            CONFIGURATION.wrong(error.clone(), "correct the file, or name another with --config")
        }
    }
}

/// Whether it answers.
pub fn agent(facts: &Facts) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let socket = facts.agent.socket.display();
    match &facts.agent.running {
        Ok(Some(running)) if !running.not_ready.is_empty() => AGENT.warning(
            format!("process {}, not ready: {}", running.pid, running.not_ready.join("; ")),
            "mend what it names; ringsteer status shows how it goes",
        ),
        Ok(Some(running)) if running.version == ours => AGENT.ok(format!("version {ours}, process {}", running.pid)),
        Ok(Some(running)) => AGENT.warning(
            format!("the agent is version {}, and this is {ours}", running.version),
            "restart the agent; nothing is lost meanwhile",
        ),
        Ok(None) if facts.steering() => AGENT.warning(
            format!("programs are attached here, but no agent answers on {socket}"),
            "start it: ringsteer agent",
        ),
        Ok(None) => AGENT.not_applicable(format!("no agent runs here: none answers on {socket}")),
        Err(unknown) => AGENT.unchecked(unknown.0.clone()),
    }
}

/// Whether its source tells it rings.
pub fn membership(facts: &Facts) -> Option<Finding> {
    let running = facts.running()?;
    let source = &running.source;
    Some(match &running.trouble {
        None => MEMBERSHIP.ok(format!("by {source}")),
        Some(trouble) => MEMBERSHIP.warning(
            format!("by {source}: {trouble}"),
            format!("mend what it names; the agent goes on trying ({source} is configured in `[membership]`)"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        facts::Unknown,
        finding::Outcome,
        fixtures::{fresh, healthy},
    };

    #[test]
    fn the_agent_runs_is_gone_or_never_was() {
        assert_eq!(agent(&healthy()).outcome, Outcome::Ok);
        assert_eq!(agent(&fresh()).outcome, Outcome::NotApplicable);
        let mut facts = healthy();
        facts.agent.running.as_mut().unwrap().as_mut().unwrap().version = "0.0.9".into();
        assert_eq!(agent(&facts).outcome, Outcome::Warning);
        facts.agent.running.as_mut().unwrap().as_mut().unwrap().not_ready = vec!["there is no ring yet".into()];
        assert!(agent(&facts).found.ends_with("not ready: there is no ring yet"));
        facts.agent.running = Ok(None);
        let gone = agent(&facts);
        assert!(gone.outcome == Outcome::Warning && gone.found.ends_with("/run/ringsteer/agent.sock"), "{gone:?}");
        facts.agent.running = Err(Unknown("not allowed".into()));
        assert_eq!(agent(&facts).outcome, Outcome::Unchecked);
    }

    #[test]
    fn a_source_in_trouble() {
        let mut facts = healthy();
        assert_eq!(membership(&facts).unwrap().outcome, Outcome::Ok);
        facts.agent.running.as_mut().unwrap().as_mut().unwrap().trouble = Some("no etcd answers".into());
        let trouble = membership(&facts).unwrap();
        assert!(trouble.outcome == Outcome::Warning && trouble.found == "by file: no etcd answers", "{trouble:?}");
        assert!(membership(&fresh()).is_none());
    }

    #[test]
    fn a_file_is_there_or_not_or_no_use() {
        let mut facts = healthy();
        assert_eq!(configuration(&facts).outcome, Outcome::Ok);
        facts.configuration = Configuration::Absent("/etc/x".into());
        assert_eq!(configuration(&facts).outcome, Outcome::NotApplicable);
        facts.configuration = Configuration::Unusable("/etc/x, line 3: no".into());
        assert_eq!(configuration(&facts).outcome, Outcome::Wrong);
    }
}
