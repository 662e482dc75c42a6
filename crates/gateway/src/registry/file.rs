//! The registry file, `services.json`: what it may say, and where it is wrong.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::ApiKey;

/// One registered service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// What callers name it by.
    pub name: String,
    /// Informational.
    pub dapr_app_id: String,
    /// Its hosts, all of which serve the same API.
    pub targets: Vec<Target>,
    /// Whether its schema comes by reflection.
    pub reflection: bool,
    /// A file with a `FileDescriptorSet`, used instead of reflection.
    pub descriptor_set: Option<PathBuf>,
    /// The Dapr component's name.
    pub pubsub_name: String,
    /// The Dapr component's name.
    pub store_name: String,
    /// Keys that are registered when the gateway starts.
    pub state_keys: Vec<String>,
    /// Hints for schedulers.
    pub crons: Vec<Cron>,
}

impl ServiceEntry {
    /// A service at one address with reflection.
    pub fn new(name: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self {
            name: name.into(),
            dapr_app_id: String::new(),
            targets: vec![Target {
                host: host.into(),
                port,
                tls: false,
                authority: None,
                api_key: None,
            }],
            reflection: true,
            descriptor_set: None,
            pubsub_name: "pubsub".to_owned(),
            store_name: "statestore".to_owned(),
            state_keys: Vec::new(),
            crons: Vec::new(),
        }
    }
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address.
    pub host: String,
    /// The gRPC port.
    pub port: u16,
    /// Whether the connection is secured.
    pub tls: bool,
    /// A file with the authority, PEM, that the host's certificate is verified with; needed with `tls`.
    pub authority: Option<PathBuf>,
    /// What the gateway sends the host as `x-api-key`. A registry file has none: it is for backends that the program adds.
    pub api_key: Option<ApiKey>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// A cron hint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cron {
    /// Its name.
    pub name: String,
    /// When.
    pub schedule: String,
    /// What.
    pub endpoint: String,
}

/// A registry file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {reason}", .path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line that is wrong, counted from 1; 0 if the file cannot be read.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    services: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    name: String,
    #[serde(default = "grpc")]
    protocol: String,
    #[serde(default)]
    dapr_app_id: String,
    grpc: Grpc,
    #[serde(default)]
    pubsub: Pubsub,
    #[serde(default)]
    state: State,
    #[serde(default)]
    jobs: Jobs,
}

fn grpc() -> String {
    "grpc".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grpc {
    host: Option<String>,
    port: Option<std::num::NonZeroU16>,
    #[serde(default)]
    hosts: Vec<Address>,
    #[serde(default = "yes")]
    reflection_enabled: bool,
    descriptor_set: Option<PathBuf>,
    #[serde(default)]
    tls: bool,
    authority: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Address {
    host: String,
    port: std::num::NonZeroU16,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Pubsub {
    pubsub_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct State {
    store_name: Option<String>,
    keys: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Jobs {
    crons: Vec<Cron>,
}

pub(super) async fn read(path: &Path) -> Result<Vec<ServiceEntry>, FileError> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| FileError {
        path: path.to_owned(),
        line: 0,
        reason: format!("cannot be read: {error}"),
    })?;
    parse(path, &text)
}

/// Parses a registry file; relative paths in it start at its directory.
pub fn parse(path: &Path, text: &str) -> Result<Vec<ServiceEntry>, FileError> {
    let wrong = |line: usize, reason: String| FileError { path: path.to_owned(), line, reason };
    let document: Document<'_> =
        serde_json::from_str(text).map_err(|error| wrong(error.line(), without_place(&error)))?;
    let directory = path.parent().unwrap_or_else(|| Path::new(""));
    let mut lines: HashMap<String, usize> = HashMap::new();
    let mut entries = Vec::with_capacity(document.services.len());
    for (index, raw) in document.services.iter().enumerate() {
        // The raw text is a part of the file's, so that its place tells the line.
        let offset = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        let first = 1 + text[..offset].matches('\n').count();
        let json = &mut serde_json::Deserializer::from_str(raw.get());
        let service: Service = serde_path_to_error::deserialize(json).map_err(|error| {
            let line = first + error.inner().line().saturating_sub(1);
            wrong(
                line,
                format!("services[{index}].{}: {}", error.path(), without_place(error.inner())),
            )
        })?;
        let entry = entry(service, directory)
            .map_err(|reason| wrong(first, format!("services[{index}]: {reason}")))?;
        if let Some(earlier) = lines.insert(entry.name.to_lowercase(), first) {
            let reason =
                format!("services[{index}]: name {:?} is taken on line {earlier}", entry.name);
            return Err(wrong(first, reason));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(service: Service, directory: &Path) -> Result<ServiceEntry, String> {
    let Service { name, protocol, dapr_app_id, grpc, pubsub, state, jobs } = service;
    if name.is_empty() {
        return Err("name is empty".to_owned());
    }
    if protocol != "grpc" {
        return Err(format!("protocol {protocol:?} is not supported, only \"grpc\" is"));
    }
    let target = |host: String, port: std::num::NonZeroU16| Target {
        host,
        port: port.get(),
        tls: grpc.tls,
        authority: grpc.authority.as_ref().map(|path| directory.join(path)),
        api_key: None,
    };
    let mut targets = Vec::new();
    match (grpc.host, grpc.port) {
        (Some(host), Some(port)) => targets.push(target(host, port)),
        (None, None) if !grpc.hosts.is_empty() => {}
        (Some(_), None) => return Err("grpc.port is missing".to_owned()),
        (None, _) => return Err("grpc.host is missing".to_owned()),
    }
    targets.extend(grpc.hosts.into_iter().map(|address| target(address.host, address.port)));
    if let Some(target) = targets.iter().find(|target| target.host.is_empty()) {
        return Err(format!("the host of port {} is empty", target.port));
    }
    if grpc.tls && grpc.authority.is_none() {
        return Err("grpc.tls needs grpc.authority, a file with the authority's certificate (PEM)"
            .to_owned());
    }
    if !grpc.reflection_enabled && grpc.descriptor_set.is_none() {
        return Err("a service without reflection needs grpc.descriptorSet, a file with its \
                    FileDescriptorSet"
            .to_owned());
    }
    Ok(ServiceEntry {
        name,
        dapr_app_id,
        targets,
        reflection: grpc.reflection_enabled,
        descriptor_set: grpc.descriptor_set.map(|path| directory.join(path)),
        pubsub_name: pubsub.pubsub_name.unwrap_or_else(|| "pubsub".to_owned()),
        store_name: state.store_name.unwrap_or_else(|| "statestore".to_owned()),
        state_keys: state.keys,
        crons: jobs.crons,
    })
}

/// serde_json appends the place to its messages; here it is told apart.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}
