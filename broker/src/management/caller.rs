//! Who asks, and what the tags of a user allow.
//!
//! | tag | may |
//! | --- | --- |
//! | `administrator` | everything |
//! | `monitoring` | see all vhosts, nodes and connections |
//! | `policymaker` | use the API, set policies in the own vhosts |
//! | `management` | use the API for the own vhosts |

use super::Api;
use super::reply::Refusal;
use super::secure::Local;
pub(super) use super::secure::Peer;
use super::session;
use crate::auth::{Credentials, Refusal as LoginRefusal, is_loopback};
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker_core::ids::VhostId;
use broker_core::meta::{Access, MetaSm};
use nix::unistd::gethostname;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

/// Somebody who is logged in and may use the API.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) name: Arc<str>,
    pub(super) tags: Vec<String>,
    /// Came through the control socket: no user, and nothing is refused.
    pub(super) local: bool,
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Caller, Refusal> {
        // Logged in before: on this node, or on the one that asks this one.
        if let Some(caller) = parts.extensions.get::<Caller>() {
            return Ok(caller.clone());
        }
        if parts.extensions.get::<Local>().is_some() && !parts.headers.contains_key(header::AUTHORIZATION) {
            let tags = vec!["administrator".to_owned()];
            return Ok(Caller { name: Arc::from("local administrator"), tags, local: true });
        }
        let peer = parts
            .extensions
            .get::<ConnectInfo<Peer>>()
            .map(|ConnectInfo(peer)| *peer)
            .ok_or_else(|| Refusal::internal("no peer address"))?;
        if let Some(credentials) = basic(parts) {
            return Caller::log_in(api, credentials, peer, &parts.headers).await;
        }
        let name = session::user_of(api, parts).await.ok_or_else(Refusal::login_failed)?;
        Caller::admit(api.node.authenticate_named(&name, source(peer, &parts.headers)), name, peer)
    }
}

impl Caller {
    /// Checks a user name and password, and that the user may use the API.
    pub(super) async fn log_in(
        api: &Api,
        credentials: Credentials,
        peer: Peer,
        headers: &HeaderMap,
    ) -> Result<Caller, Refusal> {
        let name = Arc::from(credentials.user.as_str());
        let tags = api.node.authenticate(credentials, source(peer, headers)).await;
        api.node.counters.login(tags.is_ok());
        Caller::admit(tags, name, peer)
    }

    fn admit(tags: Result<Vec<String>, LoginRefusal>, name: Arc<str>, peer: Peer) -> Result<Caller, Refusal> {
        let peer = peer.address;
        match tags {
            Ok(tags) => {
                let caller = Caller { name, tags, local: false };
                if caller.may_look() {
                    Ok(caller)
                } else {
                    Err(Refusal::not_authorised("Not management user"))
                }
            }
            Err(LoginRefusal::NotLoopback) => {
                tracing::warn!(user = %name, %peer, "login refused: user may connect from localhost only");
                Err(Refusal::not_authorised("User can only log in via localhost"))
            }
            Err(refusal) => {
                tracing::warn!(user = %name, %peer, %refusal, "login to the HTTP API refused");
                Err(Refusal::login_failed())
            }
        }
    }

    /// Takes the tags that the user has now; `None` when there is no such user or it may not use the API any more.
    pub(super) fn renew(&mut self, sm: &MetaSm) -> Option<()> {
        if !self.local {
            self.tags.clone_from(&sm.user(&self.name)?.tags);
        }
        self.may_look().then_some(())
    }

    /// Whether the API is for this user at all.
    fn may_look(&self) -> bool {
        self.has_any(&["management", "policymaker", "monitoring", "administrator"])
    }

    fn has_any(&self, tags: &[&str]) -> bool {
        self.tags.iter().any(|own| tags.contains(&own.as_str()))
    }

    /// Everything is allowed.
    pub(super) fn is_administrator(&self) -> bool {
        self.has_any(&["administrator"])
    }

    /// Sees everything.
    pub(super) fn is_monitor(&self) -> bool {
        self.has_any(&["monitoring", "administrator"])
    }

    /// 401 unless an administrator.
    pub(super) fn administrator(&self) -> Result<(), Refusal> {
        if self.is_administrator() { Ok(()) } else { Err(Refusal::not_authorised("Not administrator user")) }
    }

    /// 401 unless the caller may look at the whole node.
    pub(super) fn monitor(&self) -> Result<(), Refusal> {
        if self.is_monitor() { Ok(()) } else { Err(Refusal::not_authorised("Not monitor user")) }
    }

    /// 401 unless the caller may set policies.
    pub(super) fn policymaker(&self) -> Result<(), Refusal> {
        if self.has_any(&["policymaker", "administrator"]) {
            Ok(())
        } else {
            Err(Refusal::not_authorised("Not policymaker"))
        }
    }

    /// The vhosts whose things are shown to the caller.
    pub(super) fn vhosts_seen(&self, sm: &MetaSm) -> Vec<VhostId> {
        sm.vhosts().map(|state| state.vhost.id).filter(|id| self.sees(sm, *id)).collect()
    }

    /// Whether things of the vhost are shown to the caller.
    pub(super) fn sees(&self, sm: &MetaSm, vhost: VhostId) -> bool {
        self.is_monitor() || self.may_enter(sm, vhost)
    }

    /// Whether the caller could open an AMQP connection to the vhost.
    fn may_enter(&self, sm: &MetaSm, vhost: VhostId) -> bool {
        sm.vhost(vhost).is_some_and(|state| state.permissions_of(&self.name).is_some())
    }

    /// The vhost called `name`: 404 when there is none, 401 when the caller may not see it.
    pub(super) fn vhost(&self, sm: &MetaSm, name: &str) -> Result<VhostId, Refusal> {
        let id = sm.vhost_id(name).ok_or_else(Refusal::missing)?;
        if self.sees(sm, id) {
            Ok(id)
        } else {
            Err(Refusal::not_authorised("User not authorised to access virtual host"))
        }
    }

    /// The same for changing something: seeing is not enough, but administrators may everywhere.
    pub(super) fn own_vhost(&self, sm: &MetaSm, name: &str) -> Result<VhostId, Refusal> {
        let id = sm.vhost_id(name).ok_or_else(Refusal::missing)?;
        if self.is_administrator() || self.may_enter(sm, id) {
            Ok(id)
        } else {
            Err(Refusal::not_authorised("User not authorised to access virtual host"))
        }
    }

    /// The caller's permissions in a vhost, as an AMQP connection would have them.
    pub(super) fn access(&self, api: &Api, vhost: VhostId) -> Access {
        let patterns = Arc::clone(api.node.metadata.patterns());
        let access = Access::new(patterns, Arc::clone(&self.name), vhost);
        if self.local { access.unrestricted() } else { access }
    }
}

/// Where a request counts as coming from. A browser of this host can be made to send requests of any page here: the
/// page's site lets its own name point to this host (DNS rebinding). What was meant for a name that is not this host's
/// counts as coming from elsewhere, for users who may log in from here only.
fn source(peer: Peer, headers: &HeaderMap) -> IpAddr {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let address = peer.address.ip();
    if is_loopback(address) && !names_this_host(host) { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { address }
}

/// Whether a `Host` is an address, or a name that only this host gives itself.
fn names_this_host(host: &str) -> bool {
    static OWN: LazyLock<String> =
        LazyLock::new(|| gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let own = OWN.to_ascii_lowercase();
    name.is_empty()
        || name.parse::<IpAddr>().is_ok()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name == own
        || Some(name.as_str()) == own.split('.').next()
}

/// `Authorization: Basic …`.
fn basic(parts: &Parts) -> Option<Credentials> {
    let text = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|octet| *octet == b':')?;
    let user = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some(Credentials::new(user, &decoded[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_name_for_this_host_makes_a_request_foreign() {
        for host in [
            "",
            "localhost",
            "LOCALHOST:15672",
            "127.0.0.1:15672",
            "[::1]:15672",
            "10.1.2.3",
            "app.localhost",
        ] {
            assert!(names_this_host(host), "{host}");
        }
        for host in [
            "attacker.example",
            "attacker.example:15672",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
        ] {
            assert!(!names_this_host(host), "{host}");
        }
        let own = gethostname().unwrap().into_string().unwrap();
        assert!(names_this_host(&format!("{own}:15672")), "{own}");
    }
}
