//! `/api/definitions`.

use super::Api;
use super::caller::Caller;
use super::reply::{Answer, Refusal, json, no_content, parse_body};
use crate::metadata::definitions::{ImportError, export, export_vhost, import};
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) async fn all(caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    caller.administrator()?;
    let settings = &api.node.settings;
    json(&export(&api.node.metadata.read(), &settings.product, &settings.version))
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
) -> Answer {
    let settings = &api.node.settings;
    let sm = api.node.metadata.read();
    let id = caller.own_vhost(&sm, &vhost)?;
    json(&export_vhost(&sm, id, &settings.product, &settings.version).ok_or_else(Refusal::missing)?)
}

pub(super) async fn import_all(caller: Caller, State(api): State<Arc<Api>>, body: Bytes) -> Answer {
    caller.administrator()?;
    take(&api, &caller, &parse_body(&body)?, None).await
}

pub(super) async fn import_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    caller.own_vhost(&api.node.metadata.read(), &vhost)?;
    take(&api, &caller, &parse_body(&body)?, Some(&vhost)).await
}

async fn take(api: &Api, caller: &Caller, body: &Value, vhost: Option<&str>) -> Answer {
    match import(&api.node.metadata, body, vhost).await {
        Ok(report) => {
            tracing::info!(by = %caller.name, %report, "definitions imported");
            no_content()
        }
        Err(ImportError::NoSuchVhost(name)) => Err(Refusal::bad_request(object!(["no_such_vhost", name]))),
        Err(error) => Err(Refusal::bad_request(error.to_string())),
    }
}
