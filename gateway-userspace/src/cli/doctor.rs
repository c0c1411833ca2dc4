//! `ringsteer doctor`: is this host fit to steer, and does it?

use std::{
    fmt::{self, Display},
    path::PathBuf,
};

use anyhow::Result;
use clap::Parser;

use super::output::{self, Output, Verdict, exit_codes};
use crate::{
    config,
    doctor::{self, Finding, Outcome, Report},
};

/// Examine this host: what steering needs, what is wrong, why it matters and how to mend it
///
/// Works before the agent was ever started, while it runs and when it is gone; with a configuration or without, then only
/// the host itself is examined; as any user, though some things only root may look at. Changes nothing. All that it sends
/// is a connection to each other agent's port.
///
/// Each line is one check: `ok`, `-` (nothing to look at here, or not yet), `?` (could not be looked at), `warning`
/// (works, but not well, not for everybody or not for long) or `WRONG` (cannot work like this). Warnings and what is
/// wrong come with the reason why it matters and with the way to mend it, a command wherever that is possible.
///
/// docs/doctor.md describes each check.
#[derive(Debug, Parser)]
#[command(after_help = concat!(
    "Examples:
  ringsteer doctor                        for people
  ringsteer doctor --strict -o json       for scripts
  ringsteer doctor -o json | jq -r '.findings[] | select(.outcome == \"wrong\").mend'

",
    exit_codes!("something is wrong or, with --strict, to be warned of")
))]
pub struct Args {
    /// The node's configuration file [default: /etc/ringsteer/ringsteer.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG")]
    config: Option<PathBuf>,
    /// Let warnings decide the exit code, too
    #[arg(long)]
    strict: bool,
    /// Tell why each check matters, also where all is well
    #[arg(short, long)]
    verbose: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Examines and prints.
    pub async fn run(self) -> Result<Verdict> {
        let named = self.config.is_some();
        let path = self.config.unwrap_or_else(|| config::DEFAULT_PATH.into());
        let report = doctor::examine(&path, named).await;
        output::print(&match self.output {
            Output::Table => Table { report: &report, verbose: self.verbose }.to_string(),
            Output::Json => output::json(&report)?,
        })?;
        Ok(if report.passes(self.strict) { Verdict::Fine } else { Verdict::Wanting })
    }
}

/// The report as people read it.
struct Table<'a> {
    report: &'a Report,
    verbose: bool,
}

/// Width of the first column.
const OUTCOME: usize = 9;

/// Width of a line that is wrapped.
const LINE: usize = 100;

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::NotApplicable => "-",
        Outcome::Unchecked => "?",
        Outcome::Warning => "warning",
        Outcome::Wrong => "WRONG",
    }
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.report.findings.iter().map(|finding| finding.check.len());
        let width = names.max().unwrap_or_default() + 2;
        for finding in &self.report.findings {
            self.finding(f, finding, width)?;
        }
        let count = |outcome| self.report.count(outcome);
        writeln!(
            f,
            "\n{} wrong, {} to be warned of, {} not checked, {} ok",
            count(Outcome::Wrong),
            count(Outcome::Warning),
            count(Outcome::Unchecked),
            count(Outcome::Ok)
        )
    }
}

impl Table<'_> {
    fn finding(&self, f: &mut fmt::Formatter<'_>, finding: &Finding, width: usize) -> fmt::Result {
        let subject = finding.subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
        write!(f, "{:OUTCOME$}{:width$}", word(finding.outcome), finding.check)?;
        wrapped(f, &format!("{subject}{}", finding.found), OUTCOME + width)?;
        let bad = finding.outcome >= Outcome::Warning;
        for (label, text) in [("why", Some(finding.why)), ("mend", finding.mend.as_deref())] {
            if let Some(text) = text.filter(|_| bad || self.verbose) {
                write!(f, "{:OUTCOME$}{label:>width$}", "", width = width - 2)?;
                f.write_str("  ")?;
                wrapped(f, text, OUTCOME + width)?;
            }
        }
        Ok(())
    }
}

/// Writes words, the first where the line is now, and breaks lines that get too long. A word is never broken: it may be
/// a path to copy.
fn wrapped(f: &mut fmt::Formatter<'_>, text: &str, indent: usize) -> fmt::Result {
    let mut column = indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > indent && column + 1 + length > LINE {
            write!(f, "\n{:indent$}", "")?;
            column = indent;
        } else if column > indent {
            f.write_str(" ")?;
            column += 1;
        }
        f.write_str(word)?;
        column += length;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Check;

    const CHECK: Check = Check { name: "a-check", why: "Because it matters a lot." };

    #[test]
    fn people_see_what_to_do() {
        let long = "it is so in this and that and many another place, which takes more words than there is room for in one \
                    line of a terminal";
        let report = Report::new(vec![
            CHECK.ok("good").about("eth0"),
            CHECK.wrong(long, "run this"),
            Check { name: "b", why: "Who knows." }.unchecked("hidden"),
        ]);
        let expected = "\
ok       a-check  eth0: good
WRONG    a-check  it is so in this and that and many another place, which takes more words than
                  there is room for in one line of a terminal
             why  Because it matters a lot.
            mend  run this
?        b        hidden

1 wrong, 0 to be warned of, 1 not checked, 1 ok
";
        assert_eq!(Table { report: &report, verbose: false }.to_string(), expected);
        assert!(Table { report: &report, verbose: true }.to_string().contains("Who knows."));
    }
}
