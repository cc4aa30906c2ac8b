//! Who may do what: permissions as regular expressions, compiled once and remembered.
//!
//! RabbitMQ's rule: a user may configure, write or read a resource when the vhost's pattern for
//! that action matches the resource's name anywhere (patterns are not anchored); an empty pattern
//! matches nothing; the default exchange is called `amq.default` here.

use super::MetaSm;
use super::entities::{PermissionPatterns, TopicPatterns};
use crate::exception::Exception;
use crate::ids::VhostId;
use amqp::reply_code;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Steps a pattern with look-around may take on one name before it counts as not matching.
const BACKTRACK_LIMIT: usize = 100_000;
/// Octets a compiled pattern may take.
const COMPILED_LIMIT: usize = 1 << 20;
/// Longest pattern taken.
const PATTERN_LIMIT: usize = 4096;
/// Compiled patterns kept for sharing.
const SHARED_LIMIT: usize = 4096;
/// Decisions kept per connection.
const DECISION_LIMIT: usize = 1024;

/// What somebody wants to do with a queue or exchange.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Permission {
    /// Create, delete.
    Configure,
    /// Publish, bind to.
    Write,
    /// Consume, bind from.
    Read,
}

/// A compiled pattern of permissions or policies.
#[derive(Debug)]
pub enum Pattern {
    /// Matches every name.
    Everything,
    /// Matches none.
    Nothing,
    /// Has to look.
    Regex(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// Compiles a pattern; the empty one matches nothing. The error is a sentence for people.
    pub fn new(text: &str) -> Result<Pattern, String> {
        match text {
            "" => Ok(Pattern::Nothing),
            ".*" | "^" | "^.*" | "^.*$" | ".*$" => Ok(Pattern::Everything),
            _ if text.len() > PATTERN_LIMIT => Err(format!("a pattern has at most {PATTERN_LIMIT} octets")),
            _ => fancy_regex::RegexBuilder::new(text)
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(COMPILED_LIMIT)
                .build()
                .map(|regex| Pattern::Regex(Box::new(regex)))
                .map_err(|error| error.to_string()),
        }
    }

    /// Whether the pattern matches anywhere in `name`. A pattern that gets lost does not match.
    pub fn is_match(&self, name: &str) -> bool {
        match self {
            Pattern::Everything => true,
            Pattern::Nothing => false,
            Pattern::Regex(regex) => regex.is_match(name).unwrap_or(false),
        }
    }
}

/// Compiled patterns, shared by all connections: most users have the same few.
#[derive(Debug, Default)]
pub struct Patterns {
    compiled: Mutex<HashMap<Box<str>, Arc<Pattern>>>,
}

impl Patterns {
    /// The compiled form of `text`. A text that does not compile matches nothing; it was refused
    /// when it was set, so this happens only with data from elsewhere.
    pub fn compile(&self, text: &str) -> Arc<Pattern> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = compiled.get(text) {
            return Arc::clone(pattern);
        }
        if compiled.len() >= SHARED_LIMIT {
            compiled.clear();
        }
        let pattern = Arc::new(Pattern::new(text).unwrap_or(Pattern::Nothing));
        compiled.insert(text.into(), Arc::clone(&pattern));
        pattern
    }
}

/// What one user may do in one vhost. Belongs to a connection; follows changes by itself.
#[derive(Debug)]
pub struct Access {
    patterns: Arc<Patterns>,
    user: Arc<str>,
    vhost: VhostId,
    version: Option<u64>,
    source: Option<PermissionPatterns>,
    rules: Option<[Arc<Pattern>; 3]>,
    topics: HashMap<Arc<str>, TopicRule>,
    decisions: [HashMap<Box<str>, bool>; 3],
    unrestricted: bool,
}

#[derive(Debug)]
struct TopicRule {
    source: TopicPatterns,
    write: Arc<Pattern>,
    read: Arc<Pattern>,
}

impl Access {
    /// Access of `user` to `vhost`.
    pub fn new(patterns: Arc<Patterns>, user: Arc<str>, vhost: VhostId) -> Access {
        Access {
            patterns,
            user,
            vhost,
            version: None,
            source: None,
            rules: None,
            topics: HashMap::new(),
            decisions: Default::default(),
            unrestricted: false,
        }
    }

    /// The same for somebody who may do everything, whatever the permissions say.
    #[must_use]
    pub fn unrestricted(self) -> Access {
        Access { unrestricted: true, ..self }
    }

    /// The user.
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// The vhost.
    pub fn vhost(&self) -> VhostId {
        self.vhost
    }

    /// Whether the user has any permission in the vhost, which is what `connection.open` asks.
    pub fn may_open(&mut self, sm: &MetaSm) -> bool {
        if self.unrestricted {
            return sm.vhost(self.vhost).is_some();
        }
        self.refresh(sm);
        self.rules.is_some()
    }

    /// Whether the user may do `permission` with the queue or exchange called `name` (empty for
    /// the default exchange).
    pub fn check(&mut self, sm: &MetaSm, permission: Permission, name: &str) -> bool {
        if self.unrestricted {
            return true;
        }
        self.refresh(sm);
        let Some(rules) = &self.rules else { return false };
        let slot = permission as usize;
        let name = if name.is_empty() { "amq.default" } else { name };
        let pattern = &rules[slot];
        if !matches!(**pattern, Pattern::Regex(_)) {
            return pattern.is_match(name);
        }
        let decisions = &mut self.decisions[slot];
        if let Some(decision) = decisions.get(name) {
            return *decision;
        }
        if decisions.len() >= DECISION_LIMIT {
            decisions.clear();
        }
        let decision = pattern.is_match(name);
        decisions.insert(name.into(), decision);
        decision
    }

    /// The same as a result: the 403 that RabbitMQ answers for a queue.
    pub fn check_queue(&mut self, sm: &MetaSm, permission: Permission, name: &str) -> Result<(), Exception> {
        self.require(sm, permission, "queue", name)
    }

    /// The same for an exchange.
    pub fn check_exchange(
        &mut self,
        sm: &MetaSm,
        permission: Permission,
        name: &str,
    ) -> Result<(), Exception> {
        self.require(sm, permission, "exchange", name)
    }

    fn require(
        &mut self,
        sm: &MetaSm,
        permission: Permission,
        kind: &str,
        name: &str,
    ) -> Result<(), Exception> {
        if self.check(sm, permission, name) {
            return Ok(());
        }
        let name = if name.is_empty() && kind == "exchange" { "amq.default" } else { name };
        Err(Exception::channel(
            reply_code::ACCESS_REFUSED,
            format!(
                "access to {kind} '{name}' in vhost '{}' refused for user '{}'",
                sm.vhost_name(self.vhost),
                self.user
            ),
        ))
    }

    /// Whether the user may use this routing key on a topic exchange. Without a topic permission
    /// for the exchange every key is fine. Callers ask for topic exchanges only.
    pub fn check_topic(
        &mut self,
        sm: &MetaSm,
        permission: Permission,
        exchange: &str,
        routing_key: &str,
    ) -> Result<(), Exception> {
        if self.unrestricted {
            return Ok(());
        }
        self.refresh(sm);
        let Some(rule) = self.topics.get(if exchange.is_empty() { "amq.default" } else { exchange }) else {
            return Ok(());
        };
        let pattern = if permission == Permission::Write { &rule.write } else { &rule.read };
        if pattern.is_match(routing_key) {
            return Ok(());
        }
        Err(Exception::channel(
            reply_code::ACCESS_REFUSED,
            format!(
                "access to topic '{routing_key}' in exchange '{exchange}' in vhost '{}' refused for user '{}'",
                sm.vhost_name(self.vhost),
                self.user
            ),
        ))
    }

    /// Reads the permissions again when any changed.
    fn refresh(&mut self, sm: &MetaSm) {
        if self.version == Some(sm.access_version()) {
            return;
        }
        self.version = Some(sm.access_version());
        let Some(state) = sm.vhost(self.vhost) else {
            self.source = None;
            self.rules = None;
            self.topics.clear();
            return;
        };
        let source = state.permissions_of(&self.user);
        if self.source.as_ref() != source {
            self.source = source.cloned();
            self.rules = source.map(|source| {
                [&source.configure, &source.write, &source.read].map(|text| self.patterns.compile(text))
            });
            self.decisions.iter_mut().for_each(HashMap::clear);
        }
        self.refresh_topics(sm);
    }

    fn refresh_topics(&mut self, sm: &MetaSm) {
        let Some(state) = sm.vhost(self.vhost) else { return };
        let mine = || state.topic_permissions().filter(|(user, ..)| **user == self.user);
        let same = mine().count() == self.topics.len()
            && mine().all(|(_, exchange, source)| {
                self.topics.get(exchange).is_some_and(|rule| rule.source == *source)
            });
        if same {
            return;
        }
        // RabbitMQ: {username} and {vhost} stand for the connection's own, taken literally.
        let expand = |text: &str| {
            let expanded = text
                .replace("{username}", &fancy_regex::escape(&self.user))
                .replace("{vhost}", &fancy_regex::escape(&state.vhost.name));
            self.patterns.compile(&expanded)
        };
        let topics = mine()
            .map(|(_, exchange, source)| {
                let rule = TopicRule {
                    source: source.clone(),
                    write: expand(&source.write),
                    read: expand(&source.read),
                };
                (Arc::clone(exchange), rule)
            })
            .collect();
        self.topics = topics;
    }
}
