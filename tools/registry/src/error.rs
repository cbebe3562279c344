// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong with a registry.

use std::fmt;

/// The kinds of errors, for those who do something about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// What was asked for makes no sense.
    Request,
    /// The registry cannot be reached, or stops in the middle.
    Network,
    /// The registry wants to know who asks, or does not allow it.
    Denied,
    /// The registry answers with an error.
    Status(u16),
    /// An answer is not what it has to be.
    Answer,
    /// Something has another sha256 than it should have.
    WrongDigest,
    /// It is larger than it may be.
    TooLarge,
    /// What was received could not be written.
    Output,
}

/// Something that went wrong.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    problem: String,
}

/// What is usual.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a kind.
    pub fn of(kind: Kind, problem: impl Into<String>) -> Self {
        Error {
            kind,
            problem: problem.into(),
        }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same, about something.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.problem = format!("{what}: {}", self.problem);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Error {}
