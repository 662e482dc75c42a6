//! A NATS server of a test's own, which can be stopped, killed and started again where it was.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running `nats-server`; what it has stored goes when it is dropped.
pub struct NatsServer {
    binary: PathBuf,
    directory: tempfile::TempDir,
    process: Child,
    url: String,
}

impl NatsServer {
    /// Starts one; `None`, with a word about it, where `nats-server` is not installed.
    pub async fn start() -> Option<Self> {
        let candidates = [
            std::env::var_os("NATS_SERVER").map(PathBuf::from),
            Some("/usr/sbin/nats-server".into()),
            Some("/usr/bin/nats-server".into()),
            Some("/usr/local/bin/nats-server".into()),
        ];
        let Some(binary) = candidates.into_iter().flatten().find(|path| path.exists()) else {
            eprintln!("skipped: nats-server is not installed (apt-get install nats-server)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        // Port -1 is a free one, which the server writes into a file.
        let process = run(&binary, &directory, "-1");
        let url = loop {
            let written = std::fs::read_dir(directory.path()).unwrap().find_map(|entry| {
                let path = entry.unwrap().path();
                path.extension()
                    .is_some_and(|extension| extension == "ports")
                    .then(|| std::fs::read_to_string(path).unwrap())
            });
            let url = written.and_then(|ports| {
                let ports: serde_json::Value = serde_json::from_str(&ports).ok()?;
                Some(ports["nats"][0].as_str()?.to_owned())
            });
            if let Some(url) = url {
                break url;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Some(Self { binary, directory, process, url })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, on the same port and with what it had stored.
    pub fn start_again(&mut self) {
        let port = self.url.rsplit(':').next().unwrap();
        self.process = run(&self.binary, &self.directory, port);
    }
}

fn run(binary: &PathBuf, directory: &tempfile::TempDir, port: &str) -> Child {
    Command::new(binary)
        .args(["-js", "-a", "127.0.0.1", "-p", port, "-sd"])
        .arg(directory.path().join("store"))
        .arg("--ports_file_dir")
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
