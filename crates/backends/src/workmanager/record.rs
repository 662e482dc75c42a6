//! What is known of a worker beyond its process, and how it lies in the gateway's state: an index of ids under
//! `workers/index`, and each worker under `workers/ID`.

use crate::platform::{Platform, now};
use oxgrpc_proto::virtufin::code_source::Source;
use oxgrpc_proto::virtufin::{CodeSource, HistoryEntry, WorkerInfo, WorkerStatus};
use serde::{Deserialize, Serialize};
use tonic::Status;

const INDEX: &str = "workers/index";

/// Versions of a worker's code that are remembered.
const HISTORY: usize = 20;

/// Where a worker's code comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Code {
    /// A URL, and what was fetched from it.
    Url { url: String, text: String },
    /// The caller.
    Content { text: String },
}

impl Code {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Url { text, .. } | Self::Content { text } => text,
        }
    }

    fn source(&self) -> CodeSource {
        let source = match self {
            Self::Url { url, .. } => Source::Url(url.clone()),
            Self::Content { text } => Source::Content(text.clone().into()),
        };
        CodeSource { source: Some(source) }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Version {
    code: Code,
    created_at: String,
}

/// A worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) mime_type: String,
    pub(super) topic: String,
    pub(super) group: String,
    created_at: String,
    /// Whether it should run: it is started again when the platform is.
    pub(super) running: bool,
    /// Newest last; never empty.
    versions: Vec<Version>,
}

impl Record {
    pub(super) fn new(code: Code, mime_type: String, topic: String, group: String) -> Self {
        let created_at = now();
        let versions = vec![Version { code, created_at: created_at.clone() }];
        let id = uuid::Uuid::new_v4().to_string();
        Self { id, mime_type, topic, group, created_at, running: false, versions }
    }

    pub(super) fn code(&self) -> &str {
        self.versions.last().map_or("", |version| version.code.text())
    }

    pub(super) fn replace_code(&mut self, code: Code) {
        self.versions.push(Version { code, created_at: now() });
        if self.versions.len() > HISTORY {
            self.versions.remove(0);
        }
    }

    pub(super) fn info(&self, is_running: bool) -> WorkerInfo {
        let status = match is_running {
            true => WorkerStatus::Running,
            false => WorkerStatus::Stopped,
        };
        WorkerInfo {
            id: self.id.clone(),
            code_source: self.versions.last().map(|version| version.code.source()),
            mime_type: self.mime_type.clone(),
            language: "Python".into(),
            topic: self.topic.clone(),
            group: self.group.clone(),
            created_at: self.created_at.clone(),
            status: status.into(),
        }
    }

    pub(super) fn history(&self) -> Vec<HistoryEntry> {
        let entry = |version: &Version| HistoryEntry {
            code_source: Some(version.code.source()),
            created_at: version.created_at.clone(),
        };
        self.versions.iter().map(entry).collect()
    }

    pub(super) async fn save(&self, platform: &Platform) -> Result<(), Status> {
        let text =
            serde_json::to_string(self).map_err(|error| Status::internal(error.to_string()))?;
        platform.save(&key(&self.id), text).await
    }

    /// Reads a worker; `None` if there is none, or what is there cannot be read.
    pub(super) async fn load(platform: &Platform, id: &str) -> Result<Option<Self>, Status> {
        let Some(value) = platform.load(&key(id)).await? else { return Ok(None) };
        let read = serde_json::from_str(&value).ok();
        if read.is_none() {
            tracing::warn!(id, "the state of a worker cannot be read and is ignored");
        }
        Ok(read)
    }

    pub(super) async fn delete(platform: &Platform, id: &str) -> Result<(), Status> {
        platform.delete(&key(id)).await
    }
}

/// Reads the ids of all workers.
pub(super) async fn load_index(platform: &Platform) -> Result<Vec<String>, Status> {
    let value = platform.load(INDEX).await?;
    Ok(value.and_then(|value| serde_json::from_str(&value).ok()).unwrap_or_default())
}

/// Writes the ids of all workers.
pub(super) async fn save_index(platform: &Platform, ids: &[String]) -> Result<(), Status> {
    let value = serde_json::to_string(ids).map_err(|error| Status::internal(error.to_string()))?;
    platform.save(INDEX, value).await
}

fn key(id: &str) -> String {
    format!("workers/{id}")
}
