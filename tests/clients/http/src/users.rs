//! Users and what they may do, and what is refused.

use crate::{Api, USER, VHOST, must, passed};
use rabbitmq_http_client::blocking_api::Client;
use rabbitmq_http_client::commons::PaginationParams;
use rabbitmq_http_client::password_hashing;
use rabbitmq_http_client::requests::{Permissions, QueueParams, TopicPermissions, UserParams};

pub(crate) fn users(api: &Api) {
    let salt = password_hashing::salt();
    let hash = password_hashing::base64_encoded_salted_password_hash_sha256(&salt, "secret");
    must("declare", api.create_user(&UserParams::new(USER, &hash, "management,policymaker")));
    let user = must("get", api.get_user(USER));
    assert_eq!(user.name, USER);
    assert!(user.tags.contains("policymaker") && user.tags.can_access_http_api());
    assert!(must("list", api.list_users()).iter().any(|user| user.name == USER));
    assert_eq!(must("page", api.list_users_paged(&PaginationParams::first_page(1))).len(), 1);
    assert!(must("lonely", api.list_users_without_permissions()).iter().any(|user| user.name == USER));
    for name in ["one-of-many", "two-of-many"] {
        must("declare", api.create_user(&UserParams::new(name, &hash, "")));
    }
    must("delete many", api.delete_users(vec!["one-of-many", "two-of-many", "nobody"]));
    assert!(api.get_user("one-of-many").expect_err("it is gone").is_not_found());
    passed("users");
}

pub(crate) fn permissions(api: &Api) {
    let own = Permissions { user: USER, vhost: VHOST, configure: "^a", read: ".*", write: "" };
    must("grant", api.declare_permissions(&own));
    let own = must("get", api.get_permissions(VHOST, USER));
    assert_eq!((&*own.configure, &*own.read, &*own.write), ("^a", ".*", ""));
    assert!(must("list", api.list_permissions()).len() >= 3);
    assert_eq!(must("of a vhost", api.list_permissions_in(VHOST)).len(), 2);
    assert_eq!(must("of a user", api.list_permissions_of(USER)).len(), 1);
    let topic = TopicPermissions { user: USER, vhost: VHOST, exchange: "amq.topic", read: "^r", write: "^w" };
    must("topics", api.declare_topic_permissions(&topic));
    assert_eq!(must("list topics", api.list_topic_permissions()).len(), 1);
    assert_eq!(must("topics in a vhost", api.list_topic_permissions_in(VHOST)).len(), 1);
    assert_eq!(must("topics of a user", api.list_topic_permissions_of(USER)).len(), 1);
    assert_eq!(must("topics of a user in a vhost", api.get_topic_permissions_of(VHOST, USER)).write, "^w");
    must("clear topics", api.clear_topic_permissions(VHOST, USER, false));
    must("clear", api.clear_permissions(VHOST, USER, false));
    assert!(api.get_permissions(VHOST, USER).expect_err("they are gone").is_not_found());
    passed("permissions");
}

pub(crate) fn refusals(api: &Api, endpoint: String) {
    let wrong = Client::new(endpoint.clone(), "guest", "wrong");
    assert!(wrong.overview().expect_err("the password is wrong").is_unauthorized());
    let user = Client::new(endpoint, USER, "secret");
    assert_eq!(must("the salted hash is its password", user.current_user()).name, USER);
    assert!(user.list_users().expect_err("it is no administrator").is_unauthorized());
    assert!(api.get_queue_info(VHOST, "nosuch").expect_err("there is none").is_not_found());
    let other = QueueParams::new_durable_classic_queue("quorum", None);
    let refusal = api.declare_queue(VHOST, &other).expect_err("it is another type");
    let told = refusal.error_details().and_then(|it| it.reason()).unwrap_or_default();
    assert!(refusal.is_client_error() && told.contains("inequivalent arg 'x-queue-type'"), "{told}");
    must("delete the vhost", api.delete_vhost(VHOST, false));
    must("delete the user", api.delete_user(USER, false));
    passed("refusals");
}
