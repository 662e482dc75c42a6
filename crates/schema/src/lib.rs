//! Descriptors of services that are known only at run time: where they come from and what is done with them.
//!
//! A [`prost_reflect::DescriptorPool`] is filled from a server's reflection service or from descriptor sets, and messages are read
//! and written as protobuf JSON by it. This crate knows neither the gateway nor the command line.

#![forbid(unsafe_code)]
