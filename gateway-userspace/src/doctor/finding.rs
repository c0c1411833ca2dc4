//! What an examination says: one finding for each thing looked at.

use serde::Serialize;

/// How a thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it must be.
    Ok,
    /// There is nothing to look at on this host, with this configuration, or not yet.
    NotApplicable,
    /// It could not be looked at: for want of a right or a tool. Says nothing about the thing.
    Unchecked,
    /// It works, or may work, but not well, not for everybody or not for long.
    Warning,
    /// Steering, or a part of it, cannot work like this.
    Wrong,
}

/// One thing that is looked at: its name, which stays from version to version, and why it matters.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    /// Lower-case words joined by hyphens.
    pub name: &'static str,
    /// What depends on it, in a sentence or two.
    pub why: &'static str,
}

/// What a check came to, for one subject if there are several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// Which interface, service, address or node; `None` if there is only one of the kind.
    pub subject: Option<String>,
    /// How it was found.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What depends on it.
    pub why: &'static str,
    /// How to mend it, wherever possible a command to be copied. `None` if there is nothing to mend.
    pub mend: Option<String>,
    /// Settings that would mend it: those that the agent may turn on by itself.
    #[serde(skip)]
    pub settings: Vec<Setting>,
}

/// A value for a file below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The file, below `/proc/sys`.
    pub name: String,
    /// What it should hold.
    pub value: &'static str,
}

/// All findings of an examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst outcome of all.
    pub outcome: Outcome,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

// === impl Check ===

impl Check {
    fn finding(&self, outcome: Outcome, found: String, mend: Option<String>) -> Finding {
        Finding { check: self.name, subject: None, outcome, found, why: self.why, mend, settings: Vec::new() }
    }

    /// As it must be.
    pub fn ok(&self, found: impl Into<String>) -> Finding {
        self.finding(Outcome::Ok, found.into(), None)
    }

    /// Nothing to look at.
    pub fn not_applicable(&self, found: impl Into<String>) -> Finding {
        self.finding(Outcome::NotApplicable, found.into(), None)
    }

    /// Could not be looked at.
    pub fn unchecked(&self, found: impl Into<String>) -> Finding {
        self.finding(Outcome::Unchecked, found.into(), None)
    }

    /// Not well.
    pub fn warning(&self, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Outcome::Warning, found.into(), Some(mend.into()))
    }

    /// Cannot work.
    pub fn wrong(&self, found: impl Into<String>, mend: impl Into<String>) -> Finding {
        self.finding(Outcome::Wrong, found.into(), Some(mend.into()))
    }
}

// === impl Finding ===

impl Finding {
    /// The same, about one of several.
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// The same, on a host where no agent has started yet: what it will turn on by itself is not wrong.
    pub(super) fn before_the_agent(self) -> Self {
        if self.outcome != Outcome::Wrong || self.settings.is_empty() {
            return self;
        }
        let mend = self.mend.map(|mend| format!("the agent will turn it on when it starts; or now: {mend}"));
        Self { outcome: Outcome::Warning, mend, ..self }
    }

    /// Notes a setting that would mend it.
    pub(super) fn mended_by(mut self, settings: impl IntoIterator<Item = Setting>) -> Self {
        self.settings.extend(settings);
        self
    }
}

// === impl Setting ===

impl Setting {
    /// The setting `name`, a path below `/proc/sys`, at `value`.
    pub fn new(name: impl Into<String>, value: &'static str) -> Self {
        Self { name: name.into(), value }
    }

    /// The command that makes it so.
    pub fn command(&self) -> String {
        format!("sysctl -w {}={}", shown(&self.name), self.value)
    }
}

/// A setting's name as sysctl(8) takes it: dots between its parts, and slashes for dots within one (`eth0.7`).
pub fn shown(name: &str) -> String {
    let swapped = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swapped).collect()
}

// === impl Report ===

impl Report {
    /// Of these findings.
    pub fn new(findings: Vec<Finding>) -> Self {
        let outcome = findings.iter().map(|finding| finding.outcome).max().unwrap_or(Outcome::Ok);
        Self { outcome, findings }
    }

    /// Whether a script should go on: nothing is wrong and, if `strict`, there are no warnings either.
    pub fn passes(&self, strict: bool) -> bool {
        self.outcome < if strict { Outcome::Warning } else { Outcome::Wrong }
    }

    /// How many findings have this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: Check = Check { name: "a-check", why: "Because." };

    #[test]
    fn the_worst_outcome_decides() {
        let report = |findings| Report::new(findings);
        assert!(report(vec![]).passes(true));
        let harmless = vec![CHECK.ok("x"), CHECK.not_applicable("x"), CHECK.unchecked("x")];
        assert!(report(harmless.clone()).passes(true));
        let warned = [harmless, vec![CHECK.warning("x", "y")]].concat();
        assert!(report(warned.clone()).passes(false) && !report(warned.clone()).passes(true));
        let wrong = report([vec![CHECK.wrong("x", "y")], warned].concat());
        assert!(!wrong.passes(false));
        assert_eq!((wrong.outcome, wrong.count(Outcome::Wrong), wrong.count(Outcome::Ok)), (Outcome::Wrong, 1, 1));
    }

    #[test]
    fn a_setting_is_shown_as_sysctl_takes_it() {
        let setting = Setting::new("net/ipv4/conf/eth0.7/forwarding", "1");
        assert_eq!(setting.command(), "sysctl -w net.ipv4.conf.eth0/7.forwarding=1");
    }

    #[test]
    fn the_words_for_scripts_stay() {
        let finding = CHECK.wrong("it is so", "do this").about("eth0").mended_by([Setting::new("a/b", "1")]);
        assert_eq!(
            serde_json::to_string(&Report::new(vec![finding, CHECK.unchecked("no")])).unwrap(),
            r#"{"outcome":"wrong","findings":[{"check":"a-check","subject":"eth0","outcome":"wrong","found":"it is so","why":"Because.","mend":"do this"},{"check":"a-check","subject":null,"outcome":"unchecked","found":"no","why":"Because.","mend":null}]}"#
        );
        let all = [Outcome::Ok, Outcome::NotApplicable, Outcome::Unchecked, Outcome::Warning, Outcome::Wrong];
        assert_eq!(serde_json::to_string(&all).unwrap(), r#"["ok","not_applicable","unchecked","warning","wrong"]"#);
    }
}
