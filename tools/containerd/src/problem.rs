// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong, by the classes that containerd tells apart: `ctr` shows its own sentence for each.

use ferofs::error;
use std::fmt;
use std::io;
use std::path::Path;
use tonic::Code;
use tonic::Status;

/// The result of what can go wrong.
pub type Result<T> = std::result::Result<T, Problem>;

/// Why something is not done.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    text: String,
}

impl Problem {
    fn new(code: Code, text: impl Into<String>) -> Self {
        let text = text.into();
        Problem { code, text }
    }

    /// There is no such thing.
    pub fn missing(text: impl Into<String>) -> Self {
        Self::new(Code::NotFound, text)
    }

    /// There is one already.
    pub fn exists(text: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, text)
    }

    /// It is not in the state for that.
    pub fn precondition(text: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, text)
    }

    /// What was asked makes no sense.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, text)
    }

    /// Somebody else has to do that.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, text)
    }

    /// Something failed.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(Code::Unknown, text)
    }

    /// Something failed with a file.
    pub fn io<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |error| {
            let code = match error.raw_os_error() {
                Some(number) if is_full(number) => Code::ResourceExhausted,
                _ => Code::Unknown,
            };
            Self::new(code, format!("cannot {doing} {}: {error}", path.display()))
        }
    }

    /// Whether there is no such thing.
    pub fn is_missing(&self) -> bool {
        self.code == Code::NotFound
    }
}

/// Whether it is for want of room: ENOSPC or EDQUOT.
fn is_full(number: i32) -> bool {
    [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT]
        .iter()
        .any(|errno| errno.raw_os_error() == number)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<error::Error> for Problem {
    fn from(error: error::Error) -> Self {
        use error::Kind;
        let full = match &error {
            error::Error::Io { source, .. } => source.raw_os_error().is_some_and(is_full),
            _ => false,
        };
        let code = match error.kind() {
            _ if full => Code::ResourceExhausted,
            Kind::WrongDigest | Kind::WrongBlob | Kind::Mount => Code::FailedPrecondition,
            Kind::Archive | Kind::Damaged | Kind::NotAnImage | Kind::TooLarge => {
                Code::InvalidArgument
            }
            Kind::NotFound => Code::NotFound,
            _ => Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}

/// The database is there for every request, so whatever is wrong with it is no fault of the request.
macro_rules! from_database {
    ($($error:ty),*) => {
        $(impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self::new(Code::Unknown, format!("the database of snapshots: {error}"))
            }
        })*
    };
}

from_database!(
    redb::Error,
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    serde_json::Error
);

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        Status::new(problem.code, problem.text)
    }
}
