//! The details of an error: `google.rpc.Status` in `grpc-status-details-bin`, decoded to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};

use crate::json::{PrintOptions, to_value};

/// Decodes the details of a status, as JSON objects with `@type`. `pools` are asked in turn, for types of the server's own;
/// google.rpc's types are always known. A detail of an unknown type keeps its octets, as base64 in `value`.
pub fn decode<'a>(
    status_details: &[u8],
    pools: impl IntoIterator<Item = &'a DescriptorPool>,
) -> Vec<Value> {
    let Ok(status) = tonic_types::pb::Status::decode(status_details) else { return Vec::new() };
    let pools: Vec<&DescriptorPool> = pools.into_iter().chain([builtin()]).collect();
    let decode_any = |any: &prost_types::Any| {
        pools.iter().find_map(|pool| decode_any_with(any, pool)).unwrap_or_else(
            || json!({ "@type": any.type_url, "value": STANDARD.encode(&any.value) }),
        )
    };
    status.details.iter().map(decode_any).collect()
}

fn decode_any_with(any: &prost_types::Any, pool: &DescriptorPool) -> Option<Value> {
    let descriptor = pool.get_message_by_name("google.protobuf.Any")?;
    let message = DynamicMessage::decode(descriptor, any.encode_to_vec().as_slice()).ok()?;
    to_value(&message, &PrintOptions { defaults: false, ..PrintOptions::default() }).ok()
}

/// Returns google.rpc's types and the well-known ones.
pub fn builtin() -> &'static DescriptorPool {
    static BUILTIN: std::sync::OnceLock<DescriptorPool> = std::sync::OnceLock::new();
    BUILTIN.get_or_init(|| crate::Schema::from_files([]).pool)
}
