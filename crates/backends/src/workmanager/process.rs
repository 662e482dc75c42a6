//! A worker's process: a Python interpreter of its own, in a process group, a scratch folder and limits of its own.
//!
//! `runner.py` is the other end of the conversation and says what its frames are. The socket is the process's standard
//! input, so that it inherits no descriptor beside the three standard ones.

use super::logs::Logs;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

const RUNNER: &str = include_str!("runner.py");

/// The largest frame in either direction: an event, and what its JSON may add.
const MAX_FRAME_BYTES: usize = 32 << 20;

/// How long a process that was asked to end may take.
const GRACE: Duration = Duration::from_secs(2);

/// What one worker may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Address space.
    pub memory_bytes: u64,
    /// Descriptors open at a time.
    pub open_files: u64,
    /// The size of a file that it writes.
    pub file_bytes: u64,
    /// Processor time for one event, and for loading its code.
    pub cpu_seconds: u64,
    /// Time for one event, and for loading its code. A process that exceeds it is killed.
    pub event_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            open_files: 256,
            file_bytes: 64 << 20,
            cpu_seconds: 30,
            event_timeout: Duration::from_secs(30),
        }
    }
}

/// What every process of a WorkManager is started with.
#[derive(Clone, Debug)]
pub(super) struct Interpreter {
    pub(super) python: PathBuf,
    pub(super) limits: Limits,
    /// Where workers find the gateway, should they call it: variables and their values.
    pub(super) environment: Vec<(&'static str, String)>,
}

/// What became of an event.
#[derive(Debug)]
pub(super) enum Outcome {
    /// `Process` returned this event, or `None`.
    Done(Option<Value>),
    /// `Process` raised. The process goes on.
    Raised {
        /// The exception's class.
        kind: String,
        message: String,
    },
}

/// Why a process is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the worker's process could not be started: {0}")]
    Start(io::Error),
    #[error("{kind}: {message}")]
    Load { kind: String, message: String },
    #[error("the worker's process ended with {0}")]
    Exited(String),
    #[error("the worker did not answer within {0:?}")]
    TimedOut(Duration),
    #[error("the worker's process sent what is no frame: {0}")]
    Garbled(String),
}

impl Broken {
    /// The word for `worker.error` events.
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Start(_) => "StartFailed",
            Self::Load { kind, .. } => kind,
            Self::Exited(_) => "Crashed",
            Self::TimedOut(_) => "TimedOut",
            Self::Garbled(_) => "Garbled",
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Frame {
    Ready,
    Result {
        event: Option<Value>,
    },
    Error {
        #[serde(rename = "type")]
        kind: String,
        message: String,
    },
}

/// A process that has loaded its code. Dropping it kills its process group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    socket: UnixStream,
    limits: Limits,
    _scratch: TempDir,
}

impl Process {
    /// Starts an interpreter and loads `code`.
    pub(super) async fn start(
        interpreter: &Interpreter,
        code: &str,
        logs: &Arc<Logs>,
    ) -> Result<Self, Broken> {
        let scratch = tempfile::Builder::new().prefix("oxgrpc-worker-").tempdir();
        let scratch = scratch.map_err(Broken::Start)?;
        let (socket, theirs) = socket_pair().map_err(Broken::Start)?;
        let mut child = command(interpreter, scratch.path(), theirs).spawn().map_err(|error| {
            let text = format!("{}: {error}", interpreter.python.display());
            Broken::Start(io::Error::new(error.kind(), text))
        })?;
        if let Some(stdout) = child.stdout.take() {
            tokio::spawn(logs.clone().take_down("stdout", stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(logs.clone().take_down("stderr", stderr));
        }
        let limits = interpreter.limits.clone();
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let mut process = Self { child, group, socket, limits, _scratch: scratch };
        let load = json!({
            "kind": "load",
            "code": code,
            "limits": {
                "memory_bytes": process.limits.memory_bytes,
                "open_files": process.limits.open_files,
                "file_bytes": process.limits.file_bytes,
                "cpu_seconds": process.limits.cpu_seconds,
            },
        });
        match process.ask(&load).await? {
            Frame::Ready => Ok(process),
            Frame::Error { kind, message } => Err(Broken::Load { kind, message }),
            Frame::Result { .. } => Err(Broken::Garbled("a result before it was ready".into())),
        }
    }

    /// Has the worker process an event. A process that breaks must be replaced.
    pub(super) async fn process(&mut self, event: &Value) -> Result<Outcome, Broken> {
        match self.ask(&json!({"kind": "process", "event": event})).await? {
            Frame::Result { event } => Ok(Outcome::Done(event)),
            Frame::Error { kind, message } => Ok(Outcome::Raised { kind, message }),
            Frame::Ready => Err(Broken::Garbled("ready for the second time".into())),
        }
    }

    /// Asks the process to end, and kills it if it does not.
    pub(super) async fn shut_down(mut self) {
        let ended = async {
            self.send(&json!({"kind": "shutdown"})).await?;
            self.child.wait().await
        };
        // Dropping it kills what is left, children of its own included.
        let _ = timeout(GRACE, ended).await;
    }

    /// Waits for the process to end by itself. Cancel safe.
    pub(super) async fn ended(&mut self) -> Broken {
        match self.child.wait().await {
            Ok(status) => Broken::Exited(status.to_string()),
            Err(error) => Broken::Exited(error.to_string()),
        }
    }

    async fn ask(&mut self, frame: &Value) -> Result<Frame, Broken> {
        let limit = self.limits.event_timeout;
        let asked = async {
            self.send(frame).await?;
            self.receive().await
        };
        match timeout(limit, asked).await {
            Err(_) => Err(Broken::TimedOut(limit)),
            Ok(Ok(data)) => {
                serde_json::from_slice(&data).map_err(|error| Broken::Garbled(error.to_string()))
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(Broken::Garbled(error.to_string()))
            }
            // The socket ends with the process, which says why it ended.
            Ok(Err(error)) => Err(match timeout(GRACE, self.child.wait()).await {
                Ok(Ok(status)) => Broken::Exited(describe(status)),
                _ => Broken::Exited(error.to_string()),
            }),
        }
    }

    async fn send(&mut self, frame: &Value) -> io::Result<()> {
        let data = frame.to_string();
        let len = u32::try_from(data.len()).map_err(io::Error::other)?;
        self.socket.write_all(&len.to_be_bytes()).await?;
        self.socket.write_all(data.as_bytes()).await
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let len = self.socket.read_u32().await? as usize;
        if len > MAX_FRAME_BYTES {
            let text = format!("a frame of {len} octets, more than {MAX_FRAME_BYTES}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut data = vec![0; len];
        self.socket.read_exact(&mut data).await?;
        Ok(data)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whatever the worker has started goes with it. The group may have ended already.
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Returns the interpreter behind a name: what stands for it may be a script that finds it anew each time, and adds to the
/// environment.
pub(super) async fn interpreter(python: &Path) -> Result<PathBuf, String> {
    let failed =
        |why: &dyn std::fmt::Display| format!("--worker-python {}: {why}", python.display());
    let mut command = Command::new(python);
    command.args(["-I", "-c", "import sys; print(sys.executable)"]).stdin(Stdio::null());
    let output = command.output().await.map_err(|error| failed(&error))?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || path.is_empty() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(path.into())
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status.signal() {
        // SIGXCPU and SIGKILL are what limits end in.
        Some(24) => "SIGXCPU: it used more processor time than it may".into(),
        _ => status.to_string(),
    }
}

/// Returns our end of a socket pair, and theirs.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

fn command(interpreter: &Interpreter, scratch: &Path, socket: OwnedFd) -> Command {
    let mut command = Command::new(&interpreter.python);
    // -I: neither the environment nor the user's folder adds to the path.
    command.args(["-I", "-X", "utf8", "-c", RUNNER]);
    command.env_clear();
    let path = std::env::var_os("PATH");
    command.env("PATH", path.as_deref().unwrap_or_else(|| OsStr::new("/usr/bin:/bin")));
    command.envs([("HOME", scratch), ("TMPDIR", scratch)]);
    command.envs(interpreter.environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(scratch);
    command.stdin(Stdio::from(socket)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    command
}
