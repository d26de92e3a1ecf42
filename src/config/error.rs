//! What is wrong with a configuration: where it was written, which key, what, and the remedy.

use std::fmt;
use std::sync::Arc;

/// Where a value was written. Later variants override earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nowhere: it is built in, or was found out from the host.
    Default,
    /// In the configuration file.
    File {
        /// The file as the operator named it.
        path: Arc<str>,
        /// Counted from 1; 0 when the file as a whole is meant.
        line: usize,
    },
    /// In the environment variable of this name.
    Environment(String),
    /// By this command line option, dashes included.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => f.write_str(path),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One error or warning, printed as `turnserver.toml:12: relay.ports: what is wrong; what to do`.
///
/// It never contains a secret: texts quote values of keys that are not secret only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the offending value was written.
    pub origin: Origin,
    /// The dotted key, empty when no single key is to blame.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What the operator should write instead.
    pub remedy: String,
    /// Whether it can pass by itself: an address may come later.
    pub may_pass: bool,
}

impl Problem {
    pub(super) fn new(
        origin: &Origin,
        key: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            origin: origin.clone(),
            key: key.into(),
            what: what.into(),
            remedy: remedy.into(),
            may_pass: false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Every problem of a configuration that `run` refuses, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts by file line, then environment, then flags, and says a thing once.
    ///
    /// `--listen` sets two keys, so its mistakes would otherwise be told twice.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.origin.cmp(&b.origin));
        problems.dedup_by(|b, a| {
            a.origin == b.origin
                && a.what == b.what
                && (a.key == b.key || matches!(a.origin, Origin::Flag(_)))
        });
        Self(problems)
    }

    /// The problems one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Whether the same configuration may be right in a while: all of them can pass by themselves.
    pub fn may_pass(&self) -> bool {
        self.0.iter().all(|problem| problem.may_pass)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
