//! Every metric of the host: its OpenTelemetry name, its unit, and what it counts.
//!
//! The name in Prometheus follows OpenTelemetry's rules: dots become underscores, the unit is added in full where the
//! name does not end in it, and a counter ends in `_total`.

/// What a metric counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Things of a kind; the kind is not part of the name in Prometheus.
    Things(&'static str),
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The OpenTelemetry name.
    pub dotted: &'static str,
    /// The unit.
    pub unit: Unit,
    /// What it says, as a sentence without its full stop.
    pub sentence: &'static str,
}

impl Name {
    /// The name in Prometheus, without the `_total` that a counter gets when it is written.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let name = self.dotted.replace(['.', '-'], "_");
        let suffix = match self.unit {
            Unit::Seconds => "_seconds",
            Unit::Bytes => "_bytes",
            Unit::Things(_) => "",
        };
        if name.ends_with(suffix) { name } else { name + suffix }
    }
}

macro_rules! names {
    // A macro, so that `ALL` cannot miss one.
    ($($(#[doc = $doc:literal])* $const:ident = $dotted:literal, $unit:expr;)*) => {
        $(
            $(#[doc = $doc])*
            pub const $const: Name = Name { dotted: $dotted, unit: $unit, sentence: concat!($($doc),*).trim_ascii() };
        )*
        /// All of them.
        pub const ALL: &[Name] = &[$($const),*];
    };
}

names! {
    /// Messages that the broker handed over, every delivery counted
    CONSUMED = "messaging.client.consumed.messages", Unit::Things("message");
    /// Messages that handlers sent and a broker confirmed
    SENT = "messaging.client.sent.messages", Unit::Things("message");
    /// How long handlers ran, whichever way the run ended; `error_type` is the reason code of a run that failed
    PROCESS_DURATION = "messaging.process.duration", Unit::Seconds;
    /// Messages whose fate was confirmed by the broker, by what became of them and why
    SETTLED = "tidegate.messages.settled", Unit::Things("message");
    /// Attempts that a message had taken when it was done with
    ATTEMPTS = "tidegate.message.attempts", Unit::Things("attempt");
    /// From publishing to the first hand-over
    TIME_IN_QUEUE = "tidegate.message.time_in_queue", Unit::Seconds;
    /// From publishing to being done with
    END_TO_END = "tidegate.message.end_to_end", Unit::Seconds;
    /// Messages that the host holds: waiting, running and being settled
    IN_FLIGHT = "tidegate.inflight", Unit::Things("message");
    /// Bytes of the messages that the host holds
    IN_FLIGHT_BYTES = "tidegate.inflight.bytes", Unit::Bytes;
    /// How many messages may be handled at once
    CONCURRENCY_LIMIT = "tidegate.concurrency.limit", Unit::Things("message");
    /// Messages that wait with the broker, by state: `ready` were never handed out, `pending` are not settled yet
    BACKLOG = "tidegate.backlog.messages", Unit::Things("message");
    /// The age of the oldest message that is not settled
    BACKLOG_OLDEST_AGE = "tidegate.backlog.oldest_age", Unit::Seconds;
    /// Messages that were given up, by the reason
    DLQ_PUBLISHED = "tidegate.dlq.published", Unit::Things("message");
    /// Dead letters that the dead-letter queue did not take; the message stays with its broker
    DLQ_FAILURES = "tidegate.dlq.publish.failures", Unit::Things("message");
    /// Dead letters that wait for a person
    DLQ_DEPTH = "tidegate.dlq.depth", Unit::Things("message");
    /// Attempts to extend a lease, by result
    LEASE_HEARTBEATS = "tidegate.lease.heartbeats", Unit::Things("heartbeat");
    /// Leases that ended while the message was still being handled; the broker hands it over again
    LEASE_LOST = "tidegate.lease.lost", Unit::Things("message");
    /// Deliveries of messages that were done already, and acknowledged without a run
    DEDUPE_HITS = "tidegate.dedupe.hits", Unit::Things("message");
    /// Outputs that their broker had already, from an earlier run of the same message
    OUTPUTS_DEDUPLICATED = "tidegate.outputs.deduplicated", Unit::Things("message");
    /// Fuel that handlers used, failed runs included
    FUEL = "tidegate.wasm.fuel.consumed", Unit::Things("fuel");
    /// The most memory that one run has held since the host started
    MEMORY_PEAK = "tidegate.wasm.memory.peak", Unit::Bytes;
    /// Runs that trapped, by the trap's code
    TRAPS = "tidegate.wasm.traps", Unit::Things("run");
    /// Whether the broker can be reached: 1 or 0
    BROKER_CONNECTED = "tidegate.broker.connected", Unit::Things("connection");
    /// How often the connection to the broker was made anew
    BROKER_RECONNECTS = "tidegate.broker.reconnects", Unit::Things("connection");
    /// Measurements of handlers that were dropped: too many series, or a name that cannot be used
    MEASUREMENTS_DROPPED = "tidegate.handler.measurements.dropped", Unit::Things("measurement");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_prometheus_follow_the_rules() {
        let rows = [
            (PROCESS_DURATION, "messaging_process_duration_seconds"),
            (IN_FLIGHT_BYTES, "tidegate_inflight_bytes"),
            (MEMORY_PEAK, "tidegate_wasm_memory_peak_bytes"),
            (SETTLED, "tidegate_messages_settled"),
        ];
        for (name, expected) in rows {
            assert_eq!(name.prometheus(), expected);
        }
        let mut seen: Vec<String> = ALL.iter().map(Name::prometheus).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), ALL.len(), "two metrics share a name");
        for name in ALL {
            assert!(!name.sentence.is_empty() && !name.sentence.ends_with('.'), "{}", name.dotted);
        }
    }
}
