//! `/api/parameters`: what plugins of RabbitMQ keep here. Imported ones are shown and can be deleted;
//! new ones are refused, because nothing would act on them.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::reply::{Answer, Refusal, no_content};
use axum::extract::{Path, Query, State};
use broker_core::meta::{MetaCommand, VhostState};
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    query.answer(listed(&api, &caller, |_, _| true)?)
}

pub(super) async fn of_component(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(component): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    query.answer(listed(&api, &caller, |_, own| own == component)?)
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((component, vhost)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.vhost(&api.node.metadata.read(), &vhost)?;
    query.answer(listed(&api, &caller, |own, its| *own.vhost.name == *vhost && its == component)?)
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((component, vhost, name)): Path<(String, String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.vhost(&api.node.metadata.read(), &vhost)?;
    let found = listed(&api, &caller, |own, its| *own.vhost.name == *vhost && its == component)?;
    let found = found.into_iter().find(|parameter| parameter["name"] == *name);
    query.answer_one(&found.ok_or_else(Refusal::missing)?)
}

pub(super) async fn put(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((component, vhost, _name)): Path<(String, String, String)>,
) -> Answer {
    caller.policymaker()?;
    caller.own_vhost(&api.node.metadata.read(), &vhost)?;
    Err(Refusal::bad_request(format!("Validation failed\n\ncomponent {component} not found\n")))
}

pub(super) async fn delete(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((component, vhost, name)): Path<(String, String, String)>,
) -> Answer {
    caller.policymaker()?;
    caller.own_vhost(&api.node.metadata.read(), &vhost)?;
    let command = MetaCommand::ClearParameter {
        vhost: Arc::from(vhost),
        component: Arc::from(component),
        name: Arc::from(name),
    };
    api.node.metadata.propose(command).await?;
    no_content()
}

fn listed(
    api: &Api,
    caller: &Caller,
    wanted: impl Fn(&VhostState, &str) -> bool,
) -> Result<Vec<Value>, Refusal> {
    caller.policymaker()?;
    let sm = api.node.metadata.read();
    let mut all = Vec::new();
    for state in sm.vhosts().filter(|state| caller.sees(&sm, state.vhost.id)) {
        for (component, name, value) in state.parameters().filter(|(component, ..)| wanted(state, component))
        {
            all.push(object!({
                "vhost": &*state.vhost.name, "component": &**component, "name": &**name,
                "value": serde_json::from_str::<Value>(value).unwrap_or(Value::Null),
            }));
        }
    }
    Ok(all)
}
