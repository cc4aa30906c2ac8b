//! What is asked for: by whom, about which vhost, user or thing, and how the answer is to be shown.
//!
//! One handler answers for all vhosts, for one vhost and for one user: which of them it is about is in the path.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::rates::{Looking, Windows};
use super::reply::Refusal;
use crate::connection::info::ConnectionInfo;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use broker_core::ids::VhostId;
use broker_core::meta::MetaSm;
use broker_core::meta::policy::PolicyBook;
use std::collections::HashMap;
use std::sync::Arc;

/// A question about things of a kind.
pub(super) struct Asked {
    pub(super) api: Arc<Api>,
    pub(super) caller: Caller,
    pub(super) query: ListQuery,
    pub(super) windows: Windows,
    /// The parts of the path, by the names that they have in the table of paths.
    parts: HashMap<String, String>,
}

impl FromRequestParts<Arc<Api>> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Asked, Refusal> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let Query(query) = Query::try_from_uri(&parts.uri)
            .map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
        let Query(windows) = Query::try_from_uri(&parts.uri)
            .map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
        let Path(named) = Path::from_request_parts(parts, api)
            .await
            .map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
        Ok(Asked { api: Arc::clone(api), caller, query, windows, parts: named })
    }
}

/// What an answer is written from, while nothing changes.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) api: &'a Api,
    pub(super) sm: &'a MetaSm,
    pub(super) book: &'a PolicyBook,
    pub(super) rates: &'a Looking<'a>,
    pub(super) windows: &'a Windows,
}

impl Asked {
    /// A part of the path; empty if this path has none of that name.
    pub(super) fn part(&self, name: &str) -> &str {
        self.parts.get(name).map_or("", String::as_str)
    }

    /// The vhost in the path: 404 when there is none, 401 when the caller may not see it.
    pub(super) fn vhost(&self, sm: &MetaSm) -> Result<VhostId, Refusal> {
        self.caller.vhost(sm, self.part("vhost"))
    }

    /// The vhost in the path, or without one all that the caller sees.
    pub(super) fn vhosts(&self, sm: &MetaSm) -> Result<Vec<VhostId>, Refusal> {
        if self.parts.contains_key("vhost") {
            Ok(vec![self.vhost(sm)?])
        } else {
            Ok(self.caller.vhosts_seen(sm))
        }
    }

    /// The connections that the caller sees: those to the vhost or of the user in the path, or without one all.
    pub(super) fn connections(&self) -> Result<Vec<Arc<ConnectionInfo>>, Refusal> {
        let (vhost, user) = (self.parts.get("vhost"), self.parts.get("user"));
        if vhost.is_some() {
            self.vhost(&self.api.node.metadata.read())?;
        }
        if user.is_some_and(|user| !self.caller.is_monitor() && **user != *self.caller.name) {
            return Err(Refusal::not_authorised("User not authorised to access object"));
        }
        let wanted = |info: &Arc<ConnectionInfo>| {
            super::connections::shows(&self.caller, info)
                && vhost.is_none_or(|vhost| *info.vhost() == **vhost)
                && user.is_none_or(|user| *info.user() == **user)
        };
        Ok(self.api.node.connections.list().into_iter().filter(wanted).collect())
    }

    /// Looks at the metadata and the samples together.
    pub(super) fn look<R>(&self, look: impl FnOnce(View<'_>) -> R) -> R {
        let (api, windows) = (&*self.api, &self.windows);
        api.node
            .metadata
            .with_policies(|sm, book| api.rates.look(|rates| look(View { api, sm, book, rates, windows })))
    }
}
