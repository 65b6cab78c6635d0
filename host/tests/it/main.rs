//! The one integration binary: real brokers, real guests, the real host.
