//! Policies, parameters, limits and definitions.

use crate::{Api, USER, VHOST, map, must, passed};
use rabbitmq_http_client::commons::{PolicyTarget, UserLimitTarget, VirtualHostLimitTarget};
use rabbitmq_http_client::requests::{
    EnforcedLimitParams, GlobalRuntimeParameterDefinition, PolicyParams, RuntimeParameterDefinition,
};
use serde_json::{Map, Value, json};

fn policy(name: &str, apply_to: PolicyTarget, definition: Value) -> PolicyParams<'_> {
    PolicyParams {
        vhost: VHOST,
        name,
        pattern: "^classic$",
        apply_to,
        priority: 7,
        definition: map(definition),
    }
}

pub(crate) fn policies(api: &Api) {
    let params = policy("limit", PolicyTarget::Queues, json!({"max-length": 100, "ha-mode": "all"}));
    must("declare", api.declare_policy(&params));
    let found = must("get", api.get_policy(VHOST, "limit"));
    let definition = found.definition.0.expect("it says something");
    assert_eq!((found.priority, definition.get("max-length")), (7, Some(&json!(100))));
    assert_eq!(must("get", api.get_queue_info(VHOST, "classic")).policy.as_deref(), Some("limit"));
    assert_eq!(must("list", api.list_policies()).len(), 1);
    assert_eq!(must("of a vhost", api.list_policies_in(VHOST)).len(), 1);
    assert_eq!(must("for queues", api.list_policies_for_target(VHOST, PolicyTarget::Queues)).len(), 1);
    assert_eq!(
        must("that match", api.list_matching_policies(VHOST, "classic", PolicyTarget::Queues)).len(),
        1
    );
    operator_policies(api);
    must("delete", api.delete_policy(VHOST, "limit", false));
    assert!(must("of a vhost", api.list_policies_in(VHOST)).is_empty());
    let other = policy("other", PolicyTarget::Exchanges, json!({"alternate-exchange": "amq.fanout"}));
    must("several", api.declare_policies(vec![&params, &other]));
    must("delete several", api.delete_policies_in(VHOST, vec!["limit", "other", "nosuch"]));
    assert!(api.get_policy(VHOST, "other").expect_err("it is gone").is_not_found());
    passed("policies");
}

fn operator_policies(api: &Api) {
    let operator = policy("limit", PolicyTarget::Queues, json!({"max-length": 50}));
    must("operator's", api.declare_operator_policy(&operator));
    assert_eq!(must("list operator's", api.list_operator_policies()).len(), 1);
    assert_eq!(must("operator's of a vhost", api.list_operator_policies_in(VHOST)).len(), 1);
    must("get operator's", api.get_operator_policy(VHOST, "limit"));
    let queue = must("get", api.get_queue_info(VHOST, "classic"));
    assert_eq!(queue.operator_policy.as_deref(), Some("limit"));
    let effective = queue.effective_policy_definition.and_then(|it| it.0).expect("they say something");
    assert_eq!(effective.get("max-length"), Some(&json!(50)), "the smaller limit counts");
    must("delete operator's", api.delete_operator_policy(VHOST, "limit", false));
}

pub(crate) fn parameters(api: &Api) {
    assert!(must("list", api.list_runtime_parameters()).is_empty());
    assert!(must("of a component", api.list_runtime_parameters_of_component("shovel")).is_empty());
    assert!(must("in a vhost", api.list_runtime_parameters_of_component_in("shovel", VHOST)).is_empty());
    let shovel =
        RuntimeParameterDefinition { name: "s", vhost: VHOST, component: "shovel", value: Map::new() };
    // Nothing here would act on it.
    assert!(api.upsert_runtime_parameter(&shovel).expect_err("there are no shovels").is_client_error());
    must("clear nothing", api.clear_runtime_parameter("shovel", VHOST, "s", true));
    let parameter =
        GlobalRuntimeParameterDefinition { name: "http-client", value: map(json!({"a": [1, "two"]})) };
    must("set", api.upsert_global_runtime_parameter(&parameter));
    assert_eq!(
        must("get", api.get_global_runtime_parameter("http-client")).value.0,
        json!({"a": [1, "two"]})
    );
    assert!(must("list", api.list_global_runtime_parameters()).iter().any(|it| it.name == "http-client"));
    must("clear", api.clear_global_runtime_parameter("http-client"));
    assert!(api.get_global_runtime_parameter("http-client").expect_err("it is gone").is_not_found());
    passed("parameters");
}

pub(crate) fn limits(api: &Api) {
    let vhost = |value| EnforcedLimitParams::new(VirtualHostLimitTarget::MaxQueues, value);
    must("of a vhost", api.set_vhost_limit(VHOST, vhost(100)));
    let limits = must("list", api.list_vhost_limits(VHOST));
    assert_eq!((&*limits[0].vhost, limits[0].limits.get("max-queues")), (VHOST, Some(&json!(100))));
    assert_eq!(must("list all", api.list_all_vhost_limits()).len(), 1);
    must("clear", api.clear_vhost_limit(VHOST, VirtualHostLimitTarget::MaxQueues));
    let user = |value| EnforcedLimitParams::new(UserLimitTarget::MaxChannels, value);
    must("of a user", api.set_user_limit(USER, user(5)));
    let limits = must("list", api.list_user_limits(USER));
    assert_eq!((&*limits[0].username, limits[0].limits.get("max-channels")), (USER, Some(&json!(5))));
    assert_eq!(must("list all", api.list_all_user_limits()).len(), 1);
    must("clear", api.clear_user_limit(USER, UserLimitTarget::MaxChannels));
    passed("limits");
}

pub(crate) fn definitions(api: &Api) {
    let all = must("export", api.export_cluster_wide_definitions_as_data());
    assert!(all.users.iter().any(|user| user.name == USER && user.password_hash.is_some()));
    assert!(all.virtual_hosts.iter().any(|vhost| vhost.name == VHOST));
    assert!(all.find_queue(VHOST, "classic").is_some_and(|queue| queue.durable));
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let text = must("export as text", api.export_cluster_wide_definitions_as_string());
    let vhost = must("of a vhost", api.export_vhost_definitions_as_data(VHOST));
    assert_eq!((vhost.queues.len(), vhost.exchanges.len()), (2, 4));
    must("delete", api.delete_queue(VHOST, "classic", false));
    must("import", api.import_cluster_wide_definitions(read(&text)));
    must("is back", api.get_queue_info(VHOST, "classic"));
    let own = must("of a vhost as text", api.export_vhost_definitions_as_string(VHOST));
    must("delete", api.delete_exchange(VHOST, "topic", false));
    must("import", api.import_vhost_definitions(VHOST, read(&own)));
    must("is back", api.get_exchange_info(VHOST, "topic"));
    passed("definitions");
}
