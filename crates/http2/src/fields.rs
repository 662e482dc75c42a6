//! A decoded field section and the rules it obeys (RFC 9113 §8.2, §8.3).
//!
//! All names and values lie in one buffer, and each name is classified once, when it enters the dynamic table. A
//! request that repeats the last one's fields costs a copy of them and a walk over small integers.
//!
//! One rule of §8.2.1 is left to the layer above: values with white space at either end are passed on. gRPC refuses them in
//! requests, with a status that names the field, and takes them in responses, because grpcio's servers send them.

use crate::hpack::ENTRY_OVERHEAD;

/// What a field's name means to HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum NameKind {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Protocol,
    UnknownPseudo,
    Regular,
    Te,
    ContentLength,
    ConnectionSpecific,
    BadName,
    BadValue,
}

impl NameKind {
    /// Pseudo-fields that a section may have once: `Method` to `Protocol`.
    const PSEUDO: usize = 6;

    /// Classifies a name that has only valid characters.
    pub(crate) const fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            b":protocol" => Self::Protocol,
            [b':', ..] => Self::UnknownPseudo,
            b"te" => Self::Te,
            b"content-length" => Self::ContentLength,
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => Self::ConnectionSpecific,
            _ => Self::Regular,
        }
    }

    /// Classifies any name. Upper case, white space, controls and octets above ASCII are not allowed, and a colon only
    /// in front (§8.2.1).
    pub(crate) fn check(name: &[u8]) -> Self {
        let rest = name.strip_prefix(b":").unwrap_or(name);
        let bad = |octet: &u8| matches!(octet, 0..=0x20 | b'A'..=b'Z' | b':' | 0x7f..);
        if rest.is_empty() || rest.iter().any(bad) { Self::BadName } else { Self::of(name) }
    }

    /// The kind of a field with this name and an invalid value.
    pub(crate) fn with_bad_value(self) -> Self {
        match self {
            Self::BadName => Self::BadName,
            _ => Self::BadValue,
        }
    }
}

/// NUL, CR and LF must not occur in a value (§8.2.1).
pub(crate) fn value_is_valid(value: &[u8]) -> bool {
    !value.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'))
}

/// The pseudo-fields a receiver asks for (§8.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pseudo {
    /// `:method` of a request.
    Method,
    /// `:scheme` of a request.
    Scheme,
    /// `:authority` of a request.
    Authority,
    /// `:path` of a request.
    Path,
    /// `:status` of a response.
    Status,
}

/// One field of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// The name, in lower case.
    pub name: &'a [u8],
    /// The value: any octets but NUL, CR and LF.
    pub value: &'a [u8],
    /// The sender marked the field as a secret (RFC 7541 §7.1.3): forward it the same way.
    pub never_indexed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    value: u32,
    end: u32,
    kind: NameKind,
    never_indexed: bool,
}

/// A decoded field section. Give it back with [`Connection::recycle`](crate::Connection::recycle) to reuse its memory.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    octets: Vec<u8>,
    spans: Vec<Span>,
    /// Index in `spans` of each pseudo-field, plus one.
    pseudo: [u32; NameKind::PSEUDO],
    first_regular: usize,
    list_size: usize,
    max_list_size: usize,
}

impl Fields {
    /// The pseudo-field, if the section has it.
    pub fn pseudo(&self, pseudo: Pseudo) -> Option<&[u8]> {
        let kind = match pseudo {
            Pseudo::Method => NameKind::Method,
            Pseudo::Scheme => NameKind::Scheme,
            Pseudo::Authority => NameKind::Authority,
            Pseudo::Path => NameKind::Path,
            Pseudo::Status => NameKind::Status,
        };
        let index = self.pseudo[kind as usize].checked_sub(1)?;
        Some(self.field(&self.spans[index as usize]).value)
    }

    /// The fields that are not pseudo-fields, in their order.
    pub fn regular(&self) -> impl Iterator<Item = Field<'_>> {
        self.spans[self.first_regular..].iter().map(|span| self.field(span))
    }

    /// All fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.spans.iter().map(|span| self.field(span))
    }

    /// The section's size as RFC 9113 §6.5.2 counts it, in octets, of all fields that came.
    pub fn list_size(&self) -> usize {
        self.list_size
    }

    /// Whether fields had to be dropped because the section exceeds our SETTINGS_MAX_HEADER_LIST_SIZE.
    pub fn is_oversized(&self) -> bool {
        self.list_size > self.max_list_size
    }

    fn field(&self, span: &Span) -> Field<'_> {
        Field {
            name: &self.octets[span.start as usize..span.value as usize],
            value: &self.octets[span.value as usize..span.end as usize],
            never_indexed: span.never_indexed,
        }
    }
}

/// What the decoder does with a section.
impl Fields {
    pub(crate) fn clear(&mut self, max_list_size: usize) {
        self.octets.clear();
        self.spans.clear();
        self.pseudo = [0; NameKind::PSEUDO];
        self.first_regular = 0;
        self.list_size = 0;
        self.max_list_size = max_list_size;
    }

    /// Whether no field has come yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.list_size == 0
    }

    #[inline]
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8], kind: NameKind, never_indexed: bool) {
        let at = self.start();
        self.octets.extend_from_slice(name);
        let value_at = self.octets.len();
        self.octets.extend_from_slice(value);
        self.finish(at, value_at, kind, never_indexed);
    }

    /// Adds a field whose name and value lie one behind the other.
    #[inline]
    pub(crate) fn push_joined(&mut self, octets: &[u8], name_len: usize, kind: NameKind) {
        let at = self.start();
        self.octets.extend_from_slice(octets);
        self.finish(at, at + name_len, kind, false);
    }

    /// Where the next field's octets will begin.
    pub(crate) fn start(&self) -> usize {
        self.octets.len()
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }

    pub(crate) fn octets_mut(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }

    /// Ends a field whose name began at `at` and whose value began at `value_at`; drops it if there is no room.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        at: usize,
        value_at: usize,
        kind: NameKind,
        never_indexed: bool,
    ) {
        let end = self.octets.len();
        self.list_size += end - at + ENTRY_OVERHEAD;
        if self.is_oversized() {
            self.octets.truncate(at);
            return;
        }
        self.spans.push(Span {
            start: at as u32,
            value: value_at as u32,
            end: end as u32,
            kind,
            never_indexed,
        });
    }
}

/// What a valid section says about the message that it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) content_length: Option<u64>,
    pub(crate) informational: bool,
    /// The response has no content whatever its content-length says: 204 and 304.
    pub(crate) no_content: bool,
}

/// The rules for whole sections. A broken one makes the message malformed (§8.1.1).
impl Fields {
    pub(crate) fn check_request(&mut self) -> Result<Summary, &'static str> {
        let summary = self.check_fields()?;
        if self.has(NameKind::Status) {
            return Err("a request has :status (RFC 9113 §8.3)");
        }
        if self.has(NameKind::Protocol) {
            return Err("a request has :protocol, which was not enabled (RFC 8441 §4)");
        }
        if self.pseudo(Pseudo::Method) == Some(b"CONNECT") {
            let names_its_target = self.has(NameKind::Authority)
                && !self.has(NameKind::Scheme)
                && !self.has(NameKind::Path);
            return match names_its_target {
                true => Ok(summary),
                false => Err("CONNECT names other than its :authority (RFC 9113 §8.5)"),
            };
        }
        for kind in [NameKind::Method, NameKind::Scheme, NameKind::Path] {
            if !self.has(kind) {
                return Err("a request lacks :method, :scheme or :path (RFC 9113 §8.3.1)");
            }
        }
        if self.pseudo(Pseudo::Path) == Some(b"") {
            return Err("a request has an empty :path (RFC 9113 §8.3.1)");
        }
        Ok(summary)
    }

    pub(crate) fn check_response(&mut self) -> Result<Summary, &'static str> {
        let mut summary = self.check_fields()?;
        for kind in [NameKind::Method, NameKind::Scheme, NameKind::Path, NameKind::Authority] {
            if self.has(kind) {
                return Err("a response has a request's pseudo-field (RFC 9113 §8.3)");
            }
        }
        match self.pseudo(Pseudo::Status) {
            Some(status @ [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']) => {
                summary.informational = status[0] == b'1';
                summary.no_content = status == b"204" || status == b"304";
                Ok(summary)
            }
            _ => Err("a response lacks a three-digit :status (RFC 9113 §8.3.2)"),
        }
    }

    pub(crate) fn check_trailers(&mut self) -> Result<(), &'static str> {
        self.check_fields()?;
        match self.first_regular {
            0 => Ok(()),
            _ => Err("trailers have a pseudo-field (RFC 9113 §8.1)"),
        }
    }

    fn has(&self, kind: NameKind) -> bool {
        self.pseudo[kind as usize] != 0
    }

    /// The rules that hold for every section, and the index of its pseudo-fields.
    fn check_fields(&mut self) -> Result<Summary, &'static str> {
        let mut summary = Summary::default();
        for (i, span) in self.spans.iter().enumerate() {
            match span.kind {
                NameKind::Regular => {}
                NameKind::Method
                | NameKind::Scheme
                | NameKind::Authority
                | NameKind::Path
                | NameKind::Status
                | NameKind::Protocol => {
                    if i != self.first_regular {
                        return Err("a pseudo-field follows a regular field (RFC 9113 §8.3)");
                    }
                    self.first_regular += 1;
                    let place = &mut self.pseudo[span.kind as usize];
                    if *place != 0 {
                        return Err("a pseudo-field is repeated (RFC 9113 §8.3)");
                    }
                    *place = i as u32 + 1;
                }
                NameKind::UnknownPseudo => {
                    return Err("a pseudo-field is unknown (RFC 9113 §8.3)");
                }
                NameKind::Te => {
                    if self.field(span).value != b"trailers" {
                        return Err("te holds something else than \"trailers\" (RFC 9113 §8.2.2)");
                    }
                }
                NameKind::ContentLength => {
                    let length = parse_length(self.field(span).value);
                    let Some(length) = length else {
                        return Err("content-length is not a number (RFC 9110 §8.6)");
                    };
                    if summary.content_length.is_some_and(|other| other != length) {
                        return Err("content-length is given twice (RFC 9110 §8.6)");
                    }
                    summary.content_length = Some(length);
                }
                NameKind::ConnectionSpecific => {
                    return Err("a connection-specific field is present (RFC 9113 §8.2.2)");
                }
                NameKind::BadName => {
                    return Err("a field name has a forbidden character (RFC 9113 §8.2.1)");
                }
                NameKind::BadValue => {
                    return Err("a field value has NUL, CR or LF (RFC 9113 §8.2.1)");
                }
            }
        }
        Ok(summary)
    }
}

fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, octet| match octet {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(octet - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(fields: &[(&str, &str)]) -> Fields {
        let mut section = Fields::default();
        section.clear(1 << 14);
        for (name, value) in fields {
            let kind = NameKind::check(name.as_bytes());
            let kind = if value_is_valid(value.as_bytes()) { kind } else { kind.with_bad_value() };
            section.push(name.as_bytes(), value.as_bytes(), kind, false);
        }
        section
    }

    const REQUEST: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "http"), (":path", "/a/b"), (":authority", "host")];

    #[test]
    fn a_request_is_taken_apart() {
        let mut fields = section(&[&REQUEST[..], &[("te", "trailers"), ("x", "y")]].concat());
        fields.check_request().unwrap();
        assert_eq!(fields.pseudo(Pseudo::Path), Some(&b"/a/b"[..]));
        assert_eq!(fields.pseudo(Pseudo::Status), None);
        let names: Vec<_> = fields.regular().map(|field| field.name.to_vec()).collect();
        assert_eq!(names, [b"te".to_vec(), b"x".to_vec()]);
    }

    #[test]
    fn malformed_requests_are_told_by_their_rule() {
        let extra = |field: (&'static str, &'static str)| {
            section(&[&REQUEST[..], &[field]].concat()).check_request().unwrap_err()
        };
        assert!(extra((":status", "200")).contains(":status"));
        assert!(extra((":path", "/")).contains("repeated"));
        assert!(extra((":unknown", "")).contains("unknown"));
        assert!(extra((":protocol", "websocket")).contains(":protocol"));
        assert!(extra(("connection", "close")).contains("connection-specific"));
        assert!(extra(("te", "gzip")).contains("te"));
        assert!(extra(("Upper", "x")).contains("name"));
        assert!(extra(("", "x")).contains("name"));
        assert!(extra(("a b", "x")).contains("name"));
        assert!(extra(("x", "a\nb")).contains("value"));
        assert!(extra(("content-length", "1x")).contains("content-length"));
        let late = section(&[("x", "y"), (":method", "POST")]).check_request().unwrap_err();
        assert!(late.contains("follows"));
        for missing in 0..3 {
            let mut fields = REQUEST.to_vec();
            fields.remove(missing);
            assert!(section(&fields).check_request().is_err());
        }
        assert!(section(&[(":method", "CONNECT"), (":authority", "h")]).check_request().is_ok());
    }

    #[test]
    fn a_response_needs_a_status() {
        assert!(section(&[(":status", "200")]).check_response().is_ok());
        assert!(section(&[(":status", "100")]).check_response().unwrap().informational);
        assert!(section(&[]).check_response().is_err());
        assert!(section(&[(":status", "20")]).check_response().is_err());
        assert!(section(&[(":status", "200"), (":path", "/")]).check_response().is_err());
    }

    #[test]
    fn what_exceeds_the_limit_is_counted_but_not_kept() {
        let mut fields = Fields::default();
        fields.clear(70);
        fields.push(b"a", b"1", NameKind::Regular, false);
        fields.push(b"b", b"22222", NameKind::Regular, false);
        assert!(fields.is_oversized());
        assert_eq!(fields.iter().count(), 1);
        assert_eq!(fields.list_size(), 34 + 38);
    }
}
