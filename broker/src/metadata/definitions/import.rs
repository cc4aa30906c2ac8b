//! Reading definitions.

use super::{user_limits, vhost_limits};
use crate::auth;
use crate::metadata::{Metadata, json};
use broker_core::exchange::ExchangeType;
use broker_core::ids::{NodeId, VhostId};
use broker_core::meta::access::Pattern;
use broker_core::meta::{
    ApplyTo, BindingRequest, DeclareExchange, DeclareQueue, DestinationName, HashAlgorithm, MetaCommand,
    MetaError, MetaReply, MetaSm, PasswordHash, PermissionPatterns, Policy, TopicPatterns, User,
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why definitions were not imported. What came before the mistake is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// Not of the form of definitions.
    #[error("{0}")]
    Malformed(String),
    /// Something that is in a vhost does not say in which, as in the definitions of one vhost.
    #[error("an entry has no vhost")]
    NoVhost,
    /// Something is in a vhost that is not there.
    #[error("vhost '{0}' does not exist")]
    NoSuchVhost(String),
    /// Something was refused.
    #[error("{what} '{name}': {error}")]
    Refused {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why.
        error: MetaError,
    },
}

/// How many of each were imported, those included that were there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ImportReport {
    pub(crate) users: usize,
    pub(crate) vhosts: usize,
    pub(crate) queues: usize,
    pub(crate) exchanges: usize,
    pub(crate) bindings: usize,
    pub(crate) policies: usize,
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "users {}, vhosts {}, queues {}, exchanges {}, bindings {}, policies {}",
            self.users, self.vhosts, self.queues, self.exchanges, self.bindings, self.policies
        )
    }
}

#[derive(Deserialize)]
struct Definitions {
    #[serde(default)]
    users: Vec<RawUser>,
    #[serde(default)]
    vhosts: Vec<RawVhost>,
    #[serde(default)]
    permissions: Vec<RawPermission>,
    #[serde(default)]
    topic_permissions: Vec<RawTopicPermission>,
    #[serde(default)]
    parameters: Vec<RawParameter>,
    #[serde(default)]
    global_parameters: Vec<RawGlobalParameter>,
    #[serde(default)]
    policies: Vec<RawPolicy>,
    #[serde(default)]
    queues: Vec<RawQueue>,
    #[serde(default)]
    exchanges: Vec<RawExchange>,
    #[serde(default)]
    bindings: Vec<RawBinding>,
}

#[derive(Deserialize)]
struct RawUser {
    name: Arc<str>,
    password_hash: Option<String>,
    password: Option<String>,
    hashing_algorithm: Option<String>,
    #[serde(default)]
    tags: Value,
    limits: Option<Map<String, Value>>,
}

/// A vhost. What is not said of one that is there stays as it is.
#[derive(Deserialize)]
struct RawVhost {
    name: Arc<str>,
    description: Option<String>,
    tags: Option<Value>,
    tracing: Option<bool>,
    default_queue_type: Option<String>,
}

#[derive(Deserialize)]
struct RawPermission {
    user: Arc<str>,
    vhost: Arc<str>,
    configure: Arc<str>,
    write: Arc<str>,
    read: Arc<str>,
}

#[derive(Deserialize)]
struct RawTopicPermission {
    user: Arc<str>,
    vhost: Arc<str>,
    exchange: Arc<str>,
    write: Arc<str>,
    read: Arc<str>,
}

#[derive(Deserialize)]
struct RawParameter {
    vhost: Option<Arc<str>>,
    component: Arc<str>,
    name: Arc<str>,
    value: Value,
}

#[derive(Deserialize)]
struct RawGlobalParameter {
    name: Arc<str>,
    value: Value,
}

#[derive(Deserialize)]
struct RawPolicy {
    vhost: Option<Arc<str>>,
    name: Arc<str>,
    pattern: Arc<str>,
    definition: Value,
    #[serde(default)]
    priority: i64,
    #[serde(rename = "apply-to", default)]
    apply_to: Option<String>,
}

#[derive(Deserialize)]
struct RawQueue {
    vhost: Option<Arc<str>>,
    name: Arc<str>,
    #[serde(default = "yes")]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
struct RawExchange {
    vhost: Option<Arc<str>>,
    name: Arc<str>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "yes")]
    durable: bool,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    arguments: Value,
}

#[derive(Deserialize)]
struct RawBinding {
    vhost: Option<Arc<str>>,
    source: Arc<str>,
    destination: Arc<str>,
    destination_type: String,
    #[serde(default)]
    routing_key: Option<Arc<str>>,
    #[serde(default)]
    arguments: Value,
}

fn yes() -> bool {
    true
}

/// Where definitions go.
trait Target {
    /// Looks at what is there.
    fn look<T>(&self, look: impl FnOnce(&MetaSm) -> T) -> T;

    /// Several commands in order, each with an outcome of its own.
    fn propose_all(
        &self,
        commands: Vec<MetaCommand>,
    ) -> impl Future<Output = Result<Vec<Result<MetaReply, MetaError>>, MetaError>> + Send;
}

impl Target for Metadata {
    fn look<T>(&self, look: impl FnOnce(&MetaSm) -> T) -> T {
        look(&self.read())
    }

    fn propose_all(
        &self,
        commands: Vec<MetaCommand>,
    ) -> impl Future<Output = Result<Vec<Result<MetaReply, MetaError>>, MetaError>> + Send {
        Metadata::propose_all(self, commands)
    }
}

/// Metadata that nobody serves, in memory: what a node would make of definitions.
#[derive(Debug, Default)]
pub(crate) struct Draft(Mutex<MetaSm>);

impl Target for Draft {
    fn look<T>(&self, look: impl FnOnce(&MetaSm) -> T) -> T {
        look(&self.0.lock())
    }

    async fn propose_all(
        &self,
        commands: Vec<MetaCommand>,
    ) -> Result<Vec<Result<MetaReply, MetaError>>, MetaError> {
        let mut sm = self.0.lock();
        let mut make = |command: &MetaCommand| {
            let next = sm.applied() + 1;
            sm.apply(next, command)
        };
        Ok(commands.iter().map(&mut make).collect())
    }
}

impl Draft {
    /// Imports definitions as [`import`] does, past whatever is refused. Returns that.
    pub(crate) async fn import(&self, json: &Value) -> Vec<ImportError> {
        let definitions = match Definitions::deserialize(json) {
            Ok(definitions) => definitions,
            Err(error) => return vec![ImportError::Malformed(error.to_string())],
        };
        let mut importer = Importer::new(self, None, true);
        match importer.all(&definitions).await {
            Ok(()) => importer.refused,
            Err(error) => vec![error],
        }
    }
}

/// Imports definitions; `vhost` is where things without a vhost of their own go.
///
/// Queues and exchanges that exist are left as they are, as RabbitMQ does, whatever their arguments.
pub(crate) async fn import(
    metadata: &Metadata,
    json: &Value,
    vhost: Option<&str>,
) -> Result<ImportReport, ImportError> {
    let definitions =
        Definitions::deserialize(json).map_err(|error| ImportError::Malformed(error.to_string()))?;
    Importer::new(metadata, vhost, false).all(&definitions).await?;
    Ok(ImportReport {
        users: definitions.users.len(),
        vhosts: definitions.vhosts.len(),
        queues: definitions.queues.len(),
        exchanges: definitions.exchanges.len(),
        bindings: definitions.bindings.len(),
        policies: definitions.policies.len(),
    })
}

struct Importer<'a, T> {
    target: &'a T,
    scope: Option<&'a str>,
    /// What to propose next, with the words for a refusal.
    commands: Vec<(&'static str, Arc<str>, MetaCommand)>,
    vhosts: BTreeMap<Arc<str>, VhostId>,
    /// Goes on when something is refused.
    to_the_end: bool,
    refused: Vec<ImportError>,
}

impl<'a, T: Target> Importer<'a, T> {
    fn new(target: &'a T, scope: Option<&'a str>, to_the_end: bool) -> Self {
        Self { target, scope, commands: Vec::new(), vhosts: BTreeMap::new(), to_the_end, refused: Vec::new() }
    }

    async fn all(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        if self.scope.is_none() {
            let made = self.make_vhosts(definitions).await;
            self.took(made)?;
            let made = self.users(definitions).await;
            self.took(made)?;
        }
        let made = self.parameters(definitions);
        self.took(made)?;
        let made = self.policies(definitions);
        self.took(made)?;
        self.flush().await?;
        let made = self.exchanges(definitions);
        self.took(made)?;
        let made = self.queues(definitions);
        self.took(made)?;
        self.flush().await?;
        let made = self.bindings(definitions);
        self.took(made)?;
        self.flush().await
    }

    /// Ends with an error, or keeps it.
    fn took(&mut self, outcome: Result<(), ImportError>) -> Result<(), ImportError> {
        match outcome {
            Err(error) if self.to_the_end => self.refused.push(error),
            outcome => return outcome,
        }
        Ok(())
    }

    fn push(&mut self, what: &'static str, name: &Arc<str>, command: MetaCommand) {
        self.commands.push((what, Arc::clone(name), command));
    }

    async fn flush(&mut self) -> Result<(), ImportError> {
        let (labels, commands): (Vec<_>, Vec<_>) =
            self.commands.drain(..).map(|(what, name, command)| ((what, name), command)).unzip();
        let refused = |(what, name): &(&'static str, Arc<str>), error| ImportError::Refused {
            what,
            name: name.to_string(),
            error,
        };
        let nothing = ("definitions", Arc::from(""));
        let outcomes = self
            .target
            .propose_all(commands)
            .await
            .map_err(|error| refused(labels.first().unwrap_or(&nothing), error))?;
        let failed = labels.iter().zip(outcomes).filter_map(|(label, outcome): (_, Result<MetaReply, _>)| {
            outcome.err().map(|error| refused(label, error))
        });
        for error in failed {
            self.took(Err(error))?;
        }
        Ok(())
    }

    async fn make_vhosts(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        for vhost in &definitions.vhosts {
            let command = self.target.look(|sm| {
                let known = sm.vhost_id(&vhost.name).and_then(|id| sm.vhost(id)).map(|it| &it.vhost);
                let said = vhost.tags.as_ref().map(tags).transpose()?;
                let description =
                    vhost.description.clone().or_else(|| known.map(|it| it.description.clone()));
                let kind = known.and_then(|it| it.default_queue_type.clone());
                Ok(MetaCommand::PutVhost {
                    name: Arc::clone(&vhost.name),
                    description: description.unwrap_or_default(),
                    tags: said.or_else(|| known.map(|it| it.tags.clone())).unwrap_or_default(),
                    tracing: vhost.tracing.unwrap_or_else(|| known.is_some_and(|it| it.tracing)),
                    default_queue_type: vhost.default_queue_type.clone().or(kind),
                })
            })?;
            self.push("vhost", &vhost.name, command);
        }
        self.flush().await
    }

    async fn users(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        for user in &definitions.users {
            let password = password(user).await?;
            let tags = tags(&user.tags)?;
            let name = Arc::clone(&user.name);
            let new = User { name: Arc::clone(&name), password, tags };
            self.push("user", &name, MetaCommand::PutUser { user: new, keep_password: false });
            if let Some(limits) = &user.limits {
                let command =
                    MetaCommand::SetUserLimits { user: Arc::clone(&name), limits: user_limits(limits) };
                self.push("limits of user", &name, command);
            }
        }
        for permission in &definitions.permissions {
            let patterns = PermissionPatterns {
                configure: pattern(&permission.configure)?,
                write: pattern(&permission.write)?,
                read: pattern(&permission.read)?,
            };
            let command = MetaCommand::SetPermissions {
                user: Arc::clone(&permission.user),
                vhost: Arc::clone(&permission.vhost),
                patterns,
            };
            self.push("permissions of", &permission.user, command);
        }
        for permission in &definitions.topic_permissions {
            let patterns =
                TopicPatterns { write: pattern(&permission.write)?, read: pattern(&permission.read)? };
            let command = MetaCommand::SetTopicPermissions {
                user: Arc::clone(&permission.user),
                vhost: Arc::clone(&permission.vhost),
                exchange: Arc::clone(&permission.exchange),
                patterns,
            };
            self.push("topic permissions of", &permission.user, command);
        }
        for parameter in &definitions.global_parameters {
            let command = MetaCommand::SetGlobalParameter {
                name: Arc::clone(&parameter.name),
                value: parameter.value.to_string(),
            };
            self.push("global parameter", &parameter.name, command);
        }
        self.flush().await
    }

    fn parameters(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        for parameter in &definitions.parameters {
            let vhost = self.vhost_name(parameter.vhost.as_ref())?;
            let command = match &*parameter.component {
                "vhost-limits" => {
                    let limits = parameter.value.as_object().map(vhost_limits).unwrap_or_default();
                    MetaCommand::SetVhostLimits { vhost, limits }
                }
                // RabbitMQ exports operator policies as parameters and refuses to import them.
                "operator_policy" | "policy" => {
                    let mut fields = parameter.value.as_object().cloned().unwrap_or_default();
                    fields.insert("name".to_owned(), Value::from(&*parameter.name));
                    let raw = RawPolicy::deserialize(Value::Object(fields))
                        .map_err(|error| ImportError::Malformed(error.to_string()))?;
                    let operator = &*parameter.component == "operator_policy";
                    MetaCommand::SetPolicy { vhost, operator, policy: policy(&raw)? }
                }
                _ => MetaCommand::SetParameter {
                    vhost,
                    component: Arc::clone(&parameter.component),
                    name: Arc::clone(&parameter.name),
                    value: parameter.value.to_string(),
                },
            };
            self.push("parameter", &parameter.name, command);
        }
        Ok(())
    }

    fn policies(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        for raw in &definitions.policies {
            let vhost = self.vhost_name(raw.vhost.as_ref())?;
            let command = MetaCommand::SetPolicy { vhost, operator: false, policy: policy(raw)? };
            self.push("policy", &raw.name, command);
        }
        Ok(())
    }

    fn exchanges(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        for exchange in &definitions.exchanges {
            let vhost = self.vhost(exchange.vhost.as_ref())?;
            let kind = ExchangeType::from_name(&exchange.kind).ok_or_else(|| {
                ImportError::Malformed(format!(
                    "exchange '{}' has the unknown type '{}'",
                    exchange.name, exchange.kind
                ))
            })?;
            if self.target.look(|sm| sm.exchange_named(vhost, &exchange.name).is_some()) {
                continue;
            }
            let command = MetaCommand::DeclareExchange(DeclareExchange {
                vhost,
                name: Arc::clone(&exchange.name),
                kind,
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: exchange.internal,
                arguments: arguments(&exchange.name, &exchange.arguments)?,
            });
            self.push("exchange", &exchange.name, command);
        }
        Ok(())
    }

    fn queues(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        for queue in &definitions.queues {
            let vhost = self.vhost(queue.vhost.as_ref())?;
            if self.target.look(|sm| sm.queue_named(vhost, &queue.name).is_some()) {
                continue;
            }
            let command = MetaCommand::DeclareQueue(DeclareQueue {
                vhost,
                name: Arc::clone(&queue.name),
                durable: queue.durable,
                auto_delete: queue.auto_delete,
                owner: None,
                arguments: arguments(&queue.name, &queue.arguments)?,
                home: NodeId::FIRST,
                mirrors: Vec::new(),
            });
            self.push("queue", &queue.name, command);
        }
        Ok(())
    }

    fn bindings(&mut self, definitions: &Definitions) -> Result<(), ImportError> {
        for binding in &definitions.bindings {
            let destination = match binding.destination_type.as_str() {
                "queue" => DestinationName::Queue(Arc::clone(&binding.destination)),
                "exchange" => DestinationName::Exchange(Arc::clone(&binding.destination)),
                other => {
                    return Err(ImportError::Malformed(format!("'{other}' is neither queue nor exchange")));
                }
            };
            let command = MetaCommand::Bind(BindingRequest {
                vhost: self.vhost(binding.vhost.as_ref())?,
                source: Arc::clone(&binding.source),
                destination,
                routing_key: binding.routing_key.clone().unwrap_or_else(|| Arc::from("")),
                arguments: arguments(&binding.source, &binding.arguments)?,
                connection: None,
            });
            self.push("binding from", &binding.source, command);
        }
        Ok(())
    }

    fn vhost_name(&self, own: Option<&Arc<str>>) -> Result<Arc<str>, ImportError> {
        match (self.scope, own) {
            (Some(scope), _) => Ok(Arc::from(scope)),
            (None, Some(own)) => Ok(Arc::clone(own)),
            (None, None) => Err(ImportError::NoVhost),
        }
    }

    fn vhost(&mut self, own: Option<&Arc<str>>) -> Result<VhostId, ImportError> {
        let name = self.vhost_name(own)?;
        if let Some(id) = self.vhosts.get(&name) {
            return Ok(*id);
        }
        let id = self.target.look(|sm| sm.vhost_id(&name));
        let id = id.ok_or_else(|| ImportError::NoSuchVhost(name.to_string()))?;
        self.vhosts.insert(name, id);
        Ok(id)
    }
}

fn policy(raw: &RawPolicy) -> Result<Policy, ImportError> {
    let apply_to = match raw.apply_to.as_deref() {
        None => ApplyTo::All,
        Some(word) => ApplyTo::from_name(word).ok_or_else(|| {
            ImportError::Malformed(format!("policy '{}' applies to '{word}', which is unknown", raw.name))
        })?,
    };
    // A definition as text is what rabbitmqctl's list shows.
    let definition = match &raw.definition {
        Value::Object(fields) => fields.clone(),
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        // rabbitmqctl's export of operator policies has pairs: [["max-length", 2]].
        Value::Array(pairs) if pairs.iter().all(|pair| pair[0].is_string() && pair[1] != Value::Null) => {
            let name = |pair: &Value| pair[0].as_str().unwrap_or_default().to_owned();
            pairs.iter().map(|pair| (name(pair), pair[1].clone())).collect()
        }
        _ => {
            return Err(ImportError::Malformed(format!(
                "the definition of policy '{}' is not an object",
                raw.name
            )));
        }
    };
    Ok(Policy {
        name: Arc::clone(&raw.name),
        pattern: pattern(&raw.pattern)?,
        apply_to,
        priority: raw.priority,
        definition: Value::Object(definition).to_string(),
    })
}

fn arguments(of: &str, json: &Value) -> Result<Arc<amqp::table::FieldTable>, ImportError> {
    json::to_table(json).map(Arc::new).map_err(|error| ImportError::Malformed(format!("'{of}': {error}")))
}

fn pattern(text: &Arc<str>) -> Result<Arc<str>, ImportError> {
    Pattern::new(text)
        .map(|_| Arc::clone(text))
        .map_err(|error| ImportError::Malformed(format!("'{text}' is not a regular expression: {error}")))
}

/// A list of tags, or tags with commas between them.
pub(crate) fn tags(json: &Value) -> Result<Vec<String>, ImportError> {
    let not_tags = || ImportError::Malformed("tags are neither a list nor text".to_owned());
    match json {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => {
            Ok(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect())
        }
        Value::Array(tags) => {
            tags.iter().map(|tag| tag.as_str().map(str::to_owned).ok_or_else(not_tags)).collect()
        }
        _ => Err(not_tags()),
    }
}

async fn password(user: &RawUser) -> Result<Option<PasswordHash>, ImportError> {
    let malformed = |why: String| ImportError::Malformed(format!("user '{}': {why}", user.name));
    if let Some(hash) = &user.password_hash {
        if hash.is_empty() {
            return Ok(None);
        }
        let name = user.hashing_algorithm.as_deref().unwrap_or("rabbit_password_hashing_sha256");
        let algorithm = HashAlgorithm::from_name(name)
            .ok_or_else(|| malformed(format!("hashing algorithm '{name}' is not known")))?;
        let stored = PasswordHash { algorithm, hash: hash.clone() };
        if !auth::hash_is_well_formed(&stored) {
            return Err(malformed(format!("password_hash is not a hash of {name}")));
        }
        return Ok(Some(stored));
    }
    let Some(password) = user.password.clone() else { return Ok(None) };
    tokio::task::spawn_blocking(move || auth::hash_password(password.as_bytes()))
        .await
        .map_err(|error| malformed(error.to_string()))?
        .map(Some)
        .map_err(|error| malformed(error.to_string()))
}
