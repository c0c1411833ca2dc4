//! What the environment and the command line say instead of the configuration file: the values in which one node differs
//! from another, so that a fleet can share one file (a Kubernetes DaemonSet has them from the downward API).
//!
//! Every key of a table can be set: `max_flows` in `[node]` by `RINGSTEER_NODE_MAX_FLOWS`, or by
//! `--set node.max_flows=100000`, which goes before the environment. Lists of tables, `[[services]]` and the members of
//! `[ring]`, stand in the file only. A value is written as in TOML, but text needs no quotes.

use std::{borrow::Cow, env, fmt, ops::Range, str::FromStr, sync::OnceLock};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use self::Source::{CommandLine, Environment};
use super::keys;

/// In front of every variable.
const PREFIX: &str = "RINGSTEER_";

/// What this process's command line says.
static COMMAND_LINE: OnceLock<Vec<Setting>> = OnceLock::new();

/// Values that take the place of those in the file, the later that of the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    settings: Vec<(Source, Setting)>,
    unknown: Vec<String>,
}

/// A key and what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    table: String,
    key: String,
    value: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// That variable of the environment.
    Environment(String),
    /// `--set` on the command line, with that key.
    CommandLine(String),
}

/// Not a setting.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(String);

/// Why the merged text cannot be read: what TOML says, and where.
pub(super) struct Unreadable {
    pub(super) message: String,
    pub(super) span: Option<Range<usize>>,
}

// === impl Overrides ===

impl Overrides {
    /// What this process was started with. A variable that is empty counts as not set.
    pub fn of_this_process() -> Self {
        let variables =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut overrides = Self::of_environment(variables);
        let command_line = COMMAND_LINE.get().into_iter().flatten().cloned();
        overrides.settings.extend(command_line.map(|set| (CommandLine(format!("{}.{}", set.table, set.key)), set)));
        overrides
    }

    /// What an environment says.
    pub fn of_environment(variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let mut overrides = Self::default();
        for (name, value) in variables {
            let (name, value) = (name.into(), value.into());
            let Some((table, key)) = place(&name).filter(|_| !value.is_empty()) else { continue };
            if keys::exists(&table, &key) {
                overrides.settings.push((Environment(name), Setting { table, key, value }));
            } else if keys::TABLES.iter().any(|(known, _)| *known == table) {
                overrides.unknown.push(name);
            }
        }
        overrides.settings.sort_by(|(_, a), (_, b)| (&a.table, &a.key).cmp(&(&b.table, &b.key)));
        overrides.unknown.sort();
        overrides
    }

    /// Variables that begin like one of a table but name no key of it. They are no errors: where a Kubernetes service is
    /// called `ringsteer-gateway`, every pod has `RINGSTEER_GATEWAY_PORT`.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Where the value of a key comes from, if not from the file.
    pub fn source(&self, table: &str, key: &str) -> Option<&Source> {
        self.settings.iter().rev().find(|(_, set)| set.table == table && set.key == key).map(|(source, _)| source)
    }

    /// Which of them a place belongs to; they stand behind the end of the text, one byte each.
    pub(super) fn at(&self, text: &str, span: &Range<usize>) -> Option<&Source> {
        let index = span.start.checked_sub(text.len() + 1)?;
        self.settings.get(index).map(|(source, _)| source)
    }

    /// The file `text` with these values in place of its own.
    pub(super) fn read<F: DeserializeOwned>(&self, text: &str) -> Result<F, Unreadable> {
        let unreadable =
            |error: &toml::de::Error| Unreadable { message: error.message().to_owned(), span: error.span() };
        let parsed = DeTable::parse(text).map_err(|error| unreadable(&error))?;
        // What looks like a number may be meant as text: what the key takes decides.
        let mut as_text = vec![false; self.settings.len()];
        loop {
            let mut merged = parsed.clone();
            for (index, (_, set)) in self.settings.iter().enumerate() {
                let start = text.len() + 1 + index;
                set.put(merged.get_mut(), start..start + 1, as_text[index]);
            }
            let error = match F::deserialize(Deserializer::from(merged)) {
                Ok(file) => return Ok(file),
                Err(error) => error,
            };
            let index = error.span().and_then(|span| span.start.checked_sub(text.len() + 1));
            match index.and_then(|index| as_text.get_mut(index)) {
                Some(as_text) if !*as_text => *as_text = true,
                _ => return Err(unreadable(&error)),
            }
        }
    }
}

// === impl Setting ===

impl Setting {
    /// Makes these what the command line says. Once, at the start of the process.
    pub fn set_for_this_process(settings: Vec<Self>) {
        let first = COMMAND_LINE.set(settings).is_ok();
        debug_assert!(first, "there is one command line");
    }

    fn put<'set>(&'set self, tables: &mut DeTable<'set>, span: Range<usize>, as_text: bool) {
        let table = Spanned::new(span.clone(), Cow::Borrowed(self.table.as_str()));
        let new = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
        let DeValue::Table(table) = tables.entry(table).or_insert_with(new).get_mut() else {
            // No table in the file: that is an error without us.
            return;
        };
        let literal = DeValue::parse(&self.value).ok().filter(|_| !as_text).map(Spanned::into_inner);
        let value = literal.unwrap_or(DeValue::String(Cow::Borrowed(&self.value)));
        // The key's own place goes with the value's.
        let key = Spanned::new(span.clone(), Cow::Borrowed(self.key.as_str()));
        table.remove(self.key.as_str());
        table.insert(key, Spanned::new(span, value));
    }
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').and_then(|(name, value)| Some((name.trim().split_once('.')?, value)));
        let Some(((table, key), value)) = parts else {
            return Err(SettingError("write TABLE.KEY=VALUE, such as node.max_flows=100000".into()));
        };
        if !keys::exists(table, key) {
            let known = keys::of(table);
            return Err(SettingError(if known.is_empty() {
                let tables: Vec<_> = keys::TABLES.iter().map(|(table, _)| *table).collect();
                format!("there is no table {table:?} to set; there are {}", tables.join(", "))
            } else {
                format!("`[{table}]` has no key {key:?}; it has {}", known.join(", "))
            }));
        }
        Ok(Self { table: table.into(), key: key.into(), value: value.trim().into() })
    }
}

// === impl Source ===

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Environment(variable) => write!(f, "the environment's {variable}"),
            CommandLine(key) => write!(f, "the command line's --set {key}"),
        }
    }
}

/// The table and key that a variable would set.
fn place(variable: &str) -> Option<(String, String)> {
    let (table, key) = variable.strip_prefix(PREFIX)?.split_once('_')?;
    Some((table.to_ascii_lowercase(), key.to_ascii_lowercase()))
}
