//! The command of `oxgrpc up -- COMMAND`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// A command that runs.
pub(super) struct Program {
    child: Child,
    name: String,
}

impl Program {
    pub(super) fn start(
        words: &[OsString],
        environment: &[(&'static str, String)],
    ) -> Result<Self, Failure> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| Failure::usage("there is no command after --"))?;
        let name = program.to_string_lossy().into_owned();
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value.as_str())))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::io(format!("`{name}` cannot be run: {error}")))?;
        Ok(Self { child, name })
    }

    /// Waits for the end, and returns the exit code: 128 and the signal's number where one ended it, as shells do.
    pub(super) async fn ended(&mut self) -> Result<u8, Failure> {
        let status = self.child.wait().await.map_err(|error| {
            Failure::io(format!("`{}` cannot be waited for: {error}", self.name))
        })?;
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
    }

    /// Asks the command to end.
    pub(super) fn terminate(&self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}
