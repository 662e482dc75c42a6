//! The messages and services of the gateway, of its backends and of Dapr's runtime, generated from `proto/`.
//!
//! This crate holds no logic: servers and clients of these services live in the crates above it.

#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]

/// The `FileDescriptorSet` of every file in `proto/`, imports included, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The gateway's services and those of its backends.
pub mod virtufin {
    tonic::include_proto!("virtufin");
}

/// The part of Dapr's API that the gateway answers.
pub mod dapr {
    pub mod proto {
        pub mod common {
            pub mod v1 {
                tonic::include_proto!("dapr.proto.common.v1");
            }
        }
        pub mod runtime {
            pub mod v1 {
                tonic::include_proto!("dapr.proto.runtime.v1");
            }
        }
    }
}
