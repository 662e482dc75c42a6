//! What the environment says, read once.

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
