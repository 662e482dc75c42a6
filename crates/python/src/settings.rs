//! What the environment says.

use std::path::PathBuf;
use std::sync::OnceLock;

/// Switches that a program does not set in code.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `OXGRPC_DIRECT_WAKE=0` wakes tasks through `call_soon`, as asyncio's own futures do: a little slower, and the order
    /// of callbacks is asyncio's.
    pub(crate) direct_wake: bool,
}

/// The settings of this process.
pub(crate) fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings {
        direct_wake: std::env::var_os("OXGRPC_DIRECT_WAKE").is_none_or(|value| value != "0"),
    })
}

/// The file of certificates that are trusted where a program names none: `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`. Looked at
/// each time, because programs set it before they make credentials.
pub(crate) fn default_roots_file() -> Option<PathBuf> {
    let path = std::env::var_os("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")?;
    (!path.is_empty()).then(|| path.into())
}
