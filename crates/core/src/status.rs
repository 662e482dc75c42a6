//! Status codes and how transport errors become them (gRPC statuscodes.md, http-grpc-status-mapping.md, and the
//! "Errors" section of PROTOCOL-HTTP2.md). A status is data here; it becomes an exception at the Python edge only.

use oxgrpc_http2::ErrorCode;
use std::borrow::Cow;
use std::fmt;

/// A gRPC status code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes, by their number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// Reads `grpc-status`. A number that is no code is `Unknown`, and so is what is no number. White space around it is
    /// ignored, as by grpc-core.
    pub fn from_wire(text: &[u8]) -> Self {
        let digits = Some(text.trim_ascii()).filter(|text| text.iter().all(u8::is_ascii_digit));
        let number = digits.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
        number.and_then(Self::from_number).unwrap_or(Self::Unknown)
    }

    /// The number, as `grpc-status` has it.
    pub fn wire(self) -> &'static str {
        const TEXT: [&str; 17] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
            "16",
        ];
        TEXT[self as usize]
    }

    /// What a response that is not gRPC's means, by its HTTP status (http-grpc-status-mapping.md).
    pub fn from_http(status: &[u8]) -> Self {
        match status {
            b"400" => Self::Internal,
            b"401" => Self::Unauthenticated,
            b"403" => Self::PermissionDenied,
            b"404" => Self::Unimplemented,
            b"429" | b"502" | b"503" | b"504" => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// What a reset stream means to a client (PROTOCOL-HTTP2.md, "HTTP2 Transport Mapping").
    pub fn from_reset(code: ErrorCode) -> Self {
        match code {
            ErrorCode::REFUSED_STREAM => Self::Unavailable,
            ErrorCode::CANCEL => Self::Cancelled,
            ErrorCode::ENHANCE_YOUR_CALM => Self::ResourceExhausted,
            ErrorCode::INADEQUATE_SECURITY => Self::PermissionDenied,
            _ => Self::Internal,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        f.write_str(NAMES[*self as usize])
    }
}

/// How a call ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// `grpc-message`, decoded; empty if there is none.
    pub message: Cow<'static, str>,
}

impl Status {
    /// Success.
    pub const OK: Self = Self { code: Code::Ok, message: Cow::Borrowed("") };

    /// A status with a message.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Whether the call succeeded.
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// What a call comes to whose deadline has passed, in grpc-core's words.
pub(crate) fn deadline_exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, "Deadline Exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_agree() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(Code::from_number(number as u32), Some(code));
            assert_eq!(Code::from_wire(code.wire().as_bytes()), code);
        }
        assert_eq!(Code::from_wire(b"17"), Code::Unknown);
        assert_eq!(Code::from_wire(b"-1"), Code::Unknown);
        assert_eq!(Code::from_wire(b"+5"), Code::Unknown);
        assert_eq!(Code::from_wire(b"\xff"), Code::Unknown);
    }
}
