//! The words of errors, and what each means: one list for every route.

/// What a word means; `None`: there is no such word.
pub(super) fn meaning(code: &str) -> Option<&'static str> {
    let found =
        ACCESS.iter().chain(&SUBSCRIPTIONS).chain(&MESSAGES).chain(&HANDLERS).chain(&MODULES).chain(&CONFIGURATION);
    found.copied().find(|(word, _)| *word == code).map(|(_, meaning)| meaning)
}

/// All words.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    let all =
        ACCESS.iter().chain(&SUBSCRIPTIONS).chain(&MESSAGES).chain(&HANDLERS).chain(&MODULES).chain(&CONFIGURATION);
    all.map(|(word, _)| *word)
}

/// Of every route, or of many.
const ACCESS: [(&str, &str); 14] = [
    ("no-token", "there is no token in the request"),
    ("unknown-token", "the token is not known to this host"),
    ("expired-token", "the token's time is over"),
    ("role-too-low", "the token's role may not do this"),
    ("limited-to-handlers", "the token is limited to some handlers, and this concerns others or the whole host"),
    ("payload-withheld", "logs, outputs and messages need the role `operate`"),
    (
        "foreign-origin",
        "the request comes from a web page that is not the host's console, and those may change nothing",
    ),
    ("foreign-host", "a listener without tokens answers to loopback names only"),
    ("invalid-path", "the path has bytes that are no text"),
    ("invalid-query", "a parameter is not known, or its value cannot be read"),
    ("broken-body", "the body was cut off, or its encoding is broken"),
    ("too-slow", "nothing was sent for 30 seconds, or the body took too long as a whole"),
    ("no-such-file", "the console has no such file"),
    ("audit-unavailable", "the audit log cannot be written or read; nothing was done"),
];

/// Of subscriptions.
const SUBSCRIPTIONS: [(&str, &str); 7] = [
    ("no-subscriptions-here", "no subscriptions run here: this listener serves queues alone"),
    ("no-such-subscription", "the host has no such subscription, or none of that handler"),
    ("subscription-in-use", "the configuration has it, or its last messages are being settled"),
    ("no-past", "the subscription has not begun, or its broker cannot be looked into"),
    ("not-kept", "it could not be written down which subscriptions are paused, and nothing was changed"),
    ("no-cluster", "it was to be for all hosts, and this host is in no cluster"),
    ("cluster-not-told", "the cluster cannot be asked, or did not confirm it; it is safe to do it again"),
];

/// Of messages and dead letters.
const MESSAGES: [(&str, &str); 27] = [
    ("no-such-broker", "the configuration has no such broker"),
    ("which-broker", "there are several brokers: `broker` has to say which one"),
    ("no-subject", "neither the query nor a header says the subject"),
    ("invalid-message", "the subject or a header is none that the broker takes"),
    ("invalid-line", "a line is not a message; those before it are stored"),
    ("too-large", "it is larger than the limit"),
    ("broker-unavailable", "the broker cannot be reached just now; it is safe to try again with the same id"),
    ("queue-full", "the queue or its disk has no room"),
    ("no-such-dead-letter", "there is none of this id, or not any more, or it is not yours to see"),
    ("already-redriven", "it was sent back before: `force` does it once more"),
    ("redriven-too-often", "it came back and died too often: `force` sends it back all the same"),
    ("no-version-ran", "no module ran on the message: `version` has to say which one it is to be run on"),
    ("version-forgotten", "the version that ran is kept no more: `version` has to say which one it is to be run on"),
    ("too-many-replays", "as many messages are run once more as may; nothing was run"),
    ("replay-unfinished", "the run did not end in its time beside the messages, which go first"),
    ("replay-broken", "the run stopped in the middle; a bug of the host"),
    ("no-tasks-here", "this listener does no tasks over dead letters"),
    ("no-such-task", "there is no task of this id, or not any more, or it is not yours to see"),
    (
        "same-version",
        "it failed in a version that its handler still runs here, and was asked to be sent back only if it does not",
    ),
    ("versions-unreadable", "the versions that run here cannot be read from the registry"),
    ("task-ended", "the task has ended, and can be neither held nor told to go on"),
    ("nobody-takes-it", "nobody takes what is published to that subject; the dead letter stays"),
    ("too-many-tasks", "as many tasks go on as may"),
    ("other-count", "another number of dead letters matches than was confirmed; nothing was removed"),
    ("task-unwritable", "the task cannot be written down; nothing was done"),
    ("store-unavailable", "the dead letters cannot be read or written just now"),
    ("too-many-look", "so many look on already that one more is not let in"),
];

/// Of handlers and their versions.
const HANDLERS: [(&str, &str); 19] = [
    ("no-handlers-here", "no handlers run here: this listener serves queues alone"),
    ("no-such-handler", "the configuration has no such handler"),
    ("no-such-version", "the handler has no such version, or not any more"),
    ("no-active-version", "a version is tried beside one that runs, and none does"),
    ("no-rollout", "no version of the handler is being tried"),
    ("other-version-tried", "another version of the handler is tried than the one that was looked at"),
    ("already-active", "the handler runs that version already"),
    ("deploy-in-progress", "somebody deploys to the handler just now"),
    ("superseded", "somebody changed which version runs before the deploy came to it"),
    ("rollout-in-progress", "a version of the handler is being tried: promote or abort it first"),
    ("not-granted", "the version has grants that the configuration does not give any more"),
    ("invalid-share", "a canary cannot get all messages"),
    ("switch-broken", "the switch stopped; a bug of the host"),
    ("conflict", "another host of the cluster was first"),
    ("cluster-unavailable", "the cluster's NATS cannot be reached just now"),
    ("unconfirmed", "NATS did not confirm the change: whether it was made is shown when it is back"),
    ("record-unreadable", "what the cluster has of the handler cannot be read"),
    ("not-recorded", "the cluster has the version, and this host could not record it; it tries again by itself"),
    ("not-current", "this host does not run what is to run in the cluster, and so tries nothing beside it"),
];

/// Of modules and where they are kept.
const MODULES: [(&str, &str); 17] = [
    ("no-such-module", "no version of the handler that is kept has this module"),
    ("invalid-digest", "the digest is no sha256"),
    ("wrong-digest", "what arrived has another sha256 than was said"),
    ("invalid-signature", "what came as a signature is none"),
    ("not-signed", "the host runs signed modules only, and this one is not"),
    ("untrusted-key", "it is signed with a key that the host does not trust"),
    ("wrong-signature", "the signature is one of other bytes"),
    ("module-refused", "it is no module that can run here; the message says why"),
    ("module-unreadable", "a module that the configuration names cannot be read"),
    ("module-damaged", "the module that is kept is gone or damaged: deploy it again"),
    ("grant-unavailable", "something that the handler is granted cannot be given to it: a secret that cannot be read"),
    ("version-unloadable", "a version that is kept cannot be loaded any more"),
    ("init-failed", "the module does not start within its limits"),
    ("golden-unusable", "the golden messages cannot be read"),
    ("golden-failed", "a golden message did not end as expected"),
    ("registry-unavailable", "the registry cannot be used"),
    ("disk-full", "the disk of the registry is full; nothing was changed"),
];

/// Of the configuration.
const CONFIGURATION: [(&str, &str); 10] = [
    ("no-configuration-here", "nothing runs by a configuration here"),
    ("config-invalid", "the file cannot be read, or something is wrong with it; the message has its lines"),
    ("config-changed", "the file, a module or what runs changed since the changes were shown: look again"),
    ("needs-restart", "something changed that a host takes at its start only"),
    ("apply-in-progress", "somebody applies the configuration just now"),
    ("apply-broken", "applying stopped; a bug of the host"),
    ("broker-unusable", "a broker of the file cannot be opened"),
    ("subscription-refused", "a subscription of the file would not be bound"),
    ("tls-unusable", "the certificate files cannot be used"),
    ("draining", "the host is about to end"),
];
