//! Logging in by a form, for the web pages: a cookie stands for the login until it is not used any more.
//!
//! The cookie is a random number that only this process knows, out of reach of scripts (`HttpOnly`) and not sent along
//! with requests of other sites (`SameSite=Strict`). A session ends with the user's password, tags or account.
//!
//! In a cluster it counts on every node, because a balancer may choose another one for each request: a node that does
//! not know a cookie asks the others, and believes them for a while.

use super::Api;
use super::caller::{Caller, Peer};
use super::peers::{self, Share};
use super::reply::{Answer, Refusal, json};
use crate::auth::Credentials;
use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Form, FromRequest, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker_core::meta::{MetaSm, PasswordHash};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json as object;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The cookie's name.
const COOKIE: &str = "broker_session";
/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);
/// How long it lasts without being used.
const IDLE: Duration = Duration::from_secs(3600);
/// How long a node believes another one that a session counts.
const BELIEVED: Duration = Duration::from_secs(30);
/// Octets of a cookie, as it is written.
const WRITTEN: usize = 43;
/// Octets of a login.
const MAX_LOGIN: usize = 16 << 10;
/// Sessions at the same time, and those of one user. A new one ends the one that was not used for the longest time: of
/// the same user, so that nobody logs others out by logging in again and again.
const MOST: usize = 1000;
const MOST_OF_A_USER: usize = 64;

/// A login by form.
#[derive(Debug, Deserialize)]
pub(super) struct Login {
    username: String,
    password: String,
}

#[derive(Debug)]
struct Session {
    user: Arc<str>,
    /// What the user's password was at the login.
    password: Option<PasswordHash>,
    began: Instant,
    used: Instant,
    /// Another node says that it counts.
    elsewhere: bool,
}

/// The sessions of this node, by the hash of their cookie.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

impl Sessions {
    /// Begins a session and returns its cookie.
    fn begin(&self, user: Arc<str>, password: Option<PasswordHash>, now: Instant) -> String {
        let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let session = Session { user, password, began: now, used: now, elsewhere: false };
        self.keep(&cookie, session, now);
        cookie
    }

    fn keep(&self, cookie: &str, session: Session, now: Instant) {
        let user = &session.user;
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.lasts(now));
        let own = |session: &Session| session.user == *user;
        if sessions.values().filter(|session| own(session)).count() >= MOST_OF_A_USER {
            remove_oldest(&mut sessions, own);
        } else if sessions.len() >= MOST {
            remove_oldest(&mut sessions, |_| true);
        }
        sessions.insert(key(cookie), session);
    }

    /// The user of a session, if it still counts.
    fn user(&self, cookie: &str, sm: &MetaSm, now: Instant) -> Option<Arc<str>> {
        let mut sessions = self.0.lock();
        let key = key(cookie);
        let session = sessions.get_mut(&key)?;
        let same = sm.user(&session.user).is_some_and(|user| user.password == session.password);
        if !same || !session.lasts(now) {
            sessions.remove(&key);
            return None;
        }
        session.used = now;
        Some(Arc::clone(&session.user))
    }

    fn end(&self, cookie: &str) {
        self.0.lock().remove(&key(cookie));
    }
}

/// Ends, of the sessions that are meant, the one that was not used for the longest time.
fn remove_oldest(sessions: &mut HashMap<[u8; 32], Session>, meant: impl Fn(&Session) -> bool) {
    let candidates = sessions.iter().filter(|(_, session)| meant(session));
    if let Some(oldest) = candidates.min_by_key(|(_, session)| session.used).map(|(key, _)| *key) {
        sessions.remove(&oldest);
    }
}

impl Session {
    fn lasts(&self, now: Instant) -> bool {
        if self.elsewhere {
            return now.duration_since(self.began) < BELIEVED;
        }
        now.duration_since(self.began) < LIFETIME && now.duration_since(self.used) < IDLE
    }
}

/// Looking a cookie up by its hash tells nobody by time how much of it was right.
fn key(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

/// The user that a request's cookie stands for.
pub(super) async fn user_of(api: &Api, parts: &Parts) -> Option<Arc<str>> {
    let cookie = cookie(&parts.headers)?;
    let known = api.sessions.user(cookie, &api.node.metadata.read(), Instant::now());
    // Another node that asks wants to know of our own.
    if known.is_some() || parts.extensions.get::<Share>().is_some() || !is_written_well(cookie) {
        return known;
    }
    let user: Arc<str> = peers::session_user(api, cookie).await?.into();
    let password = api.node.metadata.read().user(&user)?.password.clone();
    let now = Instant::now();
    let session = Session { user: Arc::clone(&user), password, began: now, used: now, elsewhere: true };
    api.sessions.keep(cookie, session, now);
    Some(user)
}

fn is_written_well(cookie: &str) -> bool {
    cookie.len() == WRITTEN && cookie.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
}

/// How a client sends its cookie.
pub(super) fn written(cookie: &str) -> String {
    format!("{COOKIE}={cookie}")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// `POST /api/login`. Anybody can send one: no more is read than a login needs.
pub(super) async fn login(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.clone();
    let body = to_bytes(body, MAX_LOGIN).await.map_err(|_| Refusal::bad_request("the login is too long"))?;
    let form = Form::from_request(Request::from_parts(parts, Body::from(body)), &()).await;
    let Form(Login { username, password }) =
        form.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    let credentials = Credentials::new(username, password.as_bytes());
    let caller =
        Caller::log_in(&api, credentials, peer, &headers).await.map_err(Refusal::without_challenge)?;
    let password = api.node.metadata.read().user(&caller.name).and_then(|user| user.password.clone());
    let cookie = api.sessions.begin(Arc::clone(&caller.name), password, Instant::now());
    let mut response = json(&object!({"name": &*caller.name, "tags": caller.tags}))?;
    set_cookie(&mut response, &cookie, LIFETIME, peer)?;
    Ok(response)
}

/// `POST /api/logout`
pub(super) async fn logout(
    State(api): State<Arc<Api>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    share: Option<Extension<Share>>,
    headers: HeaderMap,
) -> Answer {
    if let Some(cookie) = cookie(&headers) {
        api.sessions.end(cookie);
        if share.is_none() && is_written_well(cookie) {
            peers::end_session(&api, cookie).await;
        }
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, "", Duration::ZERO, peer)?;
    Ok(response)
}

fn set_cookie(
    response: &mut axum::response::Response,
    cookie: &str,
    lasts: Duration,
    peer: Peer,
) -> Result<(), Refusal> {
    let secure = if peer.tls { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}", lasts.as_secs());
    let value = HeaderValue::from_str(&text).map_err(|_| Refusal::internal("the cookie is no header"))?;
    response.headers_mut().insert(header::SET_COOKIE, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_core::meta::{HashAlgorithm, MetaCommand, User};

    fn set_password(sm: &mut MetaSm, index: u64, hash: &str) {
        let password = PasswordHash { algorithm: HashAlgorithm::Sha256, hash: hash.to_owned() };
        let user = User { name: "ann".into(), password: Some(password), tags: Vec::new() };
        sm.apply(index, &MetaCommand::PutUser { user, keep_password: false }).unwrap();
    }

    #[test]
    fn a_session_ends_by_time_by_disuse_by_logout_and_with_the_password() {
        let (sessions, now, mut sm) = (Sessions::default(), Instant::now(), MetaSm::new());
        set_password(&mut sm, 1, "one");
        let begin = |sm: &MetaSm| {
            let password = sm.user("ann").unwrap().password.clone();
            sessions.begin("ann".into(), password, now)
        };
        let at = |minutes: u64| now + Duration::from_secs(60 * minutes);
        let used = begin(&sm);
        for minutes in (50..480).step_by(50) {
            assert_eq!(sessions.user(&used, &sm, at(minutes)).as_deref(), Some("ann"), "{minutes}");
        }
        assert_eq!(sessions.user(&used, &sm, at(481)), None);
        let unused = begin(&sm);
        assert_eq!(sessions.user(&unused, &sm, at(61)), None);
        assert_eq!(sessions.user(&unused, &sm, at(1)), None, "what has ended stays so");
        let left = begin(&sm);
        sessions.end(&left);
        assert_eq!(sessions.user(&left, &sm, now), None);
        let changed = begin(&sm);
        set_password(&mut sm, 2, "two");
        assert_eq!(sessions.user(&changed, &sm, now), None);
        assert_eq!(sessions.user("", &sm, now), None);
    }

    #[test]
    fn another_node_is_believed_for_a_moment() {
        let (sessions, now, mut sm) = (Sessions::default(), Instant::now(), MetaSm::new());
        set_password(&mut sm, 1, "one");
        let password = sm.user("ann").unwrap().password.clone();
        let session = Session { user: "ann".into(), password, began: now, used: now, elsewhere: true };
        sessions.keep("cookie", session, now);
        assert!(sessions.user("cookie", &sm, now + BELIEVED / 2).is_some());
        assert!(sessions.user("cookie", &sm, now + BELIEVED).is_none(), "however much it is used");
        let cookie = sessions.begin("ann".into(), None, now);
        assert!(is_written_well(&cookie));
        assert!(!is_written_well(&cookie.replace(|_| true, ";")) && !is_written_well(&cookie[1..]));
    }

    #[test]
    fn sessions_are_bounded_and_the_least_used_one_goes() {
        let (sessions, now, mut sm) = (Sessions::default(), Instant::now(), MetaSm::new());
        set_password(&mut sm, 1, "one");
        let password = sm.user("ann").unwrap().password.clone();
        let begin = |user: &str, second: u64| {
            sessions.begin(user.into(), password.clone(), now + Duration::from_secs(second))
        };
        let (first, second) = (begin("ann", 0), begin("ann", 1));
        assert!(sessions.user(&first, &sm, now + Duration::from_secs(5)).is_some());
        for at in 2..=MOST {
            begin(&format!("user{at}"), 10);
        }
        assert!(sessions.user(&second, &sm, now).is_none());
        assert!(sessions.user(&first, &sm, now + Duration::from_secs(5)).is_some());
        assert_eq!(sessions.0.lock().len(), MOST);
    }

    #[test]
    fn a_user_who_logs_in_again_and_again_ends_own_sessions_only() {
        let (sessions, now, mut sm) = (Sessions::default(), Instant::now(), MetaSm::new());
        set_password(&mut sm, 1, "one");
        let password = sm.user("ann").unwrap().password.clone();
        let begin = |user: &str, second: u64| {
            sessions.begin(user.into(), password.clone(), now + Duration::from_secs(second))
        };
        let (quiet, oldest, next) = (begin("ann", 0), begin("bob", 1), begin("bob", 2));
        for second in 3..=MOST_OF_A_USER as u64 + 1 {
            begin("bob", second);
        }
        assert_eq!(sessions.0.lock().len(), 1 + MOST_OF_A_USER);
        assert!(sessions.user(&quiet, &sm, now).is_some());
        let lives = |cookie: &str| sessions.0.lock().contains_key(&key(cookie));
        assert!(!lives(&oldest));
        assert!(lives(&next));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("m=34e2:|; theme=dark"));
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; broker_session=xyz ; c=d"));
        assert_eq!(cookie(&headers), Some("xyz"));
        headers.remove(header::COOKIE);
        headers.append(header::COOKIE, HeaderValue::from_static("broker_sessions=xyz"));
        assert_eq!(cookie(&headers), None);
    }
}
