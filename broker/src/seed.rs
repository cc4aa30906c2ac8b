//! What a node has from its start: on a new data directory a vhost and a user, on every start the users and
//! vhosts of the configuration that are missing.

use crate::auth::hash_password;
use crate::config::{Config, ConfiguredPassword, ConfiguredUser};
use crate::node::Node;
use broker_core::meta::{MetaCommand, MetaError, PermissionPatterns, User};
use std::sync::Arc;

/// Adds what is missing.
///
/// # Errors
/// A text for the person who started the node.
pub(crate) async fn seed(node: &Node, config: &Config) -> Result<(), String> {
    if node.metadata.is_empty() {
        let default = &config.default_user;
        add_vhost(node, &default.vhost, "Default virtual host").await?;
        let everything: Arc<str> = Arc::from(".*");
        let patterns =
            PermissionPatterns { configure: Arc::clone(&everything), write: Arc::clone(&everything), read: everything };
        let user = ConfiguredUser {
            name: default.name.clone(),
            password: ConfiguredPassword::Clear(default.password.clone()),
            tags: vec!["administrator".to_owned()],
            permissions: vec![(default.vhost.clone(), patterns)],
        };
        add_user(node, &user).await?;
    }
    for (name, description) in &config.vhosts {
        if node.metadata.read().vhost_id(name).is_none() {
            add_vhost(node, name, description).await?;
        }
    }
    for user in &config.users {
        if node.metadata.read().user(&user.name).is_none() {
            add_user(node, user).await?;
        }
    }
    Ok(())
}

async fn add_vhost(node: &Node, name: &str, description: &str) -> Result<(), String> {
    let command = MetaCommand::PutVhost {
        name: Arc::from(name),
        description: description.to_owned(),
        tags: Vec::new(),
        tracing: false,
        default_queue_type: None,
    };
    propose(node, command).await
}

async fn add_user(node: &Node, user: &ConfiguredUser) -> Result<(), String> {
    let name: Arc<str> = Arc::from(user.name.as_str());
    let password = match user.password.clone() {
        ConfiguredPassword::Clear(password) => {
            let hashed = tokio::task::spawn_blocking(move || hash_password(password.as_bytes()));
            Some(hashed.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?)
        }
        ConfiguredPassword::Hashed(hash) => Some(hash),
        ConfiguredPassword::None => None,
    };
    let added = User { name: Arc::clone(&name), password, tags: user.tags.clone() };
    propose(node, MetaCommand::AddUser { user: added }).await?;
    for (vhost, patterns) in &user.permissions {
        let (user, vhost) = (Arc::clone(&name), Arc::from(vhost.as_str()));
        propose(node, MetaCommand::SetPermissions { user, vhost, patterns: patterns.clone() }).await?;
    }
    Ok(())
}

async fn propose(node: &Node, command: MetaCommand) -> Result<(), String> {
    node.metadata.propose(command).await.map(|_| ()).map_err(|error: MetaError| error.to_string())
}
