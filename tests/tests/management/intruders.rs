//! What users get to see and to change who may not, and what requests do that nobody should send.

use crate::node;
use harness::api::{Api, encoded};
use harness::wire::name;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Whoever asks, these answer: they tell nothing, or are how one logs in and out.
const PUBLIC: [&str; 5] = ["/api/auth", "/api/index.html", "/api/openapi.json", "/api/login", "/api/logout"];

/// A vhost with something of everything in it, all of whose names have a part that nothing else has.
struct Secrets {
    part: String,
    vhost: String,
}

impl Secrets {
    fn new(api: &Api) -> Secrets {
        let part = name("sekret");
        let vhost = part.clone();
        api.put(&format!("vhosts/{vhost}"), &json!({"description": part}));
        api.put(&format!("users/{part}"), &json!({"password": part, "tags": "management"}));
        api.permit(&vhost, &part, [".*", ".*", ".*"]);
        api.permit(&vhost, "guest", [".*", ".*", ".*"]);
        api.put(&format!("queues/{vhost}/{part}"), &json!({"durable": true}));
        api.put(&format!("exchanges/{vhost}/{part}"), &json!({"type": "direct"}));
        let bound = api.ask(
            "POST",
            &format!("bindings/{vhost}/e/{part}/q/{part}"),
            Some(&json!({"routing_key": part})),
        );
        assert_eq!(bound.unwrap().0, 201);
        api.policy(&vhost, &part, &part, &json!({"max-length": 10}), 0);
        let operator = json!({"pattern": part, "definition": {"max-length": 10}});
        api.put(&format!("operator-policies/{vhost}/{part}"), &operator);
        api.put(&format!("vhost-limits/{vhost}/max-queues"), &json!({"value": 100}));
        api.put(&format!("user-limits/{part}/max-channels"), &json!({"value": 100}));
        let topic = json!({"exchange": part, "write": part, "read": part});
        api.put(&format!("topic-permissions/{vhost}/{part}"), &topic);
        let message =
            json!({"properties": {}, "routing_key": part, "payload": part, "payload_encoding": "string"});
        let sent = api.ask("POST", &format!("exchanges/{vhost}/{part}/publish"), Some(&message));
        assert_eq!(sent.unwrap(), (200, json!({"routed": true})));
        Secrets { part, vhost }
    }

    /// Everything that was made is as it was.
    fn are_untouched(&self, api: &Api) {
        let Secrets { part, vhost } = self;
        let queue = api.get(&format!("queues/{vhost}/{part}"));
        assert_eq!((&queue["messages"], &queue["paused"]), (&json!(1), &json!(false)), "{queue}");
        for path in [
            format!("exchanges/{vhost}/{part}"),
            format!("bindings/{vhost}/e/{part}/q/{part}/{part}"),
            format!("policies/{vhost}/{part}"),
            format!("operator-policies/{vhost}/{part}"),
            format!("permissions/{vhost}/{part}"),
            format!("topic-permissions/{vhost}/{part}"),
            format!("users/{part}"),
        ] {
            let _ = api.get(&path);
        }
        assert_eq!(api.get(&format!("vhost-limits/{vhost}"))[0]["value"]["max-queues"], 100);
        assert_eq!(api.get(&format!("users/{part}"))["tags"], json!(["management"]));
    }

    /// A path of the description with these names in it.
    fn path(&self, template: &str) -> String {
        let names = [
            ("{kind}", "q"),
            ("{node}", "rabbit@test"),
            ("{port}", "1"),
            ("{protocol}", "amqp"),
            ("{within}", "1"),
            ("{unit}", "weeks"),
            ("{limit}", "max-queues"),
        ];
        let mut path = template.strip_prefix("/api/").unwrap().to_owned();
        if path.starts_with("nodes/") {
            path = path.replace("{name}", "rabbit@test");
        }
        for (part, name) in names {
            path = path.replace(part, name);
        }
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            path.replace_range(from..=to, &encoded(&self.part));
        }
        path
    }
}

/// A body that every operation finds what it needs in.
fn any_body(part: &str) -> Value {
    json!({
        "configure": ".*", "write": ".*", "read": ".*", "exchange": part, "tags": "administrator", "password": "own",
        "pattern": "^", "definition": {"max-length": 1}, "priority": 100, "routing_key": part, "payload": "x",
        "payload_encoding": "string", "properties": {}, "count": 1, "ackmode": "ack_requeue_false", "encoding": "auto",
        "value": 1, "type": "direct", "durable": true, "destination": part, "action": "sync", "users": [part],
        "name": part, "description": part,
    })
}

/// Every operation of the API: path as described, method.
fn operations() -> Vec<(String, String)> {
    let described = node().api.get("openapi.json");
    let paths = described["paths"].as_object().unwrap();
    let mut all = Vec::new();
    for (path, item) in paths {
        all.extend(item.as_object().unwrap().keys().map(|verb| (path.clone(), verb.to_uppercase())));
    }
    assert!(all.len() > 120, "{}", all.len());
    all.retain(|(path, _)| !PUBLIC.contains(&path.as_str()));
    all
}

/// Asks for everything as somebody, and tells what is answered otherwise than `fine` says.
fn asked_for_everything(
    secrets: &Secrets,
    api: &Api,
    fine: impl Fn(&str, &str, u16, &str) -> bool,
) -> Vec<String> {
    let body = any_body(&secrets.part);
    let mut found = Vec::new();
    // Streams of events do not end.
    for (template, method) in operations().into_iter().filter(|(path, _)| path != "/api/events") {
        let (status, answer) = api.ask(&method, &secrets.path(&template), Some(&body)).unwrap();
        let text = answer.to_string();
        if !fine(&template, &method, status, &text) {
            found.push(format!("{method} {template}: {status} {text:.200}"));
        }
    }
    found
}

#[test]
fn nobody_gets_anything_without_a_login_that_is_for_the_api() {
    let api = &node().api;
    let secrets = Secrets::new(api);
    let useless = api.user("");
    api.permit(&secrets.vhost, &useless, [".*", ".*", ".*"]);
    let port = node().management_port;
    for (user, password) in
        [("nobody", "guessed"), ("guest", ""), (secrets.part.as_str(), "wrong"), (&useless, "pw")]
    {
        let stranger = Api::as_user(port, user, password);
        let found = asked_for_everything(&secrets, &stranger, |_, _, status, _| status == 401);
        assert!(found.is_empty(), "as {user}:\n{}", found.join("\n"));
    }
    secrets.are_untouched(api);
}

#[test]
fn users_of_other_vhosts_see_and_change_nothing_in_one() {
    let api = &node().api;
    let secrets = Secrets::new(api);
    let port = node().management_port;
    for tags in ["management", "policymaker"] {
        let user = api.user(tags);
        let own = api.vhost();
        api.permit(&own, &user, [".*", ".*", ".*"]);
        let stranger = Api::as_user(port, &user, "pw");
        let found = asked_for_everything(&secrets, &stranger, |path, method, status, text| match method {
            "GET" => status != 200 || !text.contains(&secrets.part),
            // Which users and what they may do is for administrators, so it must not be told that there is none.
            _ => status == 401 || status == 404 && !path.starts_with("/api/users"),
        });
        assert!(found.is_empty(), "as {tags}:\n{}", found.join("\n"));
        secrets.are_untouched(api);
    }
}

#[test]
fn who_may_look_at_everything_changes_nothing_and_sees_no_passwords() {
    let api = &node().api;
    let secrets = Secrets::new(api);
    let user = api.user("monitoring");
    let monitor = Api::as_user(node().management_port, &user, "pw");
    let found = asked_for_everything(&secrets, &monitor, |path, method, status, text| match method {
        "GET" => !text.contains("password_hash"),
        // RabbitMQ: who sees a connection may close it. Explaining is looking.
        _ => {
            status == 401
                || status == 404
                || path.starts_with("/api/connections/")
                || path.starts_with("/api/explain/")
        }
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
    secrets.are_untouched(api);
}

#[test]
fn a_message_published_over_http_claims_no_other_user() {
    let api = &node().api;
    let user = api.user("management");
    api.permit("/", &user, [".*", ".*", ".*"]);
    let sender = Api::as_user(node().management_port, &user, "pw");
    let publish = |claimed: &str| {
        let body = json!({"properties": {"user_id": claimed}, "routing_key": "nowhere", "payload": "", "payload_encoding": "string"});
        sender.ask("POST", "exchanges/%2F/amq.default/publish", Some(&body)).unwrap()
    };
    assert_eq!(publish(&user).0, 200);
    let (status, refusal) = publish("guest");
    let text = format!("user_id property set to 'guest' but authenticated user was '{user}'");
    assert_eq!((status, &refusal["reason"]), (400, &json!(text)));
}

/// Sends octets as they are and returns what is answered until the server closes.
fn raw(request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", node().management_port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The server may have refused before everything was sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

const GUEST: &str = "authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

#[test]
fn requests_that_nobody_should_send_are_refused_and_the_node_goes_on() {
    let get = |path: &str, headers: &str| {
        raw(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
            .as_bytes())
    };
    let status = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    for (path, expected) in [
        ("/api/../api/overview".to_owned(), "404"),
        ("/api/%2e%2e/overview".to_owned(), "404"),
        ("//api/overview".to_owned(), "404"),
        ("/../../../../etc/passwd".to_owned(), "404"),
        ("/js/..%2f..%2f..%2fetc%2fpasswd".to_owned(), "404"),
        ("/api/queues/%FF".to_owned(), "400"),
        ("/api/queues/%00/%0d%0a".to_owned(), "404"),
        (format!("/api/queues?columns={}a", "a.".repeat(30_000)), "200"),
        (format!("/api/queues?sort={}a", "a.".repeat(30_000)), "200"),
        (format!("/api/queues?page=1&name={}&use_regex=true", "(".repeat(20_000)), "400"),
        ("/api/queues?page=1&use_regex=true&name=((a{0,999}){0,999}){0,999}".to_owned(), "400"),
        ("/api/queues?page=18446744073709551615&page_size=500".to_owned(), "400"),
        (
            "/api/queues?lengths_age=18446744073709551615&lengths_incr=1&msg_rates_age=-1&msg_rates_incr=x"
                .to_owned(),
            "200",
        ),
    ] {
        assert_eq!(status(&get(&path, GUEST)), expected, "{path:.80}");
    }
    let many = format!("{GUEST}{}", "x-a: b\r\n".repeat(5000));
    assert_eq!(status(&get("/api/overview", &many)), "431");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!("{{\"arguments\": {deep}}}");
    let (code, _) = node().api.ask_text("PUT", "queues/%2F/deep", &body).unwrap();
    assert_eq!(code, 400);
    let long = "x".repeat(300);
    for path in [
        format!("vhosts/{long}"),
        format!("users/{long}"),
        format!("queues/%2F/{long}"),
        format!("exchanges/%2F/{long}"),
    ] {
        let (code, answer) =
            node().api.ask("PUT", &path, Some(&json!({"tags": "", "type": "direct"}))).unwrap();
        assert_eq!(code, 400, "{path:.40}: {answer}");
    }
    let login = format!(
        "POST /api/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 1000000\r\n\r\nusername={}",
        "u".repeat(100_000)
    );
    assert_eq!(status(&raw(login.as_bytes())), "400", "no more is read than a login needs");
    assert_eq!(node().api.get("overview")["node"], "rabbit@test");
}

#[test]
fn a_page_of_another_site_reaches_nothing_through_a_browser_of_this_host() {
    let ask = |method: &str, path: &str, headers: &str| {
        let request =
            format!("{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: 0\r\n\r\n");
        let answer = raw(request.as_bytes());
        (answer.split(' ').nth(1).unwrap_or_default().to_owned(), answer.to_lowercase())
    };
    // Its own name, pointed here: what the page knows of the default user is of no use.
    let rebound = format!("host: attacker.example:15672\r\norigin: http://attacker.example:15672\r\n{GUEST}");
    assert_eq!(ask("GET", "/api/overview", &rebound).0, "401");
    assert_eq!(ask("PUT", "/api/vhosts/taken", &rebound).0, "401");
    // This host's name from another site, with the login that the browser knows.
    for foreign in [
        "origin: http://attacker.example\r\n",
        "origin: null\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
    ] {
        let headers = format!("host: localhost\r\n{foreign}{GUEST}");
        assert_eq!(ask("DELETE", "/api/vhosts/%2F", &headers).0, "401", "{foreign}");
        assert_eq!(ask("GET", "/api/aliveness-test/%2F", &headers).0, "401", "{foreign}");
        let (status, answer) = ask("GET", "/api/overview", &headers);
        assert_eq!(status, "200");
        assert!(!answer.contains("access-control-allow"), "no other site may read it: {answer:.400}");
    }
    let (_, answer) = ask("GET", "/", "host: localhost\r\n");
    for header in [
        "x-frame-options: deny",
        "x-content-type-options: nosniff",
        "frame-ancestors 'none'",
        "default-src 'self'",
    ] {
        assert!(answer.contains(header), "{header}");
    }
    // A cookie that somebody else chose is no session, and does not become one by logging in.
    let chosen = "cookie: broker_session=chosen\r\n";
    let login = format!(
        "POST /api/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{chosen}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 29\r\n\r\nusername=guest&password=guest"
    );
    let answer = raw(login.as_bytes()).to_lowercase();
    assert!(answer.starts_with("http/1.1 200") && answer.contains("httponly; samesite=strict"), "{answer}");
    assert!(!answer.contains("broker_session=chosen"), "{answer}");
    assert_eq!(ask("GET", "/api/overview", &format!("host: localhost\r\n{chosen}")).0, "401");
}
