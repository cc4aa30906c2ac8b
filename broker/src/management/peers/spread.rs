//! Which nodes a request concerns, and asking them.

use super::super::caller::Caller;
use super::super::health::ALIVENESS_QUEUE;
use super::super::listing::ListQuery;
use super::super::reply::Refusal;
use super::super::{Api, MAX_BODY};
use super::{Ask, Peers, REASON, Share, Told, merge};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use broker_core::ids::NodeId;
use broker_core::meta::{Member, NodeState, Role};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// How long a node may take to tell what it has; after that the answer goes without it.
const LOOK: Duration = Duration::from_secs(3);
/// How long it may take to do something.
const WORK: Duration = Duration::from_secs(60);

/// Whom a request concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// This node knows, or the metadata, which all have.
    Here,
    /// Every node has a part of the list.
    List,
    /// As [`Reach::List`], with those members that do not answer.
    Nodes,
    /// Every node has a part of the numbers.
    Sums,
    /// Every node has a part of the numbers of everything in the list.
    SumsOfList,
    /// All nodes' alarms.
    Alarms,
    /// Whoever runs the queue.
    Leader,
    /// Whoever runs the queue of the aliveness test.
    Aliveness,
    /// The node that this part of the path names.
    Node(&'static str),
    /// Whoever has it: one does.
    Whoever,
    /// All of them do it.
    Everyone,
}

impl Reach {
    fn of(method: &Method, path: &str) -> Reach {
        let look = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/api/queues"
            | "/api/queues/detailed"
            | "/api/queues/{vhost}"
            | "/api/connections"
            | "/api/channels"
            | "/api/consumers"
            | "/api/consumers/{vhost}"
            | "/api/vhosts/{vhost}/connections"
            | "/api/vhosts/{vhost}/channels" => Reach::List,
            "/api/connections/username/{user}" if look => Reach::List,
            "/api/connections/username/{user}" => Reach::Everyone,
            "/api/nodes" => Reach::Nodes,
            "/api/nodes/{name}" | "/api/nodes/{name}/memory" => Reach::Node("name"),
            "/api/auth/attempts/{node}"
            | "/api/vhosts/{vhost}/start/{node}"
            | "/api/reset/{node}"
            | "/api/healthchecks/node/{node}" => Reach::Node("node"),
            "/api/overview" => Reach::Sums,
            "/api/vhosts/{vhost}" | "/api/exchanges/{vhost}/{name}" if look => Reach::Sums,
            "/api/vhosts" | "/api/exchanges" | "/api/exchanges/{vhost}" => Reach::SumsOfList,
            "/api/health/checks/alarms" => Reach::Alarms,
            "/api/aliveness-test/{vhost}" => Reach::Aliveness,
            "/api/reset" => Reach::Everyone,
            "/api/connections/{name}" | "/api/connections/{name}/channels" | "/api/channels/{name}" => {
                Reach::Whoever
            }
            "/api/queues/{vhost}/{name}" if *method != Method::PUT => Reach::Leader,
            "/api/queues/{vhost}/{name}/contents"
            | "/api/queues/{vhost}/{name}/get"
            | "/api/queues/{vhost}/{name}/peek"
            | "/api/queues/{vhost}/{name}/move"
            | "/api/queues/{vhost}/{name}/requeue"
            | "/api/queues/{vhost}/{name}/pause"
            | "/api/queues/{vhost}/{name}/actions" => Reach::Leader,
            _ => Reach::Here,
        }
    }
}

/// Answers a request together with the other nodes, if it concerns them.
pub(in super::super) async fn spread(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let Some(peers) = api.peers.get().filter(|peers| !peers.is_alone()) else {
        return next.run(request).await;
    };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let reach = path.map_or(Reach::Here, |path| Reach::of(request.method(), &path));
    if reach == Reach::Here {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let caller = match Caller::from_request_parts(&mut parts, &api).await {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    // Whoever answers need not log in again.
    parts.extensions.insert(caller.clone());
    if parts.method == Method::HEAD {
        // What is put together has a body; it is left out in the end.
        parts.method = Method::GET;
    }
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let spreading = Spreading { api: &api, peers: Arc::clone(peers), caller, parts, body };
    match spreading.answer(reach, next).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

struct Spreading<'a> {
    api: &'a Arc<Api>,
    peers: Arc<dyn Peers>,
    caller: Caller,
    parts: Parts,
    body: Bytes,
}

impl Spreading<'_> {
    async fn answer(self, reach: Reach, next: Next) -> Result<Response, Refusal> {
        match reach {
            Reach::Here => Ok(self.here(next).await),
            Reach::List | Reach::Nodes => self.list(reach == Reach::Nodes, next).await,
            Reach::Sums => self.sums(next).await,
            Reach::SumsOfList => self.sums_of_list(next).await,
            Reach::Alarms => self.alarms(next).await,
            Reach::Leader => self.leader(None, next).await,
            Reach::Aliveness => self.leader(Some(ALIVENESS_QUEUE), next).await,
            Reach::Node(name) => self.node(name, next).await,
            Reach::Whoever => self.whoever(next).await,
            Reach::Everyone => self.everyone(next).await,
        }
    }

    /// The request as it came, answered by this node.
    async fn here(self, next: Next) -> Response {
        next.run(Request::from_parts(self.parts, Body::from(self.body))).await
    }

    async fn list(self, nodes: bool, next: Next) -> Result<Response, Refusal> {
        let raw = self.parts.uri.query().unwrap_or_default();
        let Ok(Query(query)) = Query::<ListQuery>::try_from_uri(&self.parts.uri) else {
            return Ok(self.here(next).await);
        };
        let each = merge::query_of_each(&query, raw)?;
        let uri = format!("{}?{each}", self.parts.uri.path());
        let asked = self.ask_all(&uri, LOOK);
        let mut lists = Vec::new();
        let mut silent = Vec::new();
        for (node, told) in asked {
            match told.await {
                Ok(Ok(told)) if told.is_ok() => lists.push((node, told.body)),
                Ok(Ok(told)) if told.is_too_long() => return Ok(told.into_response()),
                _ => silent.push(node),
            }
        }
        let mut missing = Vec::new();
        if nodes {
            let here = self.peers.me();
            let sm = self.api.node.metadata.read();
            let answered = |id: NodeId| id == here || lists.iter().any(|(node, _)| *node == id);
            missing.extend(sm.members().filter(|member| !answered(member.id)).map(absent));
        }
        let share = Share { me: self.peers.me(), rest: true, silent };
        let own = self.own(&uri, share, next).await;
        if own.status() != StatusCode::OK {
            return Ok(own);
        }
        let mut all = vec![octets(own).await?];
        all.extend(lists.into_iter().map(|(_, list)| list));
        if !missing.is_empty() {
            let uri: Uri = uri.parse().map_err(|_| Refusal::bad_request("bad query"))?;
            let Query(query) =
                Query::<ListQuery>::try_from_uri(&uri).map_err(|_| Refusal::bad_request("bad query"))?;
            all.push(octets(query.answer(missing)?).await?);
        }
        merge::lists(&query, &all, nodes)
    }

    async fn sums(self, next: Next) -> Result<Response, Refusal> {
        let query = Query::<ListQuery>::try_from_uri(&self.parts.uri);
        if query.is_ok_and(|Query(query)| !merge::wants_sums(&query)) {
            return Ok(self.here(next).await);
        }
        let uri = self.parts.uri.to_string();
        match self.summed(&uri, &uri, next).await? {
            Ok(sum) => super::super::reply::json(&sum),
            Err(own) => Ok(own),
        }
    }

    async fn sums_of_list(self, next: Next) -> Result<Response, Refusal> {
        let Ok(Query(query)) = Query::<ListQuery>::try_from_uri(&self.parts.uri) else {
            return Ok(self.here(next).await);
        };
        if !merge::wants_sums(&query) {
            return Ok(self.here(next).await);
        }
        let raw = self.parts.uri.query().unwrap_or_default();
        let (path, windows) = (self.parts.uri.path(), merge::without_list_query(raw));
        let own = format!("{path}?{windows}");
        let others = format!("{own}&columns={}", merge::SUMMED_COLUMNS);
        match self.summed(&own, &others, next).await? {
            Ok(Value::Array(rows)) => query.answer(rows),
            Ok(_) => Err(Refusal::internal("no list")),
            Err(own) => Ok(own),
        }
    }

    /// This node's answer with the other nodes' numbers, or as it is if it is a refusal.
    async fn summed(self, own: &str, others: &str, next: Next) -> Result<Result<Value, Response>, Refusal> {
        let asked = self.ask_all(others, LOOK);
        let share = Share { me: self.peers.me(), rest: true, silent: Vec::new() };
        let own = self.own(own, share, next).await;
        if own.status() != StatusCode::OK {
            return Ok(Err(own));
        }
        let others = numbers(asked).await;
        let own = octets(own).await?;
        let mut sum: Value = serde_json::from_slice(&own).map_err(|_| Refusal::internal("no JSON"))?;
        merge::sums(&mut sum, &others);
        Ok(Ok(sum))
    }

    async fn alarms(self, next: Next) -> Result<Response, Refusal> {
        let asked = self.ask_all(&self.parts.uri.to_string(), LOOK);
        let own = self.here(next).await;
        let mut refusals = Vec::new();
        if own.status() == StatusCode::SERVICE_UNAVAILABLE {
            refusals.push(octets(own).await?);
        } else if own.status() != StatusCode::OK {
            return Ok(own);
        }
        for (_, told) in asked {
            if let Ok(Ok(told)) = told.await
                && told.status == StatusCode::SERVICE_UNAVAILABLE.as_u16()
            {
                refusals.push(told.body);
            }
        }
        match merge::alarms(&refusals) {
            Some(all) => Err(Refusal::unhealthy(all)),
            None => super::super::reply::json(&json!({"status": "ok"})),
        }
    }

    /// Asks whoever runs the queue that the path names, or of this `name` in its vhost.
    async fn leader(mut self, name: Option<&str>, next: Next) -> Result<Response, Refusal> {
        let path = self.path().await;
        let leader = {
            let sm = self.api.node.metadata.read();
            let part = |name: &str| path.get(name).map(String::as_str).unwrap_or_default();
            let vhost = sm.vhost_id(part("vhost"));
            let name = name.unwrap_or(part("name"));
            let queue = vhost.and_then(|vhost| sm.queue_named(vhost, name));
            queue.and_then(|queue| queue.placement.leader).filter(|leader| *leader != self.peers.me())
        };
        let Some(leader) = leader else { return Ok(self.here(next).await) };
        let patience = if self.parts.method == Method::GET { LOOK } else { WORK };
        match self.ask(leader, &self.parts.uri.to_string(), patience).await {
            Ok(Ok(told)) => Ok(told.into_response()),
            // What the metadata says is shown, and a queue deleted, without the node that runs it; everything else
            // is refused, because the queue does not run here.
            _ => Ok(self.here(next).await),
        }
    }

    async fn node(mut self, part: &str, next: Next) -> Result<Response, Refusal> {
        let path = self.path().await;
        let member = {
            let sm = self.api.node.metadata.read();
            path.get(part).and_then(|name| sm.member_named(name)).cloned()
        };
        let Some(member) = member.filter(|member| member.id != self.peers.me()) else {
            return Ok(self.here(next).await);
        };
        if member.role == Role::Witness {
            if part == "node" {
                return self.witness(&member);
            }
            self.caller.monitor()?;
        } else {
            match self.ask(member.id, &self.parts.uri.to_string(), LOOK).await {
                Ok(Ok(told)) => return Ok(told.into_response()),
                Ok(Err(error)) if part == "node" => return Err(Refusal::unavailable(error)),
                Err(error) => return Err(Refusal::internal(&error.to_string())),
                Ok(Err(_)) => self.caller.monitor()?,
            }
        }
        if self.parts.uri.path().ends_with("/memory") {
            return super::super::reply::json(&json!({"memory": "not_available"}));
        }
        let Ok(Query(query)) = Query::<ListQuery>::try_from_uri(&self.parts.uri) else {
            return Err(Refusal::bad_request("bad query"));
        };
        merge::object(query.columns().as_ref(), &absent(&member))
    }

    /// What is asked of a witness, which has no API: whether it runs is known here, and it has nothing else.
    fn witness(&self, member: &Member) -> Result<Response, Refusal> {
        if !self.parts.uri.path().starts_with("/api/healthchecks/") {
            return Err(Refusal::missing());
        }
        if member.serves() {
            return super::super::reply::json(&json!({"status": "ok"}));
        }
        Err(Refusal::unavailable(format!("the witness {} does not run", member.name)))
    }

    async fn whoever(self, next: Next) -> Result<Response, Refusal> {
        let uri = self.parts.uri.to_string();
        let others = Asking { template: self.template(&uri), peers: Arc::clone(&self.peers) };
        let members = self.others();
        let own = self.here(next).await;
        if own.status() != StatusCode::NOT_FOUND {
            return Ok(own);
        }
        let asked: Vec<_> = members.into_iter().map(|node| others.ask(node, LOOK)).collect();
        for told in asked {
            if let Ok(Ok(told)) = told.await
                && told.status != StatusCode::NOT_FOUND.as_u16()
            {
                return Ok(told.into_response());
            }
        }
        Ok(own)
    }

    async fn everyone(self, next: Next) -> Result<Response, Refusal> {
        let asked = self.ask_all(&self.parts.uri.to_string(), WORK);
        let own = self.here(next).await;
        for (node, told) in asked {
            if !matches!(told.await, Ok(Ok(told)) if told.is_ok()) {
                tracing::warn!(%node, "a node did not do what was asked of all");
            }
        }
        Ok(own)
    }

    /// This node's share of what all nodes are asked.
    async fn own(self, uri: &str, share: Share, next: Next) -> Response {
        let Spreading { mut parts, body, .. } = self;
        if let Ok(uri) = uri.parse() {
            parts.uri = uri;
        }
        parts.extensions.insert(share);
        next.run(Request::from_parts(parts, Body::from(body))).await
    }

    /// The parts of the path by name.
    async fn path(&mut self) -> HashMap<String, String> {
        Path::from_request_parts(&mut self.parts, &()).await.map(|Path(parts)| parts).unwrap_or_default()
    }

    /// The other members that can be asked.
    fn others(&self) -> Vec<NodeId> {
        others(self.api, &*self.peers)
    }

    /// Asks all of them at once.
    fn ask_all(&self, uri: &str, patience: Duration) -> Vec<(NodeId, Asked)> {
        let asking = Asking { template: self.template(uri), peers: Arc::clone(&self.peers) };
        self.others().into_iter().map(|node| (node, asking.ask(node, patience))).collect()
    }

    fn ask(&self, node: NodeId, uri: &str, patience: Duration) -> Asked {
        Asking { template: self.template(uri), peers: Arc::clone(&self.peers) }.ask(node, patience)
    }

    fn template(&self, uri: &str) -> Ask {
        Ask {
            method: self.parts.method.as_str().to_owned(),
            uri: uri.to_owned(),
            reason: self.parts.headers.get(REASON).map(|reason| reason.as_bytes().to_vec()),
            body: self.body.to_vec(),
            ..Ask::get(uri, &self.caller)
        }
    }
}

/// An answer that is waited for.
type Asked = JoinHandle<Result<Told, String>>;

/// A question, and how it is sent.
struct Asking {
    template: Ask,
    peers: Arc<dyn Peers>,
}

impl Asking {
    fn ask(&self, node: NodeId, patience: Duration) -> Asked {
        let (peers, ask) = (Arc::clone(&self.peers), self.template.encode());
        tokio::spawn(async move { Told::decode(&peers.ask(node, ask?, patience).await?) })
    }
}

/// Every other member that has an API and is not known to be down.
fn others(api: &Api, peers: &dyn Peers) -> Vec<NodeId> {
    let me = peers.me();
    let sm = api.node.metadata.read();
    let asked = |member: &&Member| member.serves() && member.role == Role::Broker && member.id != me;
    sm.members().filter(asked).map(|member| member.id).collect()
}

/// Adds to the overview, as `caller` sees it here, what it sees on the other nodes.
pub(in super::super) async fn add_overviews(api: &Api, caller: &Caller, own: Vec<u8>) -> Vec<u8> {
    let Some(peers) = api.peers.get().filter(|peers| !peers.is_alone()) else { return own };
    let asking = Asking { template: Ask::get("/api/overview", caller), peers: Arc::clone(peers) };
    let asked = others(api, &**peers).into_iter().map(|node| (node, asking.ask(node, LOOK))).collect();
    let others = numbers(asked).await;
    let Ok(mut sum) = serde_json::from_slice::<Value>(&own) else { return own };
    merge::sums(&mut sum, &others);
    sum.to_string().into_bytes()
}

/// The user of a session that began on another node.
pub(in super::super) async fn session_user(api: &Api, cookie: &str) -> Option<String> {
    let mut asked = about_session(api, "GET", "/api/whoami", cookie);
    while let Some(told) = asked.join_next().await {
        if let Ok(Ok(told)) = told
            && told.is_ok()
        {
            let told: Value = serde_json::from_slice(&told.body).ok()?;
            return told["name"].as_str().map(str::to_owned);
        }
    }
    None
}

/// Ends a session on all other nodes.
pub(in super::super) async fn end_session(api: &Api, cookie: &str) {
    about_session(api, "POST", "/api/logout", cookie).join_all().await;
}

fn about_session(api: &Api, method: &str, uri: &str, cookie: &str) -> JoinSet<Result<Told, String>> {
    let mut asked = JoinSet::new();
    if let Some(peers) = api.peers.get().filter(|peers| !peers.is_alone()) {
        for node in others(api, &**peers) {
            let (peers, ask) = (Arc::clone(peers), Ask::about_session(method, uri, cookie).encode());
            asked.spawn(async move { Told::decode(&peers.ask(node, ask?, LOOK).await?) });
        }
    }
    asked
}

/// What those have who answer in time.
async fn numbers(asked: Vec<(NodeId, Asked)>) -> Vec<Value> {
    let mut numbers = Vec::new();
    for (_, told) in asked {
        if let Ok(Ok(told)) = told.await {
            numbers.extend(serde_json::from_slice::<Value>(&told.body).ok().filter(|_| told.is_ok()));
        }
    }
    numbers
}

async fn octets(response: Response) -> Result<Vec<u8>, Refusal> {
    let octets = to_bytes(response.into_body(), usize::MAX).await;
    octets.map(|octets| octets.to_vec()).map_err(|error| Refusal::internal(&error.to_string()))
}

/// What is known of a node that does not answer. A witness has nothing to say: it only votes.
fn absent(member: &Member) -> Value {
    let witness = member.role == Role::Witness;
    json!({
        "name": &*member.name, "type": if witness { "witness" } else { "disc" },
        "running": witness && member.serves(), "being_drained": member.state == NodeState::Drain,
        "partitions": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_goes_to_whom_it_concerns() {
        let cases = [
            (Method::GET, "/api/queues", Reach::List),
            (Method::GET, "/api/queues/{vhost}/{name}", Reach::Leader),
            (Method::PUT, "/api/queues/{vhost}/{name}", Reach::Here),
            (Method::DELETE, "/api/queues/{vhost}/{name}", Reach::Leader),
            (Method::DELETE, "/api/queues/{vhost}/{name}/contents", Reach::Leader),
            (Method::GET, "/api/queues/{vhost}/{name}/bindings", Reach::Here),
            (Method::GET, "/api/nodes", Reach::Nodes),
            (Method::GET, "/api/nodes/{name}", Reach::Node("name")),
            (Method::GET, "/api/vhosts/{vhost}", Reach::Sums),
            (Method::DELETE, "/api/vhosts/{vhost}", Reach::Here),
            (Method::DELETE, "/api/connections/{name}", Reach::Whoever),
            (Method::DELETE, "/api/connections/username/{user}", Reach::Everyone),
            (Method::GET, "/api/exchanges", Reach::SumsOfList),
            (Method::GET, "/api/exchanges/{vhost}/{name}", Reach::Sums),
            (Method::PUT, "/api/exchanges/{vhost}/{name}", Reach::Here),
            (Method::DELETE, "/api/reset", Reach::Everyone),
            (Method::DELETE, "/api/reset/{node}", Reach::Node("node")),
            (Method::GET, "/api/health/checks/alarms", Reach::Alarms),
            (Method::GET, "/api/health/checks/local-alarms", Reach::Here),
            (Method::GET, "/api/definitions", Reach::Here),
        ];
        for (method, path, reach) in cases {
            assert_eq!(Reach::of(&method, path), reach, "{method} {path}");
        }
    }

    #[test]
    fn what_is_asked_of_others_are_paths_of_the_api() {
        let reach = |path: &super::super::super::paths::ApiPath| Reach::of(&Method::GET, path.template());
        let spread = super::super::all_paths().iter().filter(|path| reach(path) != Reach::Here).count();
        assert_eq!(spread, 37, "every path that is matched here, as the router spells it");
    }
}
