//! The loads: what the generator is asked for, which of its figures are shown, and how much ours may cost.

/// A load, and how often it is put on each side.
pub(super) struct Load {
    pub(super) heading: &'static str,
    pub(super) mode: &'static str,
    /// The arguments of the generator behind the server's.
    pub(super) arguments: &'static [&'static str],
    pub(super) figures: &'static [Figure],
    /// Rounds for each side, in the order of the sides; what has no rounds is not measured.
    pub(super) rounds: [usize; 3],
    /// Whether the servers start anew for it, so that none has memory of earlier loads at hand.
    pub(super) fresh: bool,
}

/// A number that the generator prints: its name, its title, and the most that ours should have.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) most: Option<f64>,
    /// The least that ours should have.
    pub(super) least: Option<f64>,
    /// The most that ours divided by theirs should be.
    pub(super) most_ratio: Option<f64>,
}

const fn figure(name: &'static str, title: &'static str) -> Figure {
    Figure { name, title, most: None, least: None, most_ratio: None }
}

const fn cpu(most: f64) -> Figure {
    Figure { most: Some(most), ..CPU }
}

const RATE: Figure = figure("rate", "messages/s");
const CPU: Figure = figure("cpu_per_million", "CPU s per million");
const P50: Figure = figure("latency_p50_ms", "p50, ms");
const P99: Figure = figure("latency_p99_ms", "p99, ms");
const RECEIPT_P50: Figure = figure("receipt_p50_ms", "p50, ms");
const RECEIPT_P99: Figure = figure("receipt_p99_ms", "p99, ms");
const CPU_PER_THOUSAND: Figure = figure("cpu_per_thousand", "CPU s per thousand");
const KIB_EACH: Figure = figure("kib_each", "KiB each");

/// Ours, theirs, and the relay where it can.
const ALL: [usize; 3] = [3, 3, 3];
const BOTH: [usize; 3] = [3, 3, 0];
/// What takes RabbitMQ long to prepare or to end.
const SLOW: [usize; 3] = [3, 1, 0];
const ONCE: [usize; 3] = [1, 1, 0];

/// The loads whose rates are compared: a transaction, and a confirm.
pub(super) const TRANSACTION: &str = "persistent, 1 KiB, a transaction for each, no consumer";
pub(super) const CONFIRM: &str = "persistent, 1 KiB, a confirm for each before the next, no consumer";

pub(super) const BROKER: &[Load] = &[
    messages("transient, 1 KiB, auto-ack", &[], &[RATE, cpu(2.0)], ALL),
    messages("transient, 16 octets, auto-ack", &["size=16"], &[RATE, cpu(1.2)], ALL),
    messages("transient, 1 KiB, each acknowledged", &["ack"], &[RATE, cpu(2.5)], ALL),
    messages(
        "persistent, 1 KiB, at most 1000 unconfirmed, each acknowledged",
        &["persistent", "window=1000", "ack"],
        &[RATE, cpu(3.5)],
        ALL,
    ),
    messages(
        "persistent, 1 KiB, 4 producers, 4 queues, 4 consumers, at most 1000 unconfirmed, each acknowledged",
        &["queues=4", "persistent", "window=1000", "ack"],
        &[RATE, cpu(4.0)],
        ALL,
    ),
    messages(
        "fanout to 10 queues, 10 consumers, transient, 1 KiB, auto-ack: deliveries",
        &["queues=10", "fanout"],
        &[RATE, cpu(2.0)],
        SLOW,
    ),
    messages(
        "topic exchange, 10,000 bindings, 10 queues, transient, 1 KiB, auto-ack",
        &["queues=10", "topic=10000"],
        &[RATE, cpu(4.0)],
        SLOW,
    ),
    Load {
        heading: "connect, open a channel, close; 4 clients",
        mode: "churn",
        arguments: &["4", "3"],
        figures: &[figure("rate", "cycles/s"), Figure { most: Some(0.15), ..CPU_PER_THOUSAND }],
        rounds: ALL,
        fresh: false,
    },
    messages(CONFIRM, &["persistent", "window=1", "publish"], &[RATE, CPU, RECEIPT_P50, RECEIPT_P99], ALL),
    messages(TRANSACTION, &["persistent", "tx", "publish"], &[RATE, CPU, RECEIPT_P50, RECEIPT_P99], BOTH),
    messages(
        "20,000 messages/s, transient, 1 KiB, auto-ack: from due to delivered",
        &["rate=20000"],
        &[RATE, CPU, P50, P99],
        ALL,
    ),
    messages(
        "20,000 messages/s, persistent, 1 KiB, confirmed, each acknowledged: from due to delivered",
        &["rate=20000", "persistent", "window=1000", "ack"],
        &[RATE, CPU, P50, P99],
        ALL,
    ),
    declares("queue.declare and queue.delete, transient, one after the other", &["transient", "3"]),
    declares("queue.declare and queue.delete, durable, one after the other", &["durable", "3"]),
    population("5,000 idle connections with a channel each", "connections", &["5000"]),
    population("10,000 idle durable queues", "idle-queues", &["10000"]),
];

/// The long queue: how many messages, and what is done with them in turn.
pub(super) const FILL: Load = backlog(
    "10,000,000 persistent messages of 1 KiB into one queue, at most 1000 unconfirmed",
    "fill",
    &["10000000"],
    &[RATE, CPU, resident(300.0)],
);
pub(super) const FIRST: Load = backlog(
    "start after kill -9",
    "first",
    &[],
    &[
        Figure { most: Some(10.0), ..figure("start_s", "until it answers, s") },
        Figure { most: Some(1.0), ..figure("first_s", "from then to the first delivery, s") },
        resident(300.0),
    ],
);
pub(super) const DRAIN: Load = backlog(
    "the 10,000,000 messages in order, each acknowledged",
    "drain",
    &["10000000"],
    &[RATE, CPU, resident(300.0)],
);
pub(super) const QUEUES: Load =
    backlog("100,000 idle durable queues", "idle-queues", &["100000"], &[KIB_EACH, resident(200.0)]);

/// Lists of many queues, and the page of the queues kept fresh. Limits: a list within 100 ms, 3 % of a core.
pub(super) const PAGES: Load = backlog(
    "10,000 queues; then their page once a second for 30 s",
    "pages",
    &["10000", "30"],
    &[
        Figure { most: Some(100.0), ..figure("all_ms", "all of them, all fields, ms") },
        Figure { most: Some(100.0), ..figure("columns_ms", "all of them, three fields, ms") },
        Figure { most: Some(100.0), ..figure("page_ms", "a page of 100 sorted by messages, ms") },
        Figure { most: Some(3.0), ..figure("polling_percent", "% of a core while the page is kept fresh") },
    ],
);

const fn resident(most: f64) -> Figure {
    Figure { most: Some(most), ..figure("resident_mib", "resident MiB at the end") }
}

const fn backlog(
    heading: &'static str,
    mode: &'static str,
    arguments: &'static [&'static str],
    figures: &'static [Figure],
) -> Load {
    Load { heading, mode, arguments, figures, rounds: [1, 0, 0], fresh: false }
}

/// A queue on three nodes; its clients are on the node that leads it.
pub(super) const MIRRORED: Load = cluster(
    "mirrored on three nodes, persistent, 1 KiB, at most 1000 unconfirmed, each acknowledged",
    "messages",
    &["persistent", "window=1000", "ack"],
    &[Figure { least: Some(40_000.0), ..RATE }, cpu(20.0)],
    [3, 3, 3],
);
/// A queue on one node; its clients are on another.
pub(super) const REMOTE: Load = cluster(
    "a queue on another node, persistent, 1 KiB, at most 1000 unconfirmed, each acknowledged",
    "messages",
    &["persistent", "window=1000", "ack"],
    &[RATE, cpu(8.0)],
    [3, 3, 0],
);
/// The leader's process goes.
pub(super) const KILLED: Load =
    cluster("the leader's process is killed", "resume", &["kill"], &[resume(0.2)], [3, 3, 3]);
/// The leader's host is silent.
pub(super) const FROZEN: Load =
    cluster("the leader's process is frozen (SIGSTOP)", "resume", &["freeze"], &[resume(4.0)], [3, 1, 1]);

/// The leader of many queues goes.
pub(super) const TAKEOVER: Load = cluster(
    "the process that leads 10,000 mirrored queues is killed",
    "takeover",
    &["10000"],
    &[Figure { most: Some(4.0), ..figure("takeover_s", "until each confirms, s") }],
    [3, 0, 0],
);
/// A mirror is silent and comes back.
pub(super) const AWAY: Load = cluster(
    "a mirror is away for 10 s; 1,000,000 messages before, 5000 a second meanwhile",
    "away",
    &["1000000"],
    &[
        Figure { most: Some(5.0), ..figure("synchronised_s", "until in sync again, s") },
        Figure { most: Some(1.3), ..figure("received_ratio", "octets received by octets missed") },
    ],
    [3, 0, 0],
);

const fn resume(most: f64) -> Figure {
    Figure { most: Some(most), ..figure("resume_s", "until confirms resume, s") }
}

const fn cluster(
    heading: &'static str,
    mode: &'static str,
    arguments: &'static [&'static str],
    figures: &'static [Figure],
    rounds: [usize; 3],
) -> Load {
    Load { heading, mode, arguments, figures, rounds, fresh: false }
}

/// A whole deployment; the modes are the keys of what `deployment` prints.
pub(super) const STACK: &[Load] = &[
    deployment(
        "all programs are started at once",
        "start",
        &[figure("first_s", "until a client has the first message, s")],
    ),
    deployment("persistent, 1 KiB, at most 1000 unconfirmed, each acknowledged", "throughput", &[RATE, CPU]),
    deployment(
        "1,000 messages/s, persistent, 1 KiB, confirmed, each acknowledged: from due to delivered",
        "latency",
        &[CPU, P50, P99],
    ),
    deployment(
        "resident memory after that",
        "memory",
        &[
            figure("brokers_mib", "brokers, MiB"),
            figure("proxies_mib", "balancers, MiB"),
            figure("agents_mib", "agents, MiB"),
        ],
    ),
    deployment("a broker's process is killed", "broker", &[OUTAGE]),
    deployment("the balancer that holds the address is killed, five times", "proxy", &[OUTAGE_MEDIAN]),
    deployment("the address's holder loses power", "power", &[OUTAGE]),
];

const OUTAGE: Figure = figure("outage_s", "outage, s");
const OUTAGE_MEDIAN: Figure = figure("outage_s", "outage, median, s");

const fn deployment(heading: &'static str, mode: &'static str, figures: &'static [Figure]) -> Load {
    Load { heading, mode, arguments: &[], figures, rounds: [1, 1, 0], fresh: true }
}

/// What ours may cost beside HAProxy.
const RATIO: f64 = 0.9;

const fn beside(name: &'static str, title: &'static str) -> Figure {
    Figure { most_ratio: Some(RATIO), ..figure(name, title) }
}

const CPU_EACH: Figure = beside("cpu_each_us", "CPU us each");
const CPU_PER_GIGABYTE: Figure = beside("cpu_per_gigabyte", "CPU s per GB");

pub(super) const PROXY: &[Load] = &[
    tcp("short connections, 4 clients", &["connect", "4", "3"]),
    tcp("short connections, 50 clients", &["connect", "50", "3"]),
    tcp("question and answer, 64 octets, 1 client", &["ask", "1", "3"]),
    tcp("question and answer, 64 octets, 50 clients", &["ask", "50", "3"]),
    bulk("bulk data, copied, 4 clients", &["pour", "4", "3"]),
    bulk("bulk data, spliced, 4 clients", &["pour", "4", "3", SPLICED]),
    Load {
        heading: "10,000 short connections, 500 at once",
        mode: "tcp",
        arguments: &["storm", "10000"],
        figures: &[beside("seconds", "seconds for all"), CPU_EACH, P50, P99],
        rounds: NINE,
        fresh: false,
    },
    Load {
        heading: "9,000 idle connections",
        mode: "tcp",
        arguments: &["idle", "9000"],
        figures: &[beside("kib_each", "KiB each"), beside("kib_before", "KiB before")],
        rounds: NINE,
        fresh: true,
    },
];

/// The word that sends a load to the address with `option splice-auto`.
pub(super) const SPLICED: &str = "spliced";

const fn messages(
    heading: &'static str,
    arguments: &'static [&'static str],
    figures: &'static [Figure],
    rounds: [usize; 3],
) -> Load {
    Load { heading, mode: "messages", arguments, figures, rounds, fresh: false }
}

const fn declares(heading: &'static str, arguments: &'static [&'static str]) -> Load {
    const FIGURES: &[Figure] = &[figure("rate", "pairs/s"), CPU_PER_THOUSAND];
    Load { heading, mode: "queues", arguments, figures: FIGURES, rounds: BOTH, fresh: false }
}

const fn population(heading: &'static str, mode: &'static str, arguments: &'static [&'static str]) -> Load {
    Load { heading, mode, arguments, figures: &[KIB_EACH], rounds: ONCE, fresh: true }
}

const NINE: [usize; 3] = [9, 9, 0];

/// What is done, clients, seconds.
const fn tcp(heading: &'static str, arguments: &'static [&'static str]) -> Load {
    const FIGURES: &[Figure] = &[
        figure("rate", "per second"),
        CPU_EACH,
        beside("latency_p50_ms", "p50, ms"),
        beside("latency_p99_ms", "p99, ms"),
    ];
    Load { heading, mode: "tcp", arguments, figures: FIGURES, rounds: NINE, fresh: false }
}

const fn bulk(heading: &'static str, arguments: &'static [&'static str]) -> Load {
    const FIGURES: &[Figure] = &[figure("rate", "GB/s"), CPU_PER_GIGABYTE];
    Load { heading, mode: "tcp", arguments, figures: FIGURES, rounds: NINE, fresh: false }
}
