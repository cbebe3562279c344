// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can be wrong with an archive.

use crate::text::Quoted;
use crate::text::Reason;
use std::fmt;
use std::io;

/// A failure to read an archive: where, at which entry, and what was expected.
#[derive(Debug)]
#[non_exhaustive]
pub struct Error {
    /// Byte offset in the archive.
    pub offset: u64,
    /// Path of the entry, once it is known.
    pub entry: Option<Vec<u8>>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an archive.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// It cannot be read.
    Io(io::Error),
    /// It is not a tar archive, or not one that can be understood.
    Invalid(String),
}

impl Error {
    /// An invalid archive.
    pub fn invalid(offset: u64, problem: impl Into<String>) -> Self {
        Error {
            offset,
            entry: None,
            problem: Problem::Invalid(problem.into()),
        }
    }

    /// An archive that cannot be read.
    pub fn io(offset: u64, error: io::Error) -> Self {
        Error {
            offset,
            entry: None,
            problem: Problem::Io(error),
        }
    }

    /// The same with the entry it is about, unless one is known already.
    #[must_use]
    pub fn of(mut self, entry: &[u8]) -> Self {
        self.entry.get_or_insert_with(|| entry.to_vec());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at offset {}: ", self.offset)?;
        if let Some(entry) = &self.entry {
            write!(f, "entry {}: ", Quoted(entry))?;
        }
        match &self.problem {
            Problem::Io(error) => write!(f, "cannot read: {}", Reason(error)),
            Problem::Invalid(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Io(error) => Some(error),
            Problem::Invalid(_) => None,
        }
    }
}
