//! The way of a message through the host: receive, process, settle, each a stage of its own with a bounded line between.
//!
//! ```text
//! receive --line--> process (as many as run at once) --decided--> settle
//!    ^                                                              |
//!    '---------------------- room (messages, bytes) ----------------'
//! ```
//!
//! Invariants:
//! - Room is taken before the message is taken, and given back when the message has ended (I6).
//! - A message is in exactly one stage; the table of what is in flight knows it from receive to its end.
//! - Nothing is settled for a delivery whose lease is over (I2), nothing unknown is settled at all (I7).
//! - While it is paused, or its circuit is open, a subscription asks for nothing and begins nothing: what came all the same goes back uncounted.
//! - Whether it gets anywhere is looked at from the side: see [`stall`].
//! - What a shadow does with the copy of a message has no effect, and no message waits for it: see [`shadow`].

mod budget;
mod circuit;
mod crew;
mod decided;
mod elsewhere;
mod gate;
mod hold;
mod in_flight;
mod keep;
mod live;
mod pace;
mod process;
mod ramp;
mod receive;
mod refused;
mod rest;
mod settle;
mod shadow;
mod share;
mod shared;
mod slot;
mod stall;
mod subscription;
mod traced;
mod trial;
mod turns;

pub use circuit::{Change as CircuitChange, CircuitPolicy, CircuitTold, OpenCircuit, Told};
pub use gate::Pause;
pub use hold::Hold;
pub use live::{Account, Glimpse, Live, Look, Seen, Sent, TooManyLook};
pub use ramp::{RAMP, ramp};
pub use shadow::{Books, Did, Difference, Shadow, Work, WouldSend};
pub(crate) use shadow::{Ran, compare, gave_way, told, told_of_record};
pub use share::{NotAShare, Share};
pub use shared::{Links, Setup, Tuning};
pub use slot::{Deployed, Slot};
pub use stall::Stall;
pub use subscription::{Drained, Subscription};
pub use trial::{Pick, Trial, Way};
pub use turns::{InTurn, Place, Seat, Turns};
