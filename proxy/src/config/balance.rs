//! How a server is chosen: `balance`, `hash-type`.

/// How a server is chosen (`balance`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Each in turn, by weight.
    RoundRobin,
    /// As round robin; weights never change at run time.
    StaticRoundRobin,
    /// The one with fewest connections for its weight.
    LeastConn,
    /// The first one that is not full.
    First,
    /// By a hash of the client's address.
    Source,
    /// By a hash of something else (`balance hash ...`).
    Hash(HashKey),
    /// The less loaded of N drawn at random.
    Random(u32),
}

impl Algorithm {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::StaticRoundRobin => "static-rr",
            Self::LeastConn => "leastconn",
            Self::First => "first",
            Self::Source => "source",
            Self::Hash(_) => "hash",
            Self::Random(_) => "random",
        }
    }

    /// Whether it would give another server when asked again, so that nothing holds a client to one.
    #[must_use]
    pub fn is_free_to_move(self) -> bool {
        !matches!(self, Self::Source | Self::Hash(_))
    }
}

/// What a hash is made of (`balance hash EXPRESSION`, as far as it is about addresses).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Source,
    /// The client's port.
    SourcePort,
    /// The address the client came to.
    Destination,
    /// The port the client came to.
    DestinationPort,
}

impl HashKey {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Source, Self::SourcePort, Self::Destination, Self::DestinationPort];

    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Source => "src",
            Self::SourcePort => "src_port",
            Self::Destination => "dst",
            Self::DestinationPort => "dst_port",
        }
    }
}

/// How hashes become servers (`hash-type METHOD FUNCTION MODIFIER`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HashType {
    /// From hash to server.
    pub method: HashMethod,
    /// From key to hash.
    pub function: HashFunction,
    /// Mix the hash once more (`avalanche`).
    pub avalanche: bool,
}

/// From hash to server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashMethod {
    /// Modulo the total weight (`map-based`).
    #[default]
    MapBased,
    /// Nearest on a ring (`consistent`): few clients move when a server comes or goes.
    Consistent,
}

/// From key to hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HashFunction {
    /// Of the sdbm library.
    #[default]
    Sdbm,
    /// Bernstein's.
    Djb2,
    /// Of the wt6 project.
    Wt6,
    /// Ethernet's checksum.
    Crc32,
    /// The key is a number already.
    None,
}

impl HashFunction {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Sdbm, Self::Djb2, Self::Wt6, Self::Crc32, Self::None];

    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sdbm => "sdbm",
            Self::Djb2 => "djb2",
            Self::Wt6 => "wt6",
            Self::Crc32 => "crc32",
            Self::None => "none",
        }
    }
}
