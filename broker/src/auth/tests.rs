//! Known hashes, SASL responses, and what is remembered.

use super::*;
use broker_core::meta::HashAlgorithm;

fn user(name: &str, password: Option<PasswordHash>) -> User {
    User { name: name.into(), password, tags: Vec::new() }
}

/// Made by hand: base64(salt ‖ digest(salt ‖ "secret")).
fn rabbit_hash(algorithm: HashAlgorithm) -> PasswordHash {
    use base64::Engine as _;
    let salt = [1, 2, 3, 4];
    let input: Vec<u8> = salt.iter().copied().chain(*b"secret").collect();
    let digest: Vec<u8> = match algorithm {
        HashAlgorithm::Sha256 => Sha256::digest(&input).to_vec(),
        HashAlgorithm::Sha512 => sha2::Sha512::digest(&input).to_vec(),
        _ => md5::Md5::digest(&input).to_vec(),
    };
    let octets: Vec<u8> = salt.iter().copied().chain(digest).collect();
    PasswordHash { algorithm, hash: base64::engine::general_purpose::STANDARD.encode(octets) }
}

#[test]
fn rabbitmq_hashes_verify() {
    for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha512, HashAlgorithm::Md5] {
        let stored = rabbit_hash(algorithm);
        assert!(hash::is_well_formed(&stored));
        assert!(verify(&stored, b"secret"), "{algorithm:?}");
        assert!(!verify(&stored, b"Secret"), "{algorithm:?}");
        assert!(!verify(&stored, b""), "{algorithm:?}");
    }
}

#[test]
fn a_hash_recorded_from_rabbitmq_verifies() {
    // Exported by RabbitMQ 3.10.8 after `rabbitmqctl add_user guest guest`.
    let stored = PasswordHash {
        algorithm: HashAlgorithm::Sha256,
        hash: "ctiLbbWNiKRbKmWs2WXyu8/vm5oMyAupzMm64Bi9h5oaiY+6".to_owned(),
    };
    assert!(verify(&stored, b"guest"));
    assert!(!verify(&stored, b"guest "));
}

#[test]
fn argon2_hashes_are_salted_and_verify() {
    let first = hash_password(b"correct horse").unwrap();
    let second = hash_password(b"correct horse").unwrap();
    assert_ne!(first, second);
    assert!(first.hash.starts_with("$argon2id$v=19$m=12288,t=3,p=1$"), "{}", first.hash);
    assert!(verify(&first, b"correct horse") && verify(&second, b"correct horse"));
    assert!(!verify(&first, b"wrong"));
    assert!(hash::is_well_formed(&first));
}

#[test]
fn damaged_and_expensive_hashes_never_fit() {
    let with = |algorithm, hash: &str| PasswordHash { algorithm, hash: hash.to_owned() };
    for stored in [
        with(HashAlgorithm::Sha256, ""),
        with(HashAlgorithm::Sha256, "AAA"),
        with(HashAlgorithm::Sha256, "!!!!"),
        with(HashAlgorithm::Argon2id, "$argon2id$nonsense"),
        // Would take 4 GiB.
        with(
            HashAlgorithm::Argon2id,
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b/dWRWJTmaaJObG",
        ),
    ] {
        assert!(!verify(&stored, b"secret"), "{}", stored.hash);
    }
}

#[test]
fn plain_responses() {
    let read = |response: &[u8]| Mechanism::Plain.credentials(response);
    assert_eq!(read(b"\0guest\0pass"), Some(Credentials::new("guest", "pass")));
    assert_eq!(read(b"other\0guest\0pass"), None, "nobody acts for somebody else");
    assert_eq!(read(b"\0guest\0"), Some(Credentials::new("guest", "")));
    for malformed in [&b""[..], b"guest", b"\0guest", b"\0a\0b\0c", b"\0\xff\0b"] {
        assert_eq!(read(malformed), None, "{malformed:?}");
    }
}

#[test]
fn amqplain_responses() {
    let mut table = amqp::table::FieldTable::new();
    table.insert("LOGIN", "guest");
    table.insert("PASSWORD", "pass");
    let read = |response: &[u8]| Mechanism::AmqPlain.credentials(response);
    assert_eq!(read(&table.to_bytes()), Some(Credentials::new("guest", "pass")));
    table.insert("PASSWORD", 7);
    assert_eq!(read(&table.to_bytes()), None);
    assert_eq!(read(b"\x05LOGINS\0\0"), None);
}

#[test]
fn secrets_do_not_show() {
    let shown = format!("{:?} {:?}", Credentials::new("guest", "hunter2"), rabbit_hash(HashAlgorithm::Md5));
    assert!(!shown.contains("hunter2") && !shown.contains(&rabbit_hash(HashAlgorithm::Md5).hash), "{shown}");
}

#[tokio::test]
async fn login_checks_remembers_and_forgets() {
    let authenticator = Arc::new(Authenticator::new(LoopbackUsers(vec!["guest".to_owned()])));
    let here = IpAddr::from([127, 0, 0, 1]);
    let there = IpAddr::from([192, 0, 2, 7]);
    let stored = hash_password(b"pw").unwrap();
    let right = Credentials::new("guest", "pw");
    let known = || Some(user("guest", Some(stored.clone())));
    assert!(!authenticator.is_proven(&stored, &right));
    assert_eq!(authenticator.login(known(), &right, here).await.map(|user| user.name), Ok("guest".into()));
    assert!(authenticator.is_proven(&stored, &right));
    assert_eq!(authenticator.login(known(), &right, there).await, Err(Refusal::NotLoopback));
    let wrong = Credentials::new("guest", "no");
    assert_eq!(authenticator.login(known(), &wrong, here).await, Err(Refusal::Credentials));
    assert!(!authenticator.is_proven(&stored, &wrong));
    // A changed password is not remembered.
    let changed = hash_password(b"other").unwrap();
    let user_changed = Some(user("guest", Some(changed)));
    assert_eq!(authenticator.login(user_changed, &right, here).await, Err(Refusal::Credentials));
    // Unknown users and users without a password.
    assert_eq!(authenticator.login(None, &right, here).await, Err(Refusal::Credentials));
    assert_eq!(authenticator.login(Some(user("guest", None)), &right, here).await, Err(Refusal::Credentials));
}

#[test]
fn memory_of_logins_is_bounded() {
    let authenticator = Authenticator::new(LoopbackUsers(Vec::new()));
    let stored = rabbit_hash(HashAlgorithm::Sha256);
    for number in 0..REMEMBERED + 10 {
        authenticator.remember(&stored, &Credentials::new(number.to_string(), "secret"));
    }
    assert!(authenticator.proven.lock().len() <= REMEMBERED);
}

#[test]
fn mapped_addresses_are_loopback() {
    assert!(is_loopback("::ffff:127.0.0.1".parse().unwrap()));
    assert!(is_loopback("::1".parse().unwrap()));
    assert!(!is_loopback("::ffff:10.0.0.1".parse().unwrap()));
}
