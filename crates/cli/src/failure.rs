//! How a command ends: its exit codes, and failures that name their cause and its cure.
//!
//! Exit codes of different kinds are disjoint, so that a script can tell a server's answer from a wrong flag. The rows of
//! [`EXIT_CODES`] are `--help`'s table; docs/cli.md repeats it and a test compares the two.

use std::fmt;
use std::io::Write as _;

use serde_json::{Value, json};
use tonic::Code;

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line, the profile or a header command is wrong.
    Usage,
    /// No connection to the server, or it does not speak gRPC.
    Connection,
    /// A name, a descriptor or a request's JSON does not fit.
    Schema,
    /// A file, standard input or output, or a port to listen on.
    Io,
    /// A limit of `--fail-if` was broken.
    Limit,
    /// The server answered with this status, or the call was cancelled or ran out of time.
    Rpc(Code),
    /// Ctrl-C, with no call under way that it could cancel.
    Interrupt,
}

/// Exit code, kind and meaning.
pub(crate) const EXIT_CODES: [(&str, &str, &str); 8] = [
    ("0", "success", "the command did what it was asked to do, and a call's status is OK"),
    ("2", "usage", "the command line, a profile or a `!command` header is wrong"),
    ("3", "connection", "the server cannot be reached, or does not speak gRPC as asked"),
    (
        "4",
        "schema",
        "an unknown name, a descriptor that is missing or broken, a request that does not fit",
    ),
    ("5", "io", "a file, standard input or output, or a port to listen on"),
    ("6", "limit", "`bench --fail-if` found its limit broken"),
    ("65-80", "status", "64 plus the RPC's status code: NOT_FOUND (5) exits with 69"),
    ("130", "interrupt", "Ctrl-C with no call to cancel; a call that is cancelled exits with 65"),
];

impl Kind {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Connection => 3,
            Self::Schema => 4,
            Self::Io => 5,
            Self::Limit => 6,
            Self::Interrupt => 130,
            Self::Rpc(Code::Ok) => 0,
            Self::Rpc(code) => 64 + code as u8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Connection => "connection",
            Self::Schema => "schema",
            Self::Io => "io",
            Self::Limit => "limit",
            Self::Interrupt => "interrupt",
            Self::Rpc(_) => "status",
        }
    }
}

/// A failure: what happened, and what to do about it.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn schema(message: impl Into<String>) -> Self {
        Self::new(Kind::Schema, message)
    }

    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self::new(Kind::Io, message)
    }

    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self::new(Kind::Connection, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure of a command with `-o json`: an object with the same keys whatever the kind.
    pub(crate) fn to_json(&self) -> Value {
        json!({"kind": self.kind.name(), "message": self.message, "hint": self.hint})
    }

    /// Prints the failure to standard error.
    pub(crate) fn print(&self) {
        let mut stderr = anstream::stderr().lock();
        // A closed standard error leaves nowhere to report to.
        let _ = writeln!(stderr, "{ERROR}error{ERROR:#}: {}", self.message);
        if let Some(hint) = &self.hint {
            let _ = writeln!(stderr, " {HINT}hint{HINT:#}: {hint}");
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// The style of the word that opens a failure.
pub(crate) const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
/// The style of the word that opens a cure.
pub(crate) const HINT: anstyle::Style = anstyle::AnsiColor::Cyan.on_default().bold();
/// The style of a status that is OK.
pub(crate) const GOOD: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();
/// The style of what matters less.
pub(crate) const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// The exit codes as `--help` shows them.
pub(crate) fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for (code, kind, meaning) in EXIT_CODES {
        text.push_str(&format!("  {code:<6} {kind:<11} {meaning}\n"));
    }
    text
}
