//! The header sections of a call (PROTOCOL-HTTP2.md, "Requests" and "Responses"): what the engine reads out of them and
//! writes into them around the application's metadata.

use crate::compression::{ACCEPTED, Accepts, Encoding};
use crate::metadata::{Metadata, Owner, owner};
use crate::percent;
use crate::status::{Code, Status, deadline_exceeded};
use crate::timeout;
use oxgrpc_http2::{Fields, Indexing, Prepared, Pseudo};
use std::time::Duration;

/// A field to send.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8], Indexing);

/// What a request's header section says, apart from its path.
#[derive(Debug, Default)]
pub(crate) struct RequestHead<'a> {
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) encoding: Encoding,
    pub(crate) accepts: Accepts,
    pub(crate) metadata: Metadata,
}

/// A request that is answered at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not a gRPC request: an HTTP status.
    Http(&'static [u8]),
    /// A gRPC request with something wrong in it.
    Status(Status),
    /// A malformed HTTP/2 request: it is told so, and its stream is reset with PROTOCOL_ERROR (RFC 9113 §8.1.1).
    Malformed(Status),
}

/// Whether a content-type is gRPC's: `application/grpc`, `application/grpc+proto`, `application/grpc;…`.
fn is_grpc(content_type: &[u8]) -> bool {
    match content_type.strip_prefix(b"application/grpc") {
        Some([] | [b'+' | b';', ..]) => true,
        Some(_) | None => false,
    }
}

/// Reads a request.
pub(crate) fn parse_request(fields: &Fields) -> Result<RequestHead<'_>, Refusal> {
    if fields.is_oversized() {
        let text = format!("Received metadata larger than max ({} octets)", fields.list_size());
        return Err(Refusal::Status(Status::new(Code::ResourceExhausted, text)));
    }
    // Only requests: grpcio's servers send such values themselves, in grpc-message above all, and expect to be understood.
    if let Some(field) = fields.iter().find(|field| is_padded(field.value)) {
        let name = String::from_utf8_lossy(field.name);
        let text =
            format!("The value of '{name}' starts or ends with white space (RFC 9113 §8.2.1)");
        return Err(Refusal::Malformed(Status::new(Code::Internal, text)));
    }
    if fields.pseudo(Pseudo::Method) != Some(b"POST") {
        return Err(Refusal::Http(b"405"));
    }
    let mut head = RequestHead::default();
    let mut has_type = false;
    for field in fields.regular() {
        match field.name {
            b"content-type" => has_type = is_grpc(field.value),
            b"grpc-timeout" => match timeout::decode(field.value) {
                Some(timeout) => head.timeout = Some(timeout),
                None => {
                    return Err(Refusal::Status(Status::new(Code::Internal, "Bad grpc-timeout")));
                }
            },
            b"grpc-encoding" => match Encoding::from_wire(field.value) {
                Some(encoding) => head.encoding = encoding,
                None => {
                    let name = String::from_utf8_lossy(field.value);
                    let text = format!("Compression algorithm '{name}' is not supported");
                    return Err(Refusal::Status(Status::new(Code::Unimplemented, text)));
                }
            },
            b"grpc-accept-encoding" => head.accepts = Accepts::from_wire(field.value),
            b"user-agent" => head.user_agent = Some(field.value),
            name => {
                if owner(name) == Owner::Application
                    && !head.metadata.push_received(name, field.value)
                {
                    return Err(Refusal::Status(malformed_binary(name)));
                }
            }
        }
    }
    match head.timeout {
        _ if !has_type => Err(Refusal::Http(b"415")),
        // There is no time left, not even for a handler that answers at once.
        Some(Duration::ZERO) => Err(Refusal::Status(deadline_exceeded())),
        _ => Ok(head),
    }
}

/// Returns true if a field's value starts or ends with a space or a tab.
fn is_padded(value: &[u8]) -> bool {
    let is_white = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    is_white(value.first()) || is_white(value.last())
}

/// What a response's first header section says.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) encoding: Encoding,
    pub(crate) metadata: Metadata,
}

/// Reads a response's header section that does not end the stream. An error ends the call.
pub(crate) fn parse_response(fields: &Fields) -> Result<ResponseHead, Status> {
    check_size(fields)?;
    check_http(fields)?;
    let mut head = ResponseHead { encoding: Encoding::Identity, metadata: Metadata::new() };
    let mut content_type: Option<&[u8]> = None;
    for field in fields.regular() {
        match field.name {
            b"content-type" => content_type = Some(field.value),
            b"grpc-encoding" => {
                head.encoding = Encoding::from_wire(field.value).ok_or_else(|| {
                    let name = String::from_utf8_lossy(field.value);
                    let text = format!("Compression algorithm '{name}' is not supported");
                    Status::new(Code::Internal, text)
                })?;
            }
            name => receive_field(&mut head.metadata, name, field.value)?,
        }
    }
    match content_type {
        Some(content_type) if !is_grpc(content_type) => {
            let name = String::from_utf8_lossy(content_type);
            Err(Status::new(Code::Unknown, format!("Response has content-type '{name}'")))
        }
        _ => Ok(head),
    }
}

/// What trailers say.
#[derive(Debug)]
pub(crate) struct Trailers {
    pub(crate) status: Status,
    pub(crate) metadata: Metadata,
    /// `grpc-status-details-bin` is not base64 and was dropped: the details of a status must not hide the status.
    pub(crate) lost_details: bool,
}

/// Reads trailers, or a response that is nothing but trailers. Of several statuses the first that is not OK counts: what a
/// proxy adds must not hide a failure.
pub(crate) fn parse_trailers(fields: &Fields) -> Trailers {
    let mut metadata = Metadata::new();
    let mut lost_details = false;
    let mut code = None;
    let mut message = String::new();
    let mut flaw = check_size(fields).err();
    for field in fields.regular() {
        match field.name {
            b"grpc-status" if code.is_none_or(|code| code == Code::Ok) => {
                let next = Code::from_wire(field.value);
                if code.is_some() && next != Code::Ok {
                    message.clear();
                }
                code = Some(next);
            }
            b"grpc-message" if message.is_empty() => message = percent::decode(field.value),
            b"grpc-status-details-bin" => {
                lost_details |= receive_field(&mut metadata, field.name, field.value).is_err();
            }
            name => {
                if let Err(status) = receive_field(&mut metadata, name, field.value) {
                    flaw = Some(status);
                }
            }
        }
    }
    let status = match (flaw, code) {
        (Some(flaw), _) => flaw,
        (None, Some(code)) => Status::new(code, message),
        (None, None) => match check_http(fields) {
            Err(status) => status,
            Ok(()) => Status::new(Code::Unknown, "Stream ended without a grpc-status"),
        },
    };
    Trailers { status, metadata, lost_details }
}

fn receive_field(metadata: &mut Metadata, name: &[u8], value: &[u8]) -> Result<(), Status> {
    if owner(name) == Owner::Application && !metadata.push_received(name, value) {
        return Err(malformed_binary(name));
    }
    Ok(())
}

fn malformed_binary(name: &[u8]) -> Status {
    let text = format!("Metadata '{}' is not base64", String::from_utf8_lossy(name));
    Status::new(Code::Internal, text)
}

fn check_size(fields: &Fields) -> Result<(), Status> {
    if !fields.is_oversized() {
        return Ok(());
    }
    let text = format!("Received metadata larger than max ({} octets)", fields.list_size());
    Err(Status::new(Code::ResourceExhausted, text))
}

/// A response with another HTTP status than 200 does not come from a gRPC server.
fn check_http(fields: &Fields) -> Result<(), Status> {
    match fields.pseudo(Pseudo::Status) {
        Some(b"200") | None => Ok(()),
        Some(status) => {
            let text = format!("Received http2 header with status: {}", status.escape_ascii());
            Err(Status::new(Code::from_http(status), text))
        }
    }
}

/// The fields that all requests for one path share.
pub(crate) fn prepare_request(
    path: &[u8],
    scheme: &[u8],
    authority: &[u8],
    user_agent: &[u8],
) -> Prepared {
    Prepared::new([
        (&b":scheme"[..], scheme),
        (b":method", b"POST"),
        (b":path", path),
        (b":authority", authority),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", user_agent),
        (b"grpc-accept-encoding", ACCEPTED),
    ])
}

/// The fields that all responses in one encoding share.
pub(crate) fn prepare_response(encoding: Encoding) -> Prepared {
    let fields: [(&[u8], &[u8]); 4] = [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", ACCEPTED),
        (b"grpc-encoding", encoding.name().as_bytes()),
    ];
    let count = if encoding == Encoding::Identity { 3 } else { 4 };
    Prepared::new(fields.into_iter().take(count))
}

/// Calls `send` with a list of metadata fields between `before` and `after`.
pub(crate) fn with_metadata<R>(
    before: &[Pair<'_>],
    metadata: &Metadata,
    send: impl FnOnce(&[Pair<'_>]) -> R,
) -> R {
    if metadata.is_empty() {
        return send(before);
    }
    let encoded: Vec<Option<String>> =
        metadata.iter().map(|(key, value)| Metadata::wire_value(key, value)).collect();
    let mut fields = before.to_vec();
    for ((key, value), encoded) in metadata.iter().zip(&encoded) {
        // White space at the ends is not to be sent (RFC 9113 §8.2.1), and PROTOCOL-HTTP2 allows to strip it.
        let value = encoded.as_deref().map_or(value.trim_ascii(), str::as_bytes);
        fields.push((key, value, indexing(key, value)));
    }
    send(&fields)
}

/// Secrets that are short enough to be guessed through the compression's length are never indexed (RFC 7541 §7.1.3);
/// what repeats is.
fn indexing(key: &[u8], value: &[u8]) -> Indexing {
    match key {
        b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie" => Indexing::Never,
        _ if value.len() > 1024 => Indexing::Literal,
        _ => Indexing::WhenRepeated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        for grpc in ["application/grpc", "application/grpc+proto", "application/grpc;charset=x"] {
            assert!(is_grpc(grpc.as_bytes()), "{grpc}");
        }
        for other in ["application/grpc-web", "application/json", "", "application/grpcx"] {
            assert!(!is_grpc(other.as_bytes()), "{other}");
        }
    }
}
