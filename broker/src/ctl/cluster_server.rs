//! The cluster's part of the control socket: what the node knows of the others, and orders.
//!
//! ```text
//! GET  /local/cluster     ClusterStatus
//! POST /local/cluster     an Order; 200 with what came of it, or why not
//! ```

use crate::cluster::operator::{Done, Operator, Order, Refused, RefusedKind};
use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::sync::Arc;

/// The routes for whoever carries orders out.
pub(super) fn routes(operator: Arc<dyn Operator>) -> Router {
    Router::new().route("/local/cluster", get(status).post(order)).with_state(operator)
}

async fn status(State(operator): State<Arc<dyn Operator>>) -> Response {
    Json(operator.status()).into_response()
}

async fn order(State(operator): State<Arc<dyn Operator>>, Json(body): Json<Value>) -> Response {
    let order: Order = match serde_json::from_value(body) {
        Ok(order) => order,
        Err(error) => {
            let reason = format!("this node does not know the order: {error}");
            return refusal(&Refused::new(RefusedKind::Invalid, reason));
        }
    };
    match operator.carry_out(order).await {
        Ok(done) => Json(done).into_response(),
        Err(refused) => refusal(&refused),
    }
}

fn refusal(refused: &Refused) -> Response {
    (StatusCode::CONFLICT, Json(json!({"error": "refused", "kind": refused.kind, "reason": refused.text})))
        .into_response()
}

/// What an answer to an order says.
pub(super) fn outcome(status: u16, body: Value) -> Result<Done, Refused> {
    if (200..300).contains(&status) {
        return serde_json::from_value(body).map_err(|error| unreadable(&error));
    }
    let kind = serde_json::from_value(body["kind"].clone()).unwrap_or(RefusedKind::Failed);
    let reason = body["reason"]
        .as_str()
        .map_or_else(|| format!("the node answered with status {status}"), str::to_owned);
    Err(Refused::new(kind, reason))
}

fn unreadable(error: &serde_json::Error) -> Refused {
    Refused::new(RefusedKind::Failed, format!("the node's answer makes no sense: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_says_arrives_as_it_was_meant() {
        let done = Done { already: true, ..Done::default() };
        assert_eq!(outcome(200, serde_json::to_value(&done).unwrap()), Ok(done));
        let body = json!({"error": "refused", "kind": "loss", "reason": "queue q is only there"});
        let refused = outcome(409, body).unwrap_err();
        assert_eq!((refused.kind, refused.text.as_str()), (RefusedKind::Loss, "queue q is only there"));
        let refused = outcome(500, Value::Null).unwrap_err();
        assert_eq!((refused.kind, refused.text.contains("500")), (RefusedKind::Failed, true));
    }
}
