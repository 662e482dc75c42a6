//! Reloads the registry file when it changes.
//!
//! The file is looked at, not watched by the kernel: that also sees it replaced by a rename, through a symbolic link that
//! points elsewhere now (as Kubernetes mounts configuration), or on a network file system.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::Registry;
use crate::state::Store;

const INTERVAL: Duration = Duration::from_millis(250);

/// Watches the file until the gateway stops.
pub(crate) async fn watch(
    registry: Arc<Registry>,
    store: Arc<dyn Store>,
    stopping: CancellationToken,
) {
    let Some(path) = registry.file.clone() else { return };
    let mut seen = fingerprint(&path).await;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = fingerprint(&path).await;
        if now == seen {
            continue;
        }
        seen = now;
        match registry.reload().await {
            Ok(()) => {
                registry.register_keys(&*store).await;
                let services = registry.backends().len();
                tracing::info!(file = %path.display(), services, "registry file reloaded");
            }
            Err(error) => {
                tracing::error!(%error, "registry file rejected, the one before stays in force");
            }
        }
    }
}

type Fingerprint = Option<(SystemTime, u64, Option<u64>)>;

async fn fingerprint(path: &Path) -> Fingerprint {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    #[cfg(unix)]
    let inode = Some(std::os::unix::fs::MetadataExt::ino(&metadata));
    #[cfg(not(unix))]
    let inode = None;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}
