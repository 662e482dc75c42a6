//! A channel's connectivity (gRPC connectivity-semantics-and-api.md).

/// The states of a channel.
///
/// ```text
///           wanted                 connected
///    Idle ─────────► Connecting ───────────────► Ready
///     ▲                  │                        ▲ │
///     │                  │ all addresses failed   │ │
///     │                  └───► TransientFailure ──┘ │ lost, the server goes away, or not used for long;
///     └─────────────────────────────────────────────┘ round_robin connects again at once
///                   any state ──close──► Shutdown
/// ```
///
/// A channel that fails tries again after each back-off, whether or not there are calls, and fails until it is connected
/// (gRFC A62).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connectivity {
    /// No connection, and none wanted.
    Idle,
    /// An attempt is under way.
    Connecting,
    /// Connected.
    Ready,
    /// No address could be connected to; calls fail until one can.
    TransientFailure,
    /// Closed for good.
    Shutdown,
}
