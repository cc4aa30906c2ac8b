//! Questions of operators for other nodes: by the HTTP API, and by `rabbitmqctl -n`.
//!
//! ```text
//! call of kind "management":  1 + a request of the API  |  2 + a question for the control socket
//! ```

use super::link::{BoxFuture, Caller, Handler, Kind, Lane, Links};
use super::running::Running;
use crate::ctl::relay;
use crate::management::peers::{Answers, Peers};
use broker_core::ids::NodeId;
use bytes::{BufMut, Bytes, BytesMut};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

const API: u8 = 1;
const CONTROL: u8 = 2;
/// How long an answer of another node's control socket may take.
const CONTROL_PATIENCE: Duration = Duration::from_secs(90);

/// The other nodes, for operators.
#[derive(Clone)]
pub(crate) struct Reach(Arc<Running>);

impl std::fmt::Debug for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reach").field("me", &self.0.me()).finish_non_exhaustive()
    }
}

impl Reach {
    /// By the links of `running`.
    pub(crate) fn new(running: &Arc<Running>) -> Reach {
        Reach(Arc::clone(running))
    }

    /// Answers the others from now on, for as long as the node keeps `answers`.
    pub(crate) fn answer(&self, answers: &Arc<Answers>) {
        if let Some(links) = &self.0.links {
            let data = self.0.facts.data.clone();
            links.handle(Kind::Management, Arc::new(Asked { answers: Arc::downgrade(answers), data }));
        }
    }

    /// Asks the control socket of a node of this name.
    pub(crate) async fn control(&self, name: &str, question: &[u8]) -> Result<Bytes, String> {
        let members = self.0.members();
        let node = members.iter().find(|it| *it.name == *name);
        let node = node.ok_or_else(|| format!("there is no node '{name}' in this cluster"))?.id;
        call(self.0.links.clone(), node, CONTROL, question, CONTROL_PATIENCE).await
    }
}

async fn call(
    links: Option<Links>,
    node: NodeId,
    what: u8,
    octets: &[u8],
    patience: Duration,
) -> Result<Bytes, String> {
    let links = links.ok_or("this node has no links to others")?;
    let mut request = BytesMut::with_capacity(octets.len() + 1);
    request.put_u8(what);
    request.extend_from_slice(octets);
    let answer = links.call(node, Lane::Bulk, Kind::Management, request.freeze(), patience).await;
    answer.map_err(|error| error.to_string())
}

impl Peers for Reach {
    fn me(&self) -> NodeId {
        self.0.me()
    }

    fn is_alone(&self) -> bool {
        self.0.view().is_alone()
    }

    fn ask(
        &self,
        node: NodeId,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let links = self.0.links.clone();
        Box::pin(async move { call(links, node, API, &request, patience).await })
    }
}

/// Answers other nodes. The API's side is the node's own: it knows the links itself.
struct Asked {
    answers: Weak<Answers>,
    data: PathBuf,
}

impl Handler for Asked {
    fn on_call(&self, caller: Caller, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let (answers, data) = (self.answers.upgrade(), self.data.clone());
        Box::pin(async move {
            if !caller.member {
                return Err("only a member of the cluster is answered".to_owned());
            }
            match payload.first() {
                Some(&API) => {
                    let answers = answers.ok_or("the node stops")?;
                    answers.answer(payload.slice(1..)).await
                }
                Some(&CONTROL) => relay::answer(&data, &payload[1..]).await,
                _ => Err("the question makes no sense to this version".to_owned()),
            }
        })
    }
}
