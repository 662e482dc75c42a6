//! What gRPC does for a call that fails: the service config that says so (service_config.md), retries, hedging and their
//! throttling (gRFC A6).
//!
//! State machines that are told what happened, what time it is and what the dice show, and that answer what to do. They read
//! no clock, start no call and know nothing of Python.

#![forbid(unsafe_code)]

mod attempt;
mod hedging;
mod json;
mod retry;
mod service_config;
mod throttle;

pub use attempt::{Codes, MAX_ATTEMPTS, PUSHBACK, Pushback};
pub use hedging::{Hedging, HedgingPolicy, HedgingVerdict};
pub use retry::{Refusals, Retry, RetryPolicy, RetryVerdict};
pub use service_config::{Balancing, InvalidServiceConfig, MethodConfig, ServiceConfig};
pub use throttle::{Throttle, Throttling};
