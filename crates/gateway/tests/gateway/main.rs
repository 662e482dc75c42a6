//! A gateway as its callers see it, against backends whose schemas are made up at run time.

#![allow(clippy::unwrap_used)] // What surrounds the tests is test code too.

mod backend;
mod client;
mod console;

mod health;
mod invoke;
mod reflection;
mod registry;
mod rest;
mod rolling;
mod security;
mod stop;
mod web;
