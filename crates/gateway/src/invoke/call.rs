//! One call to one host: headers, deadline, and who is to blame when it fails.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use oxgrpc_schema::RawCodec;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{Failure, Invoker, Resolved, forwardable};
use crate::backend::{reason, was_never_sent};

/// What a caller's call is made of, beside its message.
#[derive(Debug)]
pub(crate) struct Context {
    /// The headers that go on to the backend.
    headers: HeaderMap,
    pub(super) deadline: Option<Instant>,
    /// The headers that the backend answered with, of those that go on to the caller.
    pub(crate) response_headers: HeaderMap,
}

impl Context {
    /// Reads a caller's headers.
    pub(crate) fn new(metadata: &MetadataMap) -> Self {
        let headers: &HeaderMap = metadata.as_ref();
        let deadline = headers
            .get("grpc-timeout")
            .and_then(|value| parse_timeout(value.to_str().ok()?))
            .and_then(|timeout| Instant::now().checked_add(timeout));
        Self { headers: forwardable(headers), deadline, response_headers: HeaderMap::new() }
    }
}

/// Parses `grpc-timeout`: up to 8 digits and a unit.
pub(crate) fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(amount * 3600),
        'M' => Duration::from_secs(amount * 60),
        'S' => Duration::from_secs(amount),
        'm' => Duration::from_millis(amount),
        'u' => Duration::from_micros(amount),
        'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

impl Invoker {
    /// Calls a unary method once.
    pub(super) async fn call(
        &self,
        resolved: &Resolved,
        request: Bytes,
        context: &mut Context,
    ) -> Result<Bytes, Failure> {
        let (mut client, request, timeout) = self.begin(resolved, request, context).await?;
        let path = oxgrpc_schema::path(&resolved.method);
        let call = client.unary(request, path, RawCodec);
        let outcome = tokio::time::timeout(timeout, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(String::new())));
        match outcome {
            Ok(response) => {
                resolved.host.mark_serving();
                let (metadata, message, _) = response.into_parts();
                context.response_headers = forwardable(metadata.as_ref());
                Ok(message)
            }
            Err(status) => Err(self.blame(resolved, status, timeout)),
        }
    }

    /// Prepares a call: the channel, the request with the caller's headers, and the time that it has.
    pub(super) async fn begin(
        &self,
        resolved: &Resolved,
        request: Bytes,
        context: &Context,
    ) -> Result<(tonic::client::Grpc<Channel>, Request<Bytes>, Duration), Failure> {
        let channel = resolved.host.channel().map_err(|status| Failure::unreachable(&status))?;
        let mut client = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(self.max_message_bytes)
            .max_encoding_message_size(self.max_message_bytes);
        let timeout = match context.deadline {
            None => self.default_timeout,
            Some(deadline) => {
                deadline.saturating_duration_since(Instant::now()).min(self.default_timeout)
            }
        };
        client.ready().await.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let mut request = Request::new(request);
        *request.metadata_mut() = MetadataMap::from_headers(context.headers.clone());
        if let Some(key) = &resolved.host.target().api_key {
            let secret = key.secret.parse().map_err(|_| {
                Failure::Internal(format!(
                    "the key of {} is no header value",
                    resolved.host.target()
                ))
            })?;
            request.metadata_mut().insert("x-api-key", secret);
        }
        request.set_timeout(timeout);
        Ok((client, request, timeout))
    }

    /// Says what a call's failure means for the host and for the caller.
    pub(super) fn blame(&self, resolved: &Resolved, status: Status, timeout: Duration) -> Failure {
        let method = resolved.method.full_name();
        let target = resolved.host.target();
        if was_never_sent(&status) {
            let reason = reason(&status);
            resolved.host.mark_down(&reason);
            return Failure::Unreachable(format!("{target} cannot be reached: {reason}"));
        }
        // tonic's own timer says CANCELLED with these words.
        let expired = status.code() == Code::DeadlineExceeded && status.message().is_empty()
            || status.code() == Code::Cancelled && status.message() == "Timeout expired";
        let local = std::error::Error::source(&status).is_some();
        let status = if expired {
            Status::deadline_exceeded(format!(
                "{method} at {target} did not answer within {timeout:?}"
            ))
        } else if local && status.code() != Code::ResourceExhausted {
            // The connection broke under the call: the backend may or may not have acted.
            Status::unavailable(format!(
                "{target} was lost during the call of {method}: {}",
                reason(&status)
            ))
        } else {
            status
        };
        Failure::backend(status, &resolved.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_timeout("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for wrong in ["", "S", "5", "5s", "123456789S", "-1S", "1.5S", "5µ"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }
}
