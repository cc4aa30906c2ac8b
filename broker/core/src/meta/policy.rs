//! Policies: which one counts for a name, and what its definition says.
//!
//! Matching needs regular expressions, which the state machine does not run. So the effective
//! policy of a queue or exchange is *derived* state: whoever holds the [`MetaSm`] matches names
//! with a [`PolicyBook`] when a queue, an exchange or a policy changes and stores the outcome with
//! [`PolicyBook::refresh_queue`] and its like. It is not in snapshots and not in the journal; after
//! a restart [`PolicyBook::refresh_all`] makes it again.

use super::MetaSm;
use super::access::{Pattern, Patterns};
use super::entities::{ApplyTo, Destination, ExchangeId, Policy, PolicyNames};
use super::options::{MirrorMode, Mirroring, QueueOptions};
use crate::ids::{QueueId, VhostId};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A policy's definition, parsed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Definition(Map<String, Value>);

impl Definition {
    /// Reads a JSON object; anything else is an empty definition.
    pub fn parse(json: &str) -> Definition {
        Definition(serde_json::from_str(json).unwrap_or_default())
    }

    /// A number that is not negative.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    /// The definition as JSON.
    pub fn json(&self) -> &Map<String, Value> {
        &self.0
    }

    /// What `ha-mode` and its companions say.
    pub fn mirroring(&self) -> Option<Mirroring> {
        let mode = match self.text("ha-mode")? {
            "all" => MirrorMode::All,
            "exactly" => MirrorMode::Exactly(u32::try_from(self.number("ha-params")?).ok()?),
            "nodes" => MirrorMode::Nodes(
                self.0
                    .get("ha-params")?
                    .as_array()?
                    .iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            ),
            _ => return None,
        };
        let is = |key: &str, word: &str| self.text(key) == Some(word);
        Some(Mirroring {
            mode,
            automatic_sync: is("ha-sync-mode", "automatic"),
            promote_on_shutdown: is("ha-promote-on-shutdown", "always"),
            promote_on_failure: is("ha-promote-on-failure", "always"),
            min_in_sync: self
                .number("ha-min-in-sync")
                .map_or(1, |least| u32::try_from(least).unwrap_or(u32::MAX).max(1)),
        })
    }
}

/// One policy, ready to match.
#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    pattern: Arc<Pattern>,
    apply_to: ApplyTo,
    definition: Definition,
}

/// The policies of one vhost, highest priority first.
#[derive(Debug, Default)]
struct VhostBook {
    policies: Vec<Entry>,
    operator: Vec<Entry>,
}

/// All policies, compiled. Belongs to whoever holds the [`MetaSm`].
#[derive(Debug)]
pub struct PolicyBook {
    patterns: Arc<Patterns>,
    vhosts: BTreeMap<VhostId, VhostBook>,
}

impl PolicyBook {
    /// An empty book that compiles its patterns with `patterns`.
    pub fn new(patterns: Arc<Patterns>) -> PolicyBook {
        PolicyBook { patterns, vhosts: BTreeMap::new() }
    }

    /// Reads the policies of one vhost again and the effective policies of all that is in it.
    /// Returns the queues whose options are others now.
    pub fn refresh_vhost(&mut self, sm: &mut MetaSm, vhost: VhostId) -> Vec<QueueId> {
        let Some(state) = sm.vhost(vhost) else {
            self.vhosts.remove(&vhost);
            return Vec::new();
        };
        let book = VhostBook {
            policies: self.compile(state.policies(false)),
            operator: self.compile(state.policies(true)),
        };
        self.vhosts.insert(vhost, book);
        let queues: Vec<QueueId> = sm.queues_in(vhost).map(|queue| queue.id).collect();
        let exchanges: Vec<ExchangeId> = sm.exchanges_in(vhost).map(|exchange| exchange.id).collect();
        for exchange in exchanges {
            self.refresh_exchange(sm, exchange);
        }
        queues.into_iter().filter(|id| self.refresh_queue(sm, *id)).collect()
    }

    /// Reads everything again, after a restart or a snapshot.
    pub fn refresh_all(&mut self, sm: &mut MetaSm) {
        self.vhosts.clear();
        let vhosts: Vec<VhostId> = sm.vhosts().map(|state| state.vhost.id).collect();
        for vhost in vhosts {
            self.refresh_vhost(sm, vhost);
        }
    }

    /// Finds the policies of a queue; says whether its options are others now.
    pub fn refresh_queue(&self, sm: &mut MetaSm, id: QueueId) -> bool {
        let Some(queue) = sm.queues.get_mut(&id) else { return false };
        if !self.vhosts.contains_key(&queue.spec.vhost) {
            return false;
        }
        let (names, options) = self.options_of(queue.spec.vhost, &queue.spec.name, &queue.own_options);
        queue.policies = names;
        let changed = options != queue.options;
        queue.options = options;
        changed
    }

    /// What a queue with this name and these options of its own obeys, and by which policies.
    pub fn options_of(
        &self,
        vhost: VhostId,
        name: &str,
        own: &Arc<QueueOptions>,
    ) -> (PolicyNames, Arc<QueueOptions>) {
        let Some(book) = self.vhosts.get(&vhost) else { return (PolicyNames::default(), Arc::clone(own)) };
        let fits = |entry: &&Entry| entry.apply_to != ApplyTo::Exchanges && entry.pattern.is_match(name);
        let policy = book.policies.iter().find(fits);
        let operator = book.operator.iter().find(fits);
        let options = if policy.is_none() && operator.is_none() {
            Arc::clone(own)
        } else {
            Arc::new(own.with_policies(
                policy.map(|entry| &entry.definition),
                operator.map(|entry| &entry.definition),
            ))
        };
        (names(policy, operator), options)
    }

    /// Finds the policies of an exchange.
    pub fn refresh_exchange(&self, sm: &mut MetaSm, id: ExchangeId) {
        let Some(exchange) = sm.exchanges.get_mut(&id) else { return };
        let Some(book) = self.vhosts.get(&exchange.spec.vhost) else { return };
        let fits =
            |entry: &&Entry| entry.apply_to != ApplyTo::Queues && entry.pattern.is_match(&exchange.spec.name);
        let policy = book.policies.iter().find(fits);
        let operator = book.operator.iter().find(fits);
        exchange.policies = names(policy, operator);
        let own = super::arguments::alternate_exchange(&exchange.spec.arguments);
        exchange.alternate = own.or_else(|| {
            let from = |entry: Option<&Entry>| entry?.definition.text("alternate-exchange").map(Arc::from);
            from(operator).or_else(|| from(policy))
        });
    }

    /// The definition that counts for a queue or exchange: policy and operator policy merged, for
    /// people to look at.
    pub fn effective_definition(&self, sm: &MetaSm, of: Destination) -> Map<String, Value> {
        let (vhost, policies) = match of {
            Destination::Queue(id) => match sm.queue(id) {
                Some(queue) => (queue.vhost, &queue.policies),
                None => return Map::new(),
            },
            Destination::Exchange(id) => match sm.exchange(id) {
                Some(exchange) => (exchange.vhost, &exchange.policies),
                None => return Map::new(),
            },
        };
        let Some(book) = self.vhosts.get(&vhost) else { return Map::new() };
        let named = |entries: &[Entry], name: &Option<Arc<str>>| {
            let name = name.as_ref()?;
            entries.iter().find(|entry| entry.name == *name).map(|entry| entry.definition.0.clone())
        };
        let mut merged = named(&book.policies, &policies.policy).unwrap_or_default();
        for (key, value) in named(&book.operator, &policies.operator).unwrap_or_default() {
            let lower = match (merged.get(&key).and_then(Value::as_u64), value.as_u64()) {
                (Some(mine), Some(theirs)) => mine < theirs,
                _ => false,
            };
            if !lower {
                merged.insert(key, value);
            }
        }
        merged
    }

    fn compile<'a>(&self, policies: impl Iterator<Item = &'a Policy>) -> Vec<Entry> {
        let mut sorted: Vec<&Policy> = policies.collect();
        sorted.sort_by_key(|policy| std::cmp::Reverse(policy.priority));
        sorted
            .into_iter()
            .map(|policy| Entry {
                name: Arc::clone(&policy.name),
                pattern: self.patterns.compile(&policy.pattern),
                apply_to: policy.apply_to,
                definition: Definition::parse(&policy.definition),
            })
            .collect()
    }
}

fn names(policy: Option<&Entry>, operator: Option<&Entry>) -> PolicyNames {
    PolicyNames {
        policy: policy.map(|entry| Arc::clone(&entry.name)),
        operator: operator.map(|entry| Arc::clone(&entry.name)),
    }
}
