//! Where handlers run: engine, module, invocation, limits, faults.

pub mod limits;
