//! Tidegate takes messages from queues, hands each to a sandboxed WebAssembly handler, and settles it by what the
//! handler returns.
//!
//! ```text
//! broker source --Delivery--> dispatch --Call--> sandbox --Outcome-->
//!         settle::decide --Settlement--> broker: acknowledge | return | dead-letter queue
//! ```
//!
//! Deciding is a pure function; doing is at the edges. The modules below stand in the order in which a message passes.

pub mod access;
pub mod message;
pub mod outcome;
pub mod signature;

pub mod broker;
pub mod clock;
pub mod config;
pub mod handler;

pub mod apply;
pub mod cases;
pub mod cluster;
pub mod deploy;
pub mod dispatch;
mod failpoint;
pub mod pause;
pub mod registry;
pub mod sandbox;
pub mod settle;
pub mod tasks;
pub mod telemetry;

pub mod admin;

pub mod app;

pub mod cli;
