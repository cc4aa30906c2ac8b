//! The official client over TLS, with a password and with a certificate.

#[path = "../../../broker/src/tls/testing.rs"]
mod certificates;

use harness::node::{Node, Setup, free_port};
use harness::scratch::Scratch;
use harness::{Needs, clients, ready};

#[test]
fn clients_log_in_over_tls_with_a_password_or_a_certificate() {
    if !ready("tls", &[Needs::Python]) {
        return;
    }
    let scratch = Scratch::new("broker-tls").unwrap();
    let write = |name: &str, text: &str| std::fs::write(scratch.path().join(name), text).unwrap();
    let (certificate, key) = certificates::server();
    write("ca", &certificates::authority().0);
    write("cert", &certificate);
    write("key", &key);
    for name in ["alice", "nobody"] {
        let (certificate, key) = certificates::client(name);
        write(name, &certificate.pem());
        write(&format!("{name}.key"), &key);
    }
    write("enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n");
    let (at, port) = (scratch.path().display(), free_port().unwrap());
    let ours = format!(
        "[amqp]\ndefault_user = 'CN=alice,O=client'\ndefault_pass = 'secret'\n\
         auth_mechanisms = ['PLAIN', 'EXTERNAL']\n[amqp.tls]\nlisten = '127.0.0.1:{port}'\n\
         cert = '{at}/cert'\nkey = '{at}/key'\nca = '{at}/ca'\nverify = 'peer'\n"
    );
    let theirs = format!(
        "default_user = CN=alice,O=client\ndefault_pass = secret\nauth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = EXTERNAL\nlisteners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.certfile = {at}/cert\nssl_options.keyfile = {at}/key\nssl_options.cacertfile = {at}/ca\n\
         ssl_options.verify = verify_peer\n"
    );
    // The settings live as long as the test program, as those of the other tests do.
    let setup = Setup::configured(ours.leak(), theirs.leak());
    let node = Node::start_with(scratch.path(), &setup).unwrap();
    clients::run("secure", &[&port.to_string(), scratch.path().to_str().unwrap()]).unwrap();
    drop(node);
    scratch.passed();
}
