//! Descriptors of services that are known only at run time: where they come from and what is done with them.
//!
//! * [`Schema`] holds descriptors. It comes from a server's reflection service ([`ReflectionClient`]), from descriptor
//!   sets or from `.proto` files, and tolerates gaps: a file that is missing or broken costs only the methods that need it.
//! * [`json`] reads and writes messages as protobuf JSON; [`details`] decodes the details of an error.
//! * [`DynamicCodec`] and [`RawCodec`] make calls of all four kinds with `tonic::client::Grpc`:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use oxgrpc_schema::{DynamicCodec, ReflectionClient, json};
//!
//! let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:5002").connect().await?;
//! let mut reflection = ReflectionClient::connect(channel.clone(), &Default::default()).await?;
//! let schema = reflection.schema_of(&["virtufin.Gateway".to_owned()]).await?;
//! let method = schema.find_method("virtufin.Gateway/ListServices")?;
//! schema.check(&method)?;
//!
//! let request = json::parse(method.input(), "{}")?;
//! let mut client = tonic::client::Grpc::new(channel);
//! client.ready().await?;
//! let path = oxgrpc_schema::path(&method);
//! let response = client.unary(tonic::Request::new(request), path, DynamicCodec::new(&method)).await?;
//! println!("{}", json::print(response.get_ref(), &json::PrintOptions::default())?);
//! # Ok(())
//! # }
//! ```
//!
//! This crate knows neither the gateway nor the command line.

#![forbid(unsafe_code)]

mod assemble;
mod codec;
pub mod details;
mod find;
pub mod json;
mod reflection;
mod schema;
mod status;

pub use codec::{DynamicCodec, RawCodec};
pub use find::{MethodNotFound, is_infrastructure, path};
pub use reflection::{ReflectionClient, ReflectionError};
pub use schema::{Gap, Incomplete, LoadError, Schema};
pub use status::code_name;

pub use prost_reflect;
