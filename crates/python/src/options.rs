//! Channel arguments: the `grpc.*` pairs that grpcio takes, under their own names and with their own defaults.
//!
//! One that is not known here is left alone, as grpcio does, and named once in the log at DEBUG.

use crate::credentials::PySessionCache;
use crate::names::names;
use oxgrpc_core::{
    BalancerOptions, Config, ConnectionLimits, Encoding, KeepaliveOptions, LifetimeOptions,
    MessageLimits, PingRules, PolicyKind,
};
use oxgrpc_io::SessionCache;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::time::Duration;

/// grpcio's "never": the largest int.
const NEVER: Duration = Duration::from_millis(i32::MAX as u64);

/// What the arguments say, for a channel or a server.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// HTTP/2's knobs: `grpc.max_concurrent_streams`, `grpc.http2.max_frame_size`, `grpc.http2.lookahead_bytes`, and how
    /// large a header section may be, which the next two say.
    pub(crate) http: Config,
    /// `grpc.max_metadata_size`, in bytes. To grpcio it is a soft limit: it refuses some of what is larger, at random, and
    /// all that is larger by a quarter and than 16 KiB. Here only that limit counts.
    soft_metadata_bytes: Option<u32>,
    /// `grpc.absolute_max_metadata_size`, in bytes: the limit itself.
    hard_metadata_bytes: Option<u32>,
    /// `grpc.max_receive_message_length` and `grpc.max_send_message_length`, in bytes; -1 is no limit.
    pub(crate) limits: MessageLimits,
    /// `grpc.initial_reconnect_backoff_ms`, `grpc.min_reconnect_backoff_ms`, `grpc.max_reconnect_backoff_ms`.
    /// `grpc.lb_policy_name`, `grpc.happy_eyeballs_connection_attempt_delay_ms`,
    /// `grpc.dns_min_time_between_resolutions_ms`, `grpc.client_idle_timeout_ms`; and our own
    /// `oxgrpc.max_connections_per_address`, 10 unless said otherwise.
    pub(crate) balancer: BalancerOptions,
    /// `grpc.keepalive_time_ms`; [`NEVER`] is possible.
    keepalive_time: Option<Duration>,
    /// `grpc.keepalive_timeout_ms`.
    pub(crate) keepalive_timeout: Duration,
    /// `grpc.keepalive_permit_without_calls`.
    pub(crate) keepalive_permit_without_calls: bool,
    /// `grpc.http2.max_pings_without_data`.
    pub(crate) max_pings_without_data: u32,
    /// `grpc.http2.min_ping_interval_without_data_ms`, or `grpc.http2.min_recv_ping_interval_without_data_ms`, and
    /// `grpc.http2.max_ping_strikes`, 0 for any number: what a server demands of its clients.
    pings: PingRules,
    /// `grpc.max_connection_idle_ms`, `grpc.max_connection_age_ms`, `grpc.max_connection_age_grace_ms` and
    /// `grpc.server_handshake_timeout_ms`.
    pub(crate) lifetime: LifetimeOptions,
    /// Our own `oxgrpc.max_connections` and `oxgrpc.max_connections_per_peer`: how many connections a server has at once,
    /// in all and from one IP address. Further ones are closed. No limit unless they are positive.
    pub(crate) connections: ConnectionLimits,
    /// `grpc.default_authority`.
    pub(crate) authority: Option<String>,
    /// `grpc.ssl_target_name_override`: whose certificate a server has to have.
    pub(crate) target_name_override: Option<String>,
    /// `grpc.primary_user_agent`: stands before our own.
    pub(crate) primary_user_agent: Option<String>,
    /// `grpc.secondary_user_agent`: stands behind it.
    pub(crate) secondary_user_agent: Option<String>,
    /// `grpc.default_compression_algorithm`, or the `compression` parameter.
    pub(crate) encoding: Encoding,
    /// `grpc.so_reuseport`; on unless it is 0.
    pub(crate) reuse_port: bool,
    /// `grpc.service_config`: JSON.
    pub(crate) service_config: Option<String>,
    /// `grpc.enable_retries`: whether the service config's retry and hedging policies count; on unless it is 0.
    pub(crate) retries: bool,
    /// `grpc.experimental.enable_hedging`: whether its hedging policies do; on unless it is 0.
    pub(crate) hedging: bool,
    /// `grpc.per_rpc_retry_buffer_size`, in bytes: how much of a call's requests is kept to be sent again.
    pub(crate) retry_buffer_bytes: usize,
    /// `grpc.ssl_session_cache`.
    pub(crate) session_cache: Option<SessionCache>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            http: Config::default(),
            soft_metadata_bytes: None,
            hard_metadata_bytes: None,
            limits: MessageLimits::default(),
            balancer: BalancerOptions::default(),
            keepalive_time: None,
            keepalive_timeout: Duration::from_secs(20),
            keepalive_permit_without_calls: false,
            max_pings_without_data: 2,
            pings: PingRules::default(),
            lifetime: LifetimeOptions::default(),
            connections: ConnectionLimits::default(),
            authority: None,
            target_name_override: None,
            primary_user_agent: None,
            secondary_user_agent: None,
            encoding: Encoding::Identity,
            reuse_port: true,
            service_config: None,
            retries: true,
            hedging: true,
            retry_buffer_bytes: 256 << 10,
            session_cache: None,
        }
    }
}

impl Options {
    /// Reads a sequence of pairs, or `None`, and the `compression` parameter.
    pub(crate) fn read(
        pairs: Option<&Bound<'_, PyAny>>,
        compression: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut options = Self::default();
        if let Some(pairs) = pairs.filter(|pairs| !pairs.is_none()) {
            for pair in pairs.try_iter()? {
                let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract()?;
                let key = key.extract::<String>().or_else(|_| {
                    key.extract::<Vec<u8>>().map(|key| String::from_utf8_lossy(&key).into_owned())
                })?;
                options.set(&key, &value)?;
            }
        }
        if let Some(encoding) = encoding_of(compression)? {
            options.encoding = encoding;
        }
        let header_list = &mut options.http.max_header_list_bytes;
        *header_list = match (options.hard_metadata_bytes, options.soft_metadata_bytes) {
            (Some(hard), _) => hard,
            (None, Some(soft)) => soft.saturating_add(soft / 4).max(*header_list),
            (None, None) => *header_list,
        };
        Ok(options)
    }

    fn set(&mut self, key: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let milliseconds = || integer(key, value).map(|ms| Duration::from_millis(ms.max(0) as u64));
        match key {
            "grpc.max_receive_message_length" => {
                self.limits.max_receive_bytes = limit(integer(key, value)?);
            }
            "grpc.max_send_message_length" => {
                self.limits.max_send_bytes = limit(integer(key, value)?);
            }
            "grpc.max_concurrent_streams" => {
                self.http.max_concurrent_streams = u32::try_from(integer(key, value)?).ok();
            }
            "grpc.max_metadata_size" => self.soft_metadata_bytes = size(integer(key, value)?),
            "grpc.absolute_max_metadata_size" => {
                self.hard_metadata_bytes = size(integer(key, value)?);
            }
            "grpc.http2.max_frame_size" => {
                self.http.max_frame_bytes = u32::try_from(integer(key, value)?).unwrap_or(0);
            }
            "grpc.http2.lookahead_bytes" => {
                let size = u32::try_from(integer(key, value)?).unwrap_or(0).clamp(65_535, 1 << 30);
                self.http.initial_stream_window_bytes = size;
                self.http.max_stream_window_bytes = self.http.max_stream_window_bytes.max(size);
                self.http.connection_window_bytes = self.http.connection_window_bytes.max(size);
            }
            "grpc.initial_reconnect_backoff_ms" => self.balancer.backoff.initial = milliseconds()?,
            "grpc.min_reconnect_backoff_ms" => {
                self.balancer.backoff.connect_timeout = milliseconds()?
            }
            "grpc.max_reconnect_backoff_ms" => self.balancer.backoff.max = milliseconds()?,
            "grpc.lb_policy_name" => match &*value.extract::<String>()? {
                "pick_first" => self.balancer.policy = PolicyKind::PickFirst,
                "round_robin" => self.balancer.policy = PolicyKind::RoundRobin,
                // Another is taken for the default, as in grpcio.
                _ => {}
            },
            "grpc.happy_eyeballs_connection_attempt_delay_ms" => {
                self.balancer.attempt_delay =
                    milliseconds()?.clamp(Duration::from_millis(100), Duration::from_secs(2));
            }
            "grpc.dns_min_time_between_resolutions_ms" => {
                self.balancer.resolution_interval = Some(milliseconds()?);
            }
            "oxgrpc.max_connections_per_address" => {
                self.balancer.max_connections_per_address =
                    usize::try_from(integer(key, value)?).unwrap_or(0);
            }
            "grpc.client_idle_timeout_ms" => {
                let timeout = milliseconds()?;
                self.balancer.idle_timeout =
                    (timeout < NEVER).then(|| timeout.max(Duration::from_secs(1)));
            }
            "grpc.keepalive_time_ms" => {
                self.keepalive_time = Some(duration(integer(key, value)?.max(1)));
            }
            "grpc.keepalive_timeout_ms" => self.keepalive_timeout = milliseconds()?,
            "grpc.keepalive_permit_without_calls" => {
                self.keepalive_permit_without_calls = integer(key, value)? != 0;
            }
            "grpc.http2.max_pings_without_data" => {
                self.max_pings_without_data = u32::try_from(integer(key, value)?).unwrap_or(0);
            }
            "grpc.http2.min_ping_interval_without_data_ms"
            | "grpc.http2.min_recv_ping_interval_without_data_ms" => {
                self.pings.min_interval = milliseconds()?;
            }
            "grpc.http2.max_ping_strikes" => {
                self.pings.max_strikes = u32::try_from(integer(key, value)?).unwrap_or(0);
            }
            "grpc.max_connection_idle_ms" => self.lifetime.max_idle = span(integer(key, value)?),
            "grpc.max_connection_age_ms" => self.lifetime.max_age = span(integer(key, value)?),
            "grpc.max_connection_age_grace_ms" => {
                self.lifetime.max_age_grace = span(integer(key, value)?);
            }
            "grpc.server_handshake_timeout_ms" => {
                self.lifetime.handshake_timeout = duration(integer(key, value)?.max(1));
            }
            "oxgrpc.max_connections" => self.connections.total = count(integer(key, value)?),
            "oxgrpc.max_connections_per_peer" => {
                self.connections.per_peer = count(integer(key, value)?);
            }
            "grpc.default_authority" => self.authority = Some(text(key, value)?),
            "grpc.ssl_target_name_override" => {
                self.target_name_override = Some(text(key, value)?).filter(|name| !name.is_empty());
            }
            "grpc.primary_user_agent" => self.primary_user_agent = Some(value.extract()?),
            "grpc.secondary_user_agent" => self.secondary_user_agent = Some(value.extract()?),
            "grpc.default_compression_algorithm" => {
                self.encoding = encoding_of(Some(value))?.unwrap_or_default();
            }
            "grpc.so_reuseport" => self.reuse_port = integer(key, value)? != 0,
            "grpc.service_config" => self.service_config = Some(text(key, value)?),
            "grpc.enable_retries" => self.retries = integer(key, value)? != 0,
            "grpc.experimental.enable_hedging" => self.hedging = integer(key, value)? != 0,
            "grpc.per_rpc_retry_buffer_size" => {
                self.retry_buffer_bytes = usize::try_from(integer(key, value)?).unwrap_or(0);
            }
            "grpc.ssl_session_cache" => {
                let cache = value.getattr("_cache")?.cast_into::<PySessionCache>()?;
                self.session_cache = Some(cache.get().0.clone());
            }
            _ => {
                let py = value.py();
                names(py)?.log.call_method1(py, "unknown_option", (key,))?;
            }
        }
        Ok(())
    }

    /// How often a server's clients may send PINGs.
    pub(crate) fn pings(&self) -> PingRules {
        PingRules { permit_without_calls: self.keepalive_permit_without_calls, ..self.pings }
    }

    /// How connections are kept alive, if they are. `default` is how long nothing may come where nothing is said.
    pub(crate) fn keepalive(&self, default: Duration) -> Option<KeepaliveOptions> {
        let time = self.keepalive_time.unwrap_or(default);
        (time != NEVER).then_some(KeepaliveOptions {
            time,
            timeout: self.keepalive_timeout,
            permit_without_calls: self.keepalive_permit_without_calls,
            max_pings_without_data: self.max_pings_without_data,
        })
    }

    /// The `user-agent` that a channel sends.
    pub(crate) fn user_agent(&self) -> String {
        let own = concat!("grpc-python-oxgrpc/", env!("CARGO_PKG_VERSION"));
        let parts =
            [self.primary_user_agent.as_deref(), Some(own), self.secondary_user_agent.as_deref()];
        // White space at the ends of a field's value is not to be sent (RFC 9113 §8.2.1).
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ").trim().to_owned()
    }
}

/// How long a client's and a server's connection may be quiet where nothing is said (grpcio's defaults).
pub(crate) const CLIENT_KEEPALIVE_TIME: Duration = NEVER;
pub(crate) const SERVER_KEEPALIVE_TIME: Duration = Duration::from_secs(2 * 60 * 60);

/// A number of milliseconds; what does not fit into grpcio's int is its "never".
fn duration(ms: i64) -> Duration {
    Duration::from_millis(ms.clamp(0, i32::MAX.into()) as u64)
}

/// A number of milliseconds that has a limit.
fn span(ms: i64) -> Option<Duration> {
    Some(duration(ms.max(1))).filter(|span| *span != NEVER)
}

/// A number of things; no limit unless it is positive.
fn count(things: i64) -> Option<usize> {
    usize::try_from(things).ok().filter(|things| *things > 0)
}

fn integer(key: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    value.extract::<i64>().map_err(|_| {
        PyTypeError::new_err(format!("the channel option {key} takes an integer, not {value}"))
    })
}

/// A `str`, or `bytes` of UTF-8.
fn text(key: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = value.extract::<String>() {
        return Ok(text);
    }
    let octets = value.extract::<Vec<u8>>().map_err(|_| {
        PyTypeError::new_err(format!("the channel option {key} takes a str, not {value}"))
    })?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// A size; a negative one says nothing.
fn size(bytes: i64) -> Option<u32> {
    (bytes >= 0).then(|| u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// A message size; a negative one is none.
fn limit(bytes: i64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Reads a `grpc.Compression`; `None` where nothing is said.
pub(crate) fn encoding_of(compression: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Encoding>> {
    let Some(compression) = compression.filter(|compression| !compression.is_none()) else {
        return Ok(None);
    };
    match compression.extract::<u8>() {
        Ok(0) => Ok(Some(Encoding::Identity)),
        Ok(1) => Ok(Some(Encoding::Deflate)),
        Ok(2) => Ok(Some(Encoding::Gzip)),
        _ => Err(PyValueError::new_err(format!("{compression} is no grpc.Compression"))),
    }
}
