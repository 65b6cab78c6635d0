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

impl Unit {
    /// The unit as OpenTelemetry writes it, which is as UCUM does.
    #[must_use]
    pub fn ucum(self) -> String {
        match self {
            Self::Seconds => "s".to_owned(),
            Self::Bytes => "By".to_owned(),
            Self::Things(thing) => format!("{{{thing}}}"),
        }
    }
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
    // A macro, so that no list can miss one.
    ($list:ident, $list_doc:literal: $($(#[doc = $doc:literal])* $const:ident = $dotted:literal, $unit:expr;)*) => {
        $(
            $(#[doc = $doc])*
            pub const $const: Name = Name { dotted: $dotted, unit: $unit, sentence: concat!($($doc),*).trim_ascii() };
        )*
        #[doc = $list_doc]
        pub const $list: &[Name] = &[$($const),*];
    };
}

names! {
    MEASURED, "What is measured all over the host.":

    /// Messages that the broker handed over, every delivery counted
    CONSUMED = "messaging.client.consumed.messages", Unit::Things("message");
    /// Messages that handlers sent and a broker confirmed
    SENT = "messaging.client.sent.messages", Unit::Things("message");
    /// How long handlers ran, whichever way the run ended; `error_type` is the reason code of a run that failed
    PROCESS_DURATION = "messaging.process.duration", Unit::Seconds;
    /// How long a broker took to do what it was asked, a group of messages at a time, by `messaging_operation_name`:
    /// `settle`, `extend` (leases), `send` (outputs to another broker than the message's own)
    OPERATION_DURATION = "messaging.client.operation.duration", Unit::Seconds;
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
    /// Whether a subscription is paused, by `kind`: 1 or 0; `operator`: somebody paused it; `circuit`: too
    /// many messages failed; `no-handler`: no version of its handler can run; `source-lost`: what it receives from is gone or
    /// was changed so that messages would be lost; `dlq-unavailable`, `output-unavailable`: what has to be stored is not
    PAUSED = "tidegate.paused", Unit::Things("subscription");
    /// Whether a subscription is stalled: as many messages are held as may be handled at once, and for its `stalled_after` none
    /// has come to its end: 1 or 0
    STALLED = "tidegate.stalled", Unit::Things("subscription");
    /// How often the circuit opened, because too many messages failed
    CIRCUIT_OPENED = "tidegate.circuit.opened", Unit::Things("time");
    /// Messages that were let in to see whether a circuit may be closed, by `result`: `well` or `failed`
    CIRCUIT_PROBES = "tidegate.circuit.probes", Unit::Things("message");
    /// The circuit: 0: closed; 1: open, no message is taken; 2: one at a time is let in to see how it goes
    CIRCUIT_STATE = "tidegate.circuit.state", Unit::Things("state");
    /// Messages that wait with the broker, by state: `ready` were never handed out, `pending` are not settled yet
    BACKLOG = "tidegate.backlog.messages", Unit::Things("message");
    /// The age of the oldest message that is not settled
    BACKLOG_OLDEST_AGE = "tidegate.backlog.oldest_age", Unit::Seconds;
    /// How many messages the broker hands out at the most without hearing what became of them, over all hosts
    /// (JetStream's `max_ack_pending`); when as many are `pending`, it hands out no new ones
    ACK_PENDING_LIMIT = "tidegate.ack_pending.limit", Unit::Things("message");
    /// Messages of the embedded queue that wait for their next attempt
    RETRY_IN_PLACE = "tidegate.retry.in_place", Unit::Things("message");
    /// How long it is until the next of them is due; 0 when none waits
    RETRY_NEXT_DUE = "tidegate.retry.next_due", Unit::Seconds;
    /// Messages that were given up, by the reason
    DLQ_PUBLISHED = "tidegate.dlq.published", Unit::Things("message");
    /// Dead letters that the dead-letter queue did not take; the message stays with its broker
    DLQ_FAILURES = "tidegate.dlq.publish.failures", Unit::Things("message");
    /// Dead letters that wait for a person
    DLQ_DEPTH = "tidegate.dlq.depth", Unit::Things("message");
    /// The age of the oldest dead letter that waits for a person
    DLQ_OLDEST_AGE = "tidegate.dlq.oldest_age", Unit::Seconds;
    /// Dead letters that were asked to be sent back or removed, by `action` and `result`
    DLQ_ACTIONS = "tidegate.dlq.actions", Unit::Things("message");
    /// Tasks over dead letters that go on
    DLQ_TASKS = "tidegate.dlq.tasks", Unit::Things("task");
    /// Attempts to extend a lease, by result
    LEASE_HEARTBEATS = "tidegate.lease.heartbeats", Unit::Things("heartbeat");
    /// Leases that ended while the message was still being handled; the broker hands it over again
    LEASE_LOST = "tidegate.lease.lost", Unit::Things("message");
    /// What was left of a lease when the broker confirmed what became of its message
    LEASE_REMAINING = "tidegate.lease.remaining_at_settle", Unit::Seconds;
    /// Deliveries of messages that were done already, and acknowledged without a run
    DEDUPE_HITS = "tidegate.dedupe.hits", Unit::Things("message");
    /// Outputs that their broker had already: of an earlier run of the same message, or of the same run, sent again
    OUTPUTS_DEDUPLICATED = "tidegate.outputs.deduplicated", Unit::Things("message");
    /// Fuel that handlers used, failed runs included
    FUEL = "tidegate.wasm.fuel.consumed", Unit::Things("fuel");
    /// The most memory that one run has held since the host started
    MEMORY_PEAK = "tidegate.wasm.memory.peak", Unit::Bytes;
    /// How long instances of a module took to start; those that are reused start once
    INSTANTIATE_DURATION = "tidegate.wasm.instantiate.duration", Unit::Seconds;
    /// Runs that trapped, by the trap's code
    TRAPS = "tidegate.wasm.traps", Unit::Things("run");
    /// Whether the broker can be reached: 1 or 0
    BROKER_CONNECTED = "tidegate.broker.connected", Unit::Things("connection");
    /// How often the connection to the broker was made anew
    BROKER_RECONNECTS = "tidegate.broker.reconnects", Unit::Things("connection");
    /// What the server told of the consumers of this host, by `type`: as `max_deliveries` that it hands a message out no
    /// more, as `pause`, `deleted`, `leader_elected` or `quorum_lost` what became of a consumer
    BROKER_ADVISORIES = "tidegate.broker.advisories", Unit::Things("advisory");
    /// How long commits to the embedded queue took, fsync and all; those alone that wait for the disk
    COMMIT_DURATION = "tidegate.queue.commit.duration", Unit::Seconds;
    /// Measurements of handlers that were dropped: too many series, or a name that cannot be used
    MEASUREMENTS_DROPPED = "tidegate.handler.measurements.dropped", Unit::Things("measurement");
    /// Rollouts that ended, by `result`: promoted, aborted or ended; and `by`: the host or a person
    ROLLOUTS_ENDED = "tidegate.rollouts.ended", Unit::Things("rollout");
    /// Whether this host runs another version of a handler than is to run in its cluster: 1 or 0
    CLUSTER_BEHIND = "tidegate.cluster.behind", Unit::Things("handler");
    /// Spans and points of metrics that the collector took, by `signal`: `traces` or `metrics`
    TELEMETRY_EXPORTED = "tidegate.telemetry.exported", Unit::Things("item");
    /// Spans and points that were dropped, by `signal` and `reason`: `queue-full`: the collector is slower than they
    /// come; `collector`: it did not take them
    TELEMETRY_DROPPED = "tidegate.telemetry.dropped", Unit::Things("item");
    /// Messages whose trace context cannot be read; it is passed over, and their trace begins here
    TRACES_MALFORMED = "tidegate.trace_context.malformed", Unit::Things("message");
}

names! {
    ROLLOUTS, "What is shown of the two versions of a rollout, by number and role, while it is on.":

    /// Runs, by outcome
    ROLLOUT_RUNS = "tidegate.rollout.runs", Unit::Things("run");
    /// How long all runs took together
    ROLLOUT_TIME = "tidegate.rollout.run_time", Unit::Seconds;
    /// Fuel of all runs
    ROLLOUT_FUEL = "tidegate.rollout.fuel", Unit::Things("fuel");
    /// Messages that were given up
    ROLLOUT_DEAD_LETTERS = "tidegate.rollout.dead_letters", Unit::Things("message");
    /// Copies of messages for a shadow, by `result`: same, other by fault, outcome or outputs, dropped, unfinished
    SHADOW_COPIES = "tidegate.shadow.copies", Unit::Things("message");
}

names! {
    TALLIES, "What a broker counts by itself and hands over as it stands, see [`crate::broker::Broker::tallies`].":

    /// Deliveries of messages that were being worked on here; the settlement of the first settles both
    HELD_BACK = "tidegate.broker.deliveries.held_back", Unit::Things("message");
    /// Deliveries whose lease was over before they could be handed out: this process stood still
    STALE = "tidegate.broker.deliveries.stale", Unit::Things("message");
    /// Messages that cannot be read, and went to the dead-letter queue without a run
    UNREADABLE = "tidegate.broker.messages.unreadable", Unit::Things("message");
    /// Pulls that were asked for anew, as the server gave no sign of life on them
    SILENT_PULLS = "tidegate.broker.pulls.silent", Unit::Things("pull");
    /// Times that messages came faster than they were taken and were dropped; they come back when their lease ends
    SLOW_CONSUMER = "tidegate.broker.slow_consumer", Unit::Things("time");
    /// Errors that the server sent, such as a missing permission
    SERVER_ERRORS = "tidegate.broker.server_errors", Unit::Things("error");
    /// Blocks of 128 messages that made room for newer ones in the record of what is done; those may run again, should a
    /// server that crashed hand out again what was done so long ago
    DEDUPE_BLOCKS_EVICTED = "tidegate.dedupe.blocks.evicted", Unit::Things("block");
    /// Notes on messages that wait for a retry that the record had no room for; their attempts are over-counted
    DEDUPE_NOTES_EVICTED = "tidegate.dedupe.notes.evicted", Unit::Things("note");
    /// Writes to the record of what is done that failed
    DEDUPE_WRITE_FAILURES = "tidegate.dedupe.write.failures", Unit::Things("write");
    /// Message ids that were forgotten before their time, as there were too many
    DEDUPE_IDS_FORGOTTEN = "tidegate.dedupe.ids.forgotten_early", Unit::Things("id");
    /// Messages that were published with an id that was known; nothing was added
    PUBLISH_DUPLICATES = "tidegate.publish.duplicates", Unit::Things("message");
    /// Messages that were not taken, as the queue or the disk was full
    PUBLISH_REFUSED = "tidegate.publish.refused", Unit::Things("message");
    /// Messages that no subscription wanted and that age removed
    EXPIRED = "tidegate.queue.expired", Unit::Things("message");
    /// Transactions that were committed, each with one fsync
    COMMITS = "tidegate.queue.commits", Unit::Things("transaction");
}

names! {
    LEVELS, "What stands at a broker now, see [`crate::broker::Broker::levels`].":

    /// Messages that the embedded queue keeps
    QUEUE_MESSAGES = "tidegate.queue.messages", Unit::Things("message");
    /// Bytes of the messages that the embedded queue keeps: subject, id, headers and body
    QUEUE_BYTES = "tidegate.queue.bytes", Unit::Bytes;
    /// What is remembered so that nothing is done twice, by `kind`: `ids` of messages that were published (embedded queue);
    /// `blocks` of 128 messages of which some are done, and `notes` on messages that come again (JetStream)
    DEDUPE_RECORDS = "tidegate.dedupe.records", Unit::Things("record");
    /// What is free on the disk on which this host keeps the broker's data
    DISK_FREE = "tidegate.disk.free", Unit::Bytes;
}

/// All of them, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Name> {
    MEASURED.iter().chain(ROLLOUTS).chain(TALLIES).chain(LEVELS)
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
        let mut seen: Vec<String> = all().map(Name::prometheus).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), all().count(), "two metrics share a name");
        for name in all() {
            assert!(!name.sentence.is_empty() && !name.sentence.ends_with('.'), "{}", name.dotted);
        }
    }

    /// What somebody may look for, and why it is not there.
    const NOT_THERE: &str = "
## What is not there

- Messages that are handed out and not settled (JetStream's `num_ack_pending`) are `tidegate.backlog.messages` with
  `state=\"pending\"`; what became of redrives is `tidegate.dlq.actions` with `action=\"redrive\"`.
- How many messages wait for a retry on JetStream: the server counts them with those that are handed out, over all hosts.
- Parked retries and a budget of retries: a retry waits where its message is, however long, and what holds retries back when
  everything fails is the circuit.
- Held keys: messages are not ordered by key.
- A journal of outcomes, and dead letters that were spilled to a disk: there is neither. A dead letter that cannot be stored
  leaves its message with the broker, and `tidegate.dlq.publish.failures` counts it. What is written to the disk of the embedded
  queue is `tidegate.queue.commits`, `tidegate.queue.commit.duration` and `tidegate.queue.bytes`.
- Pulls and publishes of single messages: `messaging.client.operation.duration` is measured by groups, as that is how brokers are
  asked; a pull waits for messages, so how long it took says nothing.
";

    #[test]
    fn the_metrics_in_the_documentation_are_current() {
        let mut page = String::from(
            "# Metrics\n\nWhat `/metrics` shows, in the OpenMetrics text format. Written by a test from the names in the host \
             (`host/src/telemetry/names.rs`);\n`UPDATE_EXPECT=1 cargo test -p tidegate --lib metrics_in_the_documentation` \
             writes it anew.\n\nNames are those of OpenTelemetry; in Prometheus dots are underscores, the unit stands at the \
             end, and a counter ends in\n`_total`. Labels name the subscription, the handler or the broker, and never a \
             subject or an id.\n",
        );
        let sections = [
            ("Messages, handlers, brokers", MEASURED),
            ("The two versions of a rollout, by number and role, while it is on", ROLLOUTS),
            ("What a broker counts by itself (each shows those that it has)", TALLIES),
            ("What stands at a broker (each shows those that it has)", LEVELS),
        ];
        for (title, names) in sections {
            page.push_str(&format!(
                "\n## {title}\n\n| OpenTelemetry | Prometheus | unit | what it says |\n|---|---|---|---|\n"
            ));
            for name in names {
                let unit = name.unit.ucum();
                let (dotted, prometheus, sentence) = (name.dotted, name.prometheus(), name.sentence);
                page.push_str(&format!("| `{dotted}` | `{prometheus}` | {unit} | {sentence} |\n"));
            }
        }
        page.push_str(NOT_THERE);
        expect_test::expect_file!["../../../docs/metrics.md"].assert_eq(&page);
    }
}
