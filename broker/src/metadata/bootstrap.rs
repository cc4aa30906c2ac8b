//! What a new data directory gets, and what the configuration asks for at every start.

use super::Metadata;
use super::definitions::{self, ImportError};
use crate::auth;
use crate::config::{Config, ConfiguredPassword, ConfiguredUser};
use broker_core::meta::{MetaCommand, MetaError, PasswordHash, User};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a node could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    /// A command was refused or could not be made durable.
    #[error("cannot set up the node: {0}")]
    Meta(#[from] MetaError),
    /// A password could not be hashed.
    #[error("cannot hash a password: {0}")]
    Hash(String),
    /// The definitions file can not be read.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: String,
    },
    /// The definitions file has mistakes.
    #[error("cannot import {path}: {error}")]
    Import {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: ImportError,
    },
}

/// Makes the default vhost and user, or imports the configured definitions, when nothing was ever
/// stored; then adds the configured vhosts and users that are missing. Says whether it was new.
///
/// As with RabbitMQ, definitions that bring users or vhosts take the place of the defaults.
pub(crate) async fn bootstrap(metadata: &Metadata, config: &Config) -> Result<bool, BootstrapError> {
    let new = metadata.is_empty();
    if let Some(path) = config.definitions.as_ref().filter(|_| new || config.definitions_at_every_start) {
        import_file(metadata, path).await?;
    }
    if new {
        add_defaults(metadata, config).await?;
    }
    for (name, description) in &config.vhosts {
        if metadata.read().vhost_id(name).is_none() {
            metadata.propose(vhost(name, description)).await?;
        }
    }
    for user in &config.users {
        add_user(metadata, user).await?;
    }
    Ok(new)
}

async fn add_defaults(metadata: &Metadata, config: &Config) -> Result<(), BootstrapError> {
    let default = &config.default_user;
    if metadata.read().vhosts().next().is_none() {
        metadata.propose(vhost(&default.vhost, "Default virtual host")).await?;
    }
    if metadata.read().users().next().is_none() {
        let user = User {
            name: Arc::from(default.name.as_str()),
            password: Some(hash(default.password.clone()).await?),
            tags: default.tags.clone(),
        };
        metadata.propose(MetaCommand::AddUser { user }).await?;
        metadata
            .propose(MetaCommand::SetPermissions {
                user: Arc::from(default.name.as_str()),
                vhost: Arc::from(default.vhost.as_str()),
                patterns: default.permissions.clone(),
            })
            .await?;
    }
    Ok(())
}

async fn add_user(metadata: &Metadata, configured: &ConfiguredUser) -> Result<(), BootstrapError> {
    if metadata.read().user(&configured.name).is_some() {
        return Ok(());
    }
    let name: Arc<str> = Arc::from(configured.name.as_str());
    let password = match &configured.password {
        ConfiguredPassword::Clear(password) => Some(hash(password.clone()).await?),
        ConfiguredPassword::Hashed(hash) => Some(hash.clone()),
        ConfiguredPassword::None => None,
    };
    let user = User { name: Arc::clone(&name), password, tags: configured.tags.clone() };
    metadata.propose(MetaCommand::AddUser { user }).await?;
    for (vhost, patterns) in &configured.permissions {
        let command = MetaCommand::SetPermissions {
            user: Arc::clone(&name),
            vhost: Arc::from(vhost.as_str()),
            patterns: patterns.clone(),
        };
        metadata.propose(command).await?;
    }
    Ok(())
}

async fn import_file(metadata: &Metadata, path: &Path) -> Result<(), BootstrapError> {
    let unreadable = |error: String| BootstrapError::Unreadable { path: path.to_owned(), error };
    let octets = tokio::task::spawn_blocking({
        let path = path.to_owned();
        move || std::fs::read(path)
    })
    .await
    .map_err(|error| unreadable(error.to_string()))?
    .map_err(|error| unreadable(error.to_string()))?;
    let json = serde_json::from_slice(&octets).map_err(|error| unreadable(error.to_string()))?;
    let report = definitions::import(metadata, &json, None)
        .await
        .map_err(|error| BootstrapError::Import { path: path.to_owned(), error })?;
    tracing::info!(file = %path.display(), %report, "definitions imported");
    Ok(())
}

async fn hash(password: String) -> Result<PasswordHash, BootstrapError> {
    tokio::task::spawn_blocking(move || auth::hash_password(password.as_bytes()))
        .await
        .map_err(|error| BootstrapError::Hash(error.to_string()))?
        .map_err(|error| BootstrapError::Hash(error.to_string()))
}

fn vhost(name: &str, description: &str) -> MetaCommand {
    MetaCommand::PutVhost {
        name: Arc::from(name),
        description: description.to_owned(),
        tags: Vec::new(),
        tracing: false,
        default_queue_type: None,
    }
}
