//! `ringsteer config`: whether the configuration can be used, and what it says in the end.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde_json::{Map, Value, json};

use super::output::{self, Output, Verdict};
use crate::config::{self, Config, Overrides, Serve, read_token, shown};

/// Look at this node's configuration
///
/// It is one TOML file. The environment goes before the file, and --set before the environment: `max_flows` in `[node]`
/// is RINGSTEER_NODE_MAX_FLOWS and --set node.max_flows. A key that does not exist is an error.
#[derive(Debug, Parser)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Show(Show),
}

/// Say whether the configuration can be used, and if not, what is wrong and how to mend it
///
/// Also reads the files that it names for secrets and tokens, and names variables of the environment that begin like a
/// key and are none.
#[derive(Debug, Parser)]
#[command(after_help = output::exit_codes!("the configuration can be used, but a file that it names cannot"))]
struct Check {
    #[command(flatten)]
    of: Of,
}

/// Print the configuration in force, and for each value where it comes from
///
/// What is printed is TOML and can be used as a configuration, once the secrets, which are masked, are put in.
#[derive(Debug, Parser)]
#[command(after_help = output::exit_codes!())]
struct Show {
    #[command(flatten)]
    of: Of,
}

#[derive(Debug, Parser)]
struct Of {
    /// The node's configuration file
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Checks or shows.
    pub fn run(self) -> Result<Verdict> {
        match self.command {
            Command::Check(Check { of }) => check(&of),
            Command::Show(Show { of }) => show(&of),
        }
    }
}

fn check(of: &Of) -> Result<Verdict> {
    let config = Config::load(&of.config)?;
    let mut wanting = Vec::new();
    wanting.extend(config.secrets().err().map(|error| error.to_string()));
    let takes_pushes = config.push.grpc.is_some() || config.services.iter().any(|service| service.serve == Serve::Push);
    if takes_pushes {
        wanting.extend(config.push.tokens().err().map(|error| error.to_string()));
    }
    for path in [&config.msg.token_file, &config.msg.push_token_file].into_iter().flatten() {
        wanting.extend(read_token(path).err().map(|error| error.to_string()));
    }
    let unknown = Overrides::of_this_process().unknown().to_vec();
    output::print(&match of.output {
        Output::Json => output::json(&json!({ "fine": wanting.is_empty(), "wanting": wanting, "unknown": unknown }))?,
        Output::Table => {
            let mut text = String::new();
            for complaint in &wanting {
                writeln!(text, "{complaint}")?;
            }
            for variable in &unknown {
                writeln!(text, "the environment's {variable} sets no key; it is not used")?;
            }
            if wanting.is_empty() {
                writeln!(text, "{}: fine", of.config.display())?;
            }
            text
        }
    })?;
    Ok(if wanting.is_empty() { Verdict::Fine } else { Verdict::Wanting })
}

fn show(of: &Of) -> Result<Verdict> {
    let shown = Config::show(&of.config)?;
    output::print(&match of.output {
        Output::Json => output::json(&as_json(&shown))?,
        Output::Table => as_toml(&shown)?,
    })?;
    Ok(Verdict::Fine)
}

fn as_json(shown: &shown::Shown) -> Value {
    let mut tables = Map::new();
    for table in &shown.tables {
        let rows = table.rows.iter().map(|row| {
            let origin = match &row.origin {
                shown::Origin::Line(line) => json!({ "line": line }),
                shown::Origin::Override(what) => json!({ "override": what }),
                shown::Origin::Default => json!("default"),
            };
            (row.key.to_owned(), json!({ "value": row.value, "from": origin }))
        });
        tables.insert(table.name.to_owned(), Value::Object(rows.collect()));
    }
    tables.insert("services".into(), json!(shown.services));
    if let Some((epoch, members)) = &shown.ring {
        tables.insert("ring".into(), json!({ "epoch": epoch, "members": members }));
    }
    Value::Object(tables)
}

fn as_toml(shown: &shown::Shown) -> Result<String> {
    let mut text = String::new();
    for table in &shown.tables {
        writeln!(text, "{}[{}]", if text.is_empty() { "" } else { "\n" }, table.name)?;
        for row in &table.rows {
            let Some(value) = &row.value else { continue };
            let origin = match &row.origin {
                shown::Origin::Line(line) => format!("line {line}"),
                shown::Origin::Override(what) => what.clone(),
                shown::Origin::Default => "default".into(),
            };
            writeln!(text, "{:<48} # {origin}", format!("{} = {value}", row.key))?;
        }
        let unset: Vec<_> = table.rows.iter().filter(|row| row.value.is_none()).map(|row| row.key).collect();
        if !unset.is_empty() {
            writeln!(text, "# not set: {}", unset.join(", "))?;
        }
    }
    if let Some((epoch, members)) = &shown.ring {
        writeln!(text, "\n[ring]\nepoch = {epoch}")?;
        list(&mut text, "ring.members", members)?;
    }
    list(&mut text, "services", &shown.services)?;
    Ok(text)
}

/// Tables of a list.
fn list(text: &mut String, name: &str, entries: &[impl serde::Serialize]) -> Result<()> {
    for entry in entries {
        writeln!(text, "\n[[{name}]]")?;
        if let Value::Object(fields) = serde_json::to_value(entry)? {
            for (key, value) in fields.into_iter().filter(|(_, value)| !value.is_null()) {
                writeln!(text, "{key} = {value}")?;
            }
        }
    }
    Ok(())
}
