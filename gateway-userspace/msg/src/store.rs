//! The tables on disk.
//!
//! A log-structured database: a write is appended to a journal, and is in the storage when the journal is. All writes of
//! a batch are stored or none is, and readers see none of them before they are.

use std::{
    io,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};

use crate::book::{StorageError, Table, View, Write};

/// Blocks of tables kept in memory, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// The tables on disk.
#[derive(Clone)]
pub struct Store {
    database: Database,
    tables: [Keyspace; Table::ALL.len()],
}

/// The tables as they were at one moment.
#[derive(Clone)]
pub struct Moment {
    snapshot: Snapshot,
    tables: [Keyspace; Table::ALL.len()],
}

/// Up to where a write has to get before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safe {
    /// To the operating system: it survives the death of this process.
    FromCrash,
    /// To the disk: it survives the death of the machine.
    FromPowerLoss,
}

/// The storage cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made.
    #[error(
        "cannot make the directory {path}: {error}; make it, writable to this user, or name another",
        path = path.display()
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else has it.
    #[error(
        "the storage in {path} is in use by another process; there can be one at a time: end that, or name another path",
        path = path.display()
    )]
    Locked {
        /// Where.
        path: PathBuf,
    },
    /// The disk is full.
    #[error("the disk that holds {path} is full; free some space and start again", path = path.display())]
    Full {
        /// Where.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot open the storage in {path}: {error}", path = path.display())]
    Other {
        /// Where.
        path: PathBuf,
        /// What the database says.
        error: StorageError,
    },
}

// === impl Store ===

impl Store {
    /// Opens the storage in a directory, which is made if it does not exist. What a killed process has left behind is
    /// put in order.
    ///
    /// # Errors
    /// If it cannot be opened; the message says what to do.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(path).map_err(|error| OpenError::Directory { path: path.to_owned(), error })?;
        let open = || -> fjall::Result<Self> {
            // When the journal is written to disk is for the writer to say, batch by batch.
            let database = Database::builder(path).manual_journal_persist(true).cache_size(CACHE_BYTES).open()?;
            let mut tables = Vec::with_capacity(Table::ALL.len());
            for table in Table::ALL {
                tables.push(database.keyspace(table.name(), KeyspaceCreateOptions::default)?);
            }
            let tables = tables.try_into().unwrap_or_else(|_| unreachable!("there are as many as tables"));
            Ok(Self { database, tables })
        };
        open().map_err(|error| match &error {
            fjall::Error::Locked => OpenError::Locked { path: path.to_owned() },
            error if is_full(error) => OpenError::Full { path: path.to_owned() },
            _ => OpenError::Other { path: path.to_owned(), error: StorageError::new(error) },
        })
    }

    /// The tables as they are now.
    pub fn now(&self) -> Moment {
        Moment { snapshot: self.database.snapshot(), tables: self.tables.clone() }
    }

    /// Stores all of `writes`, or none.
    ///
    /// # Errors
    /// If they cannot be stored. The storage takes nothing more then, until it is opened again.
    pub fn store(&self, writes: impl Iterator<Item = Write>, safe: Safe) -> Result<(), StorageError> {
        let mut batch = self.database.batch().durability(Some(safe.mode()));
        for (table, key, value) in writes {
            let table = &self.tables[table as usize];
            match value {
                Some(value) => batch.insert(table, key, value),
                None => batch.remove(table, key),
            }
        }
        batch.commit().map_err(broken)
    }

    /// Gets everything stored so far to the disk.
    ///
    /// # Errors
    /// If that fails. The storage takes nothing more then, until it is opened again.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.database.persist(Safe::FromPowerLoss.mode()).map_err(broken)
    }

    /// Bytes on disk, as far as they can be told.
    pub fn disk_bytes(&self) -> Option<u64> {
        self.database.disk_space().ok()
    }
}

// === impl Safe ===

impl Safe {
    fn mode(self) -> PersistMode {
        match self {
            Self::FromCrash => PersistMode::Buffer,
            // The journal's length changes with each write, and SyncData includes that.
            Self::FromPowerLoss => PersistMode::SyncData,
        }
    }
}

// === impl Moment ===

impl View for Moment {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.snapshot.get(&self.tables[table as usize], key).map_err(broken)?;
        Ok(value.map(Bytes::from))
    }

    fn scan(
        &self,
        table: Table,
        range: Range<Vec<u8>>,
        backwards: bool,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        if range.start >= range.end {
            return Ok(());
        }
        let mut show = |guard: fjall::Guard| -> Result<bool, StorageError> {
            let (key, value) = guard.into_inner().map_err(broken)?;
            Ok(visit(&key, value.into()).is_continue())
        };
        let entries = self.snapshot.range(&self.tables[table as usize], range);
        if backwards {
            for entry in entries.rev() {
                if !show(entry)? {
                    break;
                }
            }
        } else {
            for entry in entries {
                if !show(entry)? {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn broken(error: fjall::Error) -> StorageError {
    StorageError::new(error)
}

/// Whether a disk without space is behind it.
fn is_full(error: &fjall::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        source = error.source();
    }
    false
}
