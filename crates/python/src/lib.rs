//! The native module `oxgrpc._native`: gRPC on the asyncio loop.
//!
//! The only crate that knows Python. A loop's [`port`] drives its connections inline through the loop's readiness callbacks
//! ([`link`]); what happens on them wakes the tasks that wait ([`awaitable`]); [`client`] and [`server`] are the two ends of
//! a call.

#![allow(missing_docs, reason = "pyo3 generates public items")]

mod awaitable;
mod client;
mod credentials;
mod errors;
mod gil;
mod invoke;
mod link;
mod message;
mod metadata;
mod names;
mod options;
mod port;
mod pump;
mod random;
mod server;
mod settings;
mod slots;
mod waiters;

use pyo3::prelude::*;

/// gRPC on the asyncio loop. Private: use `oxgrpc` and `oxgrpc.aio`.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use crate::awaitable::Awaitable;
    #[pymodule_export]
    use crate::client::{
        Call, Channel, StreamStreamCall, StreamStreamMultiCallable, StreamUnaryCall,
        StreamUnaryMultiCallable, UnaryStreamCall, UnaryStreamMultiCallable, UnaryUnaryCall,
        UnaryUnaryMultiCallable,
    };
    #[pymodule_export]
    use crate::client::{dns_answer, dns_query};
    #[pymodule_export]
    use crate::credentials::{
        PyChannelSecurity, PySessionCache, ServerCertificates, ServerSecurity,
    };
    #[pymodule_export]
    use crate::server::{RequestIterator, Server, ServicerContext};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // A panic becomes a Python exception; its message must not go to fd 2 as well.
        std::panic::set_hook(Box::new(|_| {}));
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
