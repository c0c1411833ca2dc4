//! What the subcommands print, alike in all of them: facts, tables, JSON; and how they end.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// For whom it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For scripts
    Json,
}

/// How a subcommand ends that did what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Fine,
    /// It found what should not be: two rings, a node that is not well.
    Wanting,
}

/// Whoever reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Goes on reading.
    There,
    /// Has seen enough.
    Gone,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    alignment: CellAlignment,
}

/// The exit codes, for the end of `--help`, of commands that find nothing but what they were asked for.
macro_rules! exit_codes {
    () => {
        "Exit codes:\n  0  done\n  1  failed, and said why\n  2  the command line is wrong"
    };
    ($wanting:literal) => {
        concat!("Exit codes:\n  0  fine\n  1  failed, and said why\n  2  the command line is wrong\n  3  ", $wanting)
    };
}
pub(crate) use exit_codes;

// === impl Verdict ===

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Fine => Self::SUCCESS,
            // 1 is for failures, 2 for clap.
            Verdict::Wanting => Self::from(3),
        }
    }
}

/// A column of text.
pub const fn left(title: &'static str) -> Column {
    Column { title, alignment: CellAlignment::Left }
}

/// A column of numbers.
pub const fn right(title: &'static str) -> Column {
    Column { title, alignment: CellAlignment::Right }
}

/// A table: plain text, as wide as its content, whatever the terminal. What goes into a pipe looks like what a person
/// sees.
pub fn table<const N: usize>(columns: [Column; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.map(|column| column.title)).add_rows(rows);
    for (column, Column { alignment, .. }) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2)).set_cell_alignment(alignment);
    }
    table.trim_fmt() + "\n"
}

/// Lines of a name and what there is to say.
pub fn facts<S: AsRef<str>>(facts: impl IntoIterator<Item = (&'static str, S)>) -> String {
    facts.into_iter().map(|(name, value)| format!("{name:<12}{}\n", value.as_ref())).collect()
}

/// A share from 0 to 1.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// One `thing`, or several.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// A time that has passed, in the two largest units that say something.
pub fn ago(ms: u64) -> String {
    let (s, m, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s} s"),
        60..3600 => format!("{m} min {} s", s % 60),
        3600..86_400 => format!("{h} h {} min", m % 60),
        _ => format!("{} d {} h", h / 24, h % 24),
    }
}

/// So many bytes.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = UNITS.iter().enumerate().rev().find(|(index, _)| bytes >> (10 * index) > 0);
    match unit {
        None | Some((0, _)) => format!("{bytes} B"),
        Some((index, unit)) => format!("{:.1} {unit}", bytes as f64 / (1u64 << (10 * index)) as f64),
    }
}

/// What is said, as JSON for people too.
///
/// # Errors
/// If it cannot be written down.
pub fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Prints it, and that is all.
///
/// # Errors
/// As [`show`].
pub fn print(text: &str) -> Result<()> {
    show(text).map(drop)
}

/// Prints it, of which there may be more. A reader who has seen enough, such as `head`, is content and no error.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn show(text: &str) -> Result<Reader> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot print"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_plain_and_aligned() {
        let text = table(
            [right("number"), left("member"), right("share")],
            [
                ["1".into(), "gw-0:88".into(), percent(0.5)],
                ["12".into(), "gateway-one.example:88".into(), percent(0.051)],
            ],
        );
        let expected = "\
number  member                   share
     1  gw-0:88                 50.0 %
    12  gateway-one.example:88   5.1 %
";
        assert_eq!(text, expected);
        assert!(text.is_ascii());
    }

    #[test]
    fn nothing_to_list_leaves_the_titles() {
        assert_eq!(table([left("from"), left("to")], []), "from  to\n");
    }

    #[test]
    fn times_and_sizes_are_short() {
        let times = [999, 1000, 59_999, 61_000, 3_660_000, 90_000_000].map(ago);
        assert_eq!(times, ["999 ms", "1 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        let sizes = [0, 1023, 1024, 1_572_864, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "16777216.0 TiB"]);
    }

    #[test]
    fn facts_stand_in_one_column() {
        assert_eq!(facts([("ring", "epoch 1"), ("members", "5")]), "ring        epoch 1\nmembers     5\n");
    }
}
