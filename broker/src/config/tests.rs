//! Defaults, precedence, and what is said about mistakes.

use super::*;

mod native_rows;
mod options;
mod rabbit_rows;
#[path = "../../../tests/options/rows.rs"]
mod rows;

fn environment() -> Environment {
    Environment {
        data_home: Some(PathBuf::from("/home/a/.local/share")),
        host: "laptop".to_owned(),
        ..Environment::default()
    }
}

fn read(text: &str) -> Result<Config, Diagnostics> {
    Config::from_text(text, "broker.toml", &NodeArgs::default(), &environment())
}

fn mistakes(text: &str) -> String {
    read(text).expect_err("must be refused").render(false)
}

#[test]
fn no_file_at_all_is_a_working_node() {
    let config = read("").unwrap();
    assert_eq!(config.node_name, "rabbit@laptop");
    assert_eq!(config.data, Some(PathBuf::from("/home/a/.local/share/broker")));
    assert_eq!(config.amqp.listen, ["127.0.0.1:5672".parse().unwrap()]);
    assert_eq!(config.management, ["127.0.0.1:15672".parse().unwrap()]);
    assert_eq!((config.amqp.heartbeat, config.amqp.frame_max, config.amqp.channel_max), (60, 131_072, 2047));
    assert_eq!(config.amqp.max_message_size, 134_217_728);
    assert_eq!(config.amqp.loopback_users, LoopbackUsers(vec!["guest".to_owned()]));
    assert_eq!((config.amqp.product.as_str(), config.amqp.version.as_str()), ("RabbitMQ", "3.10.8"));
    assert_eq!(config.default_user.name, "guest");
    assert_eq!(config.limits.memory, MemoryLimit::Share(0.4));
}

#[test]
fn root_keeps_its_data_in_var_lib() {
    let root = Environment { root: true, ..environment() };
    let config = Config::from_text("", "", &NodeArgs::default(), &root).unwrap();
    assert_eq!(config.data, Some(PathBuf::from("/var/lib/broker")));
}

#[test]
fn command_line_beats_environment_beats_file() {
    let text = "[node]\nname = 'rabbit@file'\ndata = '/file'\n[amqp]\nlisten = ['0.0.0.0:1', '[::1]:2']\ndefault_user = 'file'\n";
    let config = read(text).unwrap();
    assert_eq!(config.node_name, "rabbit@file");
    assert_eq!(config.amqp.listen, ["0.0.0.0:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    let environment = Environment {
        node_name: Some("hare".to_owned()),
        port: Some("7000".to_owned()),
        data: Some(PathBuf::from("/environment")),
        default_user: Some("environment".to_owned()),
        ..environment()
    };
    let config = Config::from_text(text, "", &NodeArgs::default(), &environment).unwrap();
    assert_eq!(config.node_name, "hare@laptop");
    assert_eq!(config.data, Some(PathBuf::from("/environment")));
    assert_eq!(config.amqp.listen[0], "0.0.0.0:7000".parse().unwrap());
    assert_eq!(config.default_user.name, "environment");
    let args = NodeArgs {
        node: Some("rabbit@args".to_owned()),
        port: Some(8000),
        bind: Some("10.0.0.1".parse().unwrap()),
        management_port: Some(8001),
        data: Some(PathBuf::from("/args")),
        ..NodeArgs::default()
    };
    let config = Config::from_text(text, "", &args, &environment).unwrap();
    assert_eq!(config.node_name, "rabbit@args");
    assert_eq!(config.amqp.listen, ["10.0.0.1:8000".parse().unwrap()]);
    assert_eq!(config.management, ["10.0.0.1:8001".parse().unwrap()]);
    assert_eq!(config.data, Some(PathBuf::from("/args")));
}

#[test]
fn an_ephemeral_node_has_no_directory() {
    let args = NodeArgs { ephemeral: true, ..NodeArgs::default() };
    assert_eq!(Config::from_text("", "", &args, &environment()).unwrap().data, None);
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let text = mistakes("[amqp]\n\nlisen = \"0.0.0.0:5672\"\n");
    assert!(text.contains("broker.toml:3:1") && text.contains("did you mean `listen`?"), "{text}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = mistakes(
        "[node]\nname = 'a@b@c'\n[amqp]\nlisten = 'nowhere'\nframe_max = 100\nversion = '3.10'\n\
         [limits]\ndisk_free = '5 parsec'\n[[users]]\nname = 'x'\npassword = 'p'\npassword_hash = 'h'\n\
         [[users]]\nname = ''\npermissions = [{ configure = '[', write = '', read = '' }]\n",
    );
    for expected in [
        "node name `a@b@c`",
        "`nowhere` is not an address",
        "100 is out of range",
        "between 4096 and 2147483647",
        "not of the form x.y.z",
        "not a size",
        "both password and password_hash",
        "1 to 255 octets",
        "not a regular expression",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn users_and_vhosts() {
    let config = read(
        "[[users]]\nname = 'laosun'\npassword = '123456'\ntags = ['administrator']\n\
         permissions = [{ configure = '.*', write = '.*', read = '^(?!amq\\.).*' }]\n\
         [[users]]\nname = 'old'\npassword_hash = 'ctiLbbWNiKRbKmWs2WXyu8/vm5oMyAupzMm64Bi9h5oaiY+6'\n\
         [[vhosts]]\nname = '/lagou'\n",
    )
    .unwrap();
    assert_eq!(config.users[0].permissions[0].0, "/");
    assert!(matches!(&config.users[0].password, ConfiguredPassword::Clear(p) if p == "123456"));
    assert!(
        matches!(&config.users[1].password, ConfiguredPassword::Hashed(h) if h.algorithm == HashAlgorithm::Sha256)
    );
    assert_eq!(config.vhosts, [("/lagou".to_owned(), String::new())]);
    assert!(!format!("{config:?}").contains("123456"), "passwords do not show");
}

#[test]
fn sizes_are_read_as_rabbitmq_reads_them() {
    let size = |text: &str| raw::Size::Text(text.to_owned()).octets();
    assert_eq!(size("50MB"), Some(50_000_000));
    assert_eq!(size("1 GiB"), Some(1 << 30));
    assert_eq!(size("12"), Some(12));
    assert_eq!(size("2x"), None);
    assert_eq!(size("99999999999999999999"), None);
}

/// A folder with the files of a TLS listener, and the lines that name them.
fn tls_files() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = crate::tls::testing::server();
    let mut lines = String::new();
    for (name, text) in [("cert", &certificate), ("key", &key), ("ca", &crate::tls::testing::authority().0)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        lines.push_str(&format!("{name} = '{}'\n", path.display()));
    }
    (folder, lines)
}

#[test]
fn tls_listeners() {
    let (_folder, files) = tls_files();
    let config = read(&format!(
        "[amqp]\nauth_mechanisms = ['EXTERNAL', 'PLAIN']\nproxy_protocol = true\n[amqp.tls]\n{files}verify = 'verify_peer'\n\
         fail_if_no_peer_cert = true\nversions = ['tlsv1.2']\ncert_login_from = 'subject_alternative_name'\n\
         cert_login_san_type = 'email'\ncert_login_san_index = 1\n[management.tls]\nlisten = ':1'\n{files}"
    ))
    .unwrap();
    let tls = config.amqp.tls.unwrap();
    assert_eq!(tls.listen, ["127.0.0.1:5671".parse().unwrap()]);
    assert_eq!(tls.server.options().verify, Verify::PeerRequired);
    assert_eq!(tls.server.options().versions, [&rustls::version::TLS12]);
    assert_eq!(config.amqp.auth_mechanisms, [Mechanism::External, Mechanism::Plain]);
    let from =
        crate::tls::LoginFrom::SubjectAlternativeName { san_type: crate::tls::SanType::Email, index: 1 };
    assert_eq!(config.amqp.cert_login, CertLogin { from });
    assert!(config.amqp.proxy_protocol && config.warnings.is_empty());
    let https = config.management_tls.unwrap();
    assert_eq!((https.listen[0].port(), https.server.options().verify), (1, Verify::None));
    // Words of RabbitMQ's own files.
    let renamed =
        files.replace("cert =", "certfile =").replace("key =", "keyfile =").replace("ca =", "cacertfile =");
    assert!(read(&format!("[amqp.tls]\n{renamed}")).unwrap().amqp.tls.is_some());
    let plain = read("").unwrap();
    assert_eq!(plain.amqp.auth_mechanisms, [Mechanism::Plain, Mechanism::AmqPlain]);
    assert!(plain.amqp.tls.is_none() && plain.management_tls.is_none());
}

#[test]
fn mistakes_about_tls_say_what_to_write() {
    let (folder, files) = tls_files();
    for (text, expected) in [
        ("[amqp.tls]\nverify = 'peer'\n".to_owned(), "`cert` is missing"),
        (format!("[amqp.tls]\n{files}verify = 'maybe'\n"), "use \"none\" or \"peer\""),
        (format!("[amqp.tls]\n{files}fail_if_no_peer_cert = true\n"), "add verify = \"peer\""),
        (format!("[amqp.tls]\n{files}versions = ['tlsv1']\n"), "`tlsv1` is not safe"),
        (format!("[amqp.tls]\n{files}versions = []\n"), "no version at all"),
        (format!("[amqp.tls]\n{files}cert_login_from = 'nick'\n"), "use distinguished_name"),
        (format!("[amqp.tls]\n{files}password = 'x'\n"), "password"),
        (format!("[management.tls]\n{files}cert_login_from = 'common_name'\n"), "write it in [amqp.tls]"),
        (
            files.replace("ca =", "#").replacen("cert", "[amqp.tls]\nverify = 'peer'\ncert", 1),
            "`ca` is missing",
        ),
        ("[amqp]\nauth_mechanisms = ['ANONYMOUS']\n".to_owned(), "nobody may log in without saying who"),
        ("[amqp]\nauth_mechanisms = []\n".to_owned(), "nobody could log in"),
        ("[amqp.tls]\ncert = '/nowhere/c'\nkey = '/nowhere/k'\n".to_owned(), "broker.toml:2:8"),
    ] {
        let said = mistakes(&text);
        assert!(said.contains(expected), "{expected} is missing in:\n{said}");
    }
    std::fs::write(folder.path().join("key"), crate::tls::testing::server().1).unwrap();
    let said = mistakes(&format!("[amqp.tls]\n{files}"));
    assert!(
        said.contains("does not belong to the certificate") && said.contains("broker.toml:3:7"),
        "{said}"
    );
    let warned = read("[amqp]\nauth_mechanisms = ['PLAIN', 'EXTERNAL']\n").unwrap().warnings.render(false);
    assert!(warned.contains("EXTERNAL needs the certificates of clients"), "{warned}");
}

#[test]
fn a_name_nobody_asked_for_is_the_one_the_data_has() {
    let mut config = read("").unwrap();
    config.keep_node_name("rabbit@before".to_owned());
    assert_eq!(
        (config.node_name.as_str(), config.amqp.cluster_name.as_str()),
        ("rabbit@before", "rabbit@before")
    );
    let mut config = read("[node]\nname = 'rabbit@asked'\n[amqp]\ncluster_name = 'prod'\n").unwrap();
    config.keep_node_name("rabbit@before".to_owned());
    assert_eq!((config.node_name.as_str(), config.amqp.cluster_name.as_str()), ("rabbit@asked", "prod"));
}

#[test]
fn a_renamed_node_is_reached_on_the_host_of_its_new_name_unless_another_place_was_said() {
    let mut config = read("[node]\nname = 'rabbit@A'\n").unwrap();
    assert_eq!(config.place_under("rabbit@B"), "B:25672");
    config.rename_node("rabbit@B");
    assert_eq!((config.node_name.as_str(), config.cluster.advertised.as_str()), ("rabbit@B", "B:25672"));
    assert_eq!(config.amqp.cluster_name, "rabbit@B");
    let mut config = read("[node]\nname = 'rabbit@A'\n[cluster]\nadvertise = 'outside:99'\n").unwrap();
    config.rename_node("rabbit@B");
    assert_eq!((config.node_name.as_str(), config.cluster.advertised.as_str()), ("rabbit@B", "outside:99"));
}

#[test]
fn variables_of_the_container_image() {
    let with = |watermark: &str| {
        let environment = Environment {
            memory_high_watermark: Some(watermark.to_owned()),
            default_user_tags: Some(vec!["monitoring".to_owned()]),
            ..environment()
        };
        Config::from_text("", "", &NodeArgs::default(), &environment)
    };
    assert_eq!(with("0.7").unwrap().limits.memory, MemoryLimit::Share(0.7));
    assert_eq!(with("70%").unwrap().limits.memory, MemoryLimit::Share(0.7));
    assert_eq!(with("2GiB").unwrap().limits.memory, MemoryLimit::Octets(2 << 30));
    assert_eq!(with("0.7").unwrap().default_user.tags, ["monitoring"]);
    let said = with("much").unwrap_err().render(false);
    assert!(said.contains("RABBITMQ_VM_MEMORY_HIGH_WATERMARK") && said.contains("write 0.4"), "{said}");
}

#[test]
fn what_is_shown_of_a_configuration_holds_no_secret() {
    let config =
        read("[amqp]\ndefault_pass = 'hidden1'\n[[users]]\nname = 'a'\npassword = 'hidden2'\n").unwrap();
    let shown = serde_json::Value::Object(config.shown()).to_string();
    assert!(shown.contains("\"users\":[\"a\"]") && !shown.contains("hidden"), "{shown}");
}

#[test]
fn tls_by_the_variables_of_the_container_image() {
    let (folder, _) = tls_files();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let ssl = vec![
        ("CERTFILE", file("cert")),
        ("KEYFILE", file("key")),
        ("CACERTFILE", file("ca")),
        ("VERIFY", "verify_peer".to_owned()),
    ];
    let environment = Environment { ssl: ssl.clone(), ..environment() };
    let tls = Config::from_text("", "", &NodeArgs::default(), &environment).unwrap().amqp.tls.unwrap();
    assert_eq!(tls.listen, ["0.0.0.0:5671".parse().unwrap()]);
    assert_eq!(tls.server.options().verify, Verify::Peer);
    let environment = Environment { ssl: ssl[..1].to_vec(), ..environment };
    let said = Config::from_text("", "", &NodeArgs::default(), &environment).unwrap_err().render(false);
    assert!(said.contains("`key` is missing"), "{said}");
}
