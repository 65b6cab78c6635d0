//! The one integration binary: real brokers, real guests, the real host.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test says what went wrong by failing"
)]

mod audit_log;
mod broker_contract;
mod buckets;
mod cases;
mod chaos;
mod command_line;
mod compiling;
mod console;
mod contracts;
mod dead_letters;
mod deploy;
mod dev;
mod embedded;
mod embedded_disk;
mod embedded_model;
mod encrypted;
mod examples;
mod fuel_profile;
mod granted;
mod isolation;
mod jetstream;
mod leases;
mod loading;
mod observability;
mod oci;
mod on_nats;
mod openapi;
mod outcomes;
mod replay;
mod sandbox;
mod signed;
mod simulation;
mod spans;
mod stalled;
mod strays;
mod support;
mod telemetry;
mod templates;
mod top;
mod warm;
mod webhooks;
