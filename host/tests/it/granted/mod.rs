//! What a version may reach in mid-run, by its grants.

mod on_a_host;
mod requests;
mod requests_on_a_host;
mod values;
