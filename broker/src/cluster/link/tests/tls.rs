//! Nodes that show each other certificates.

use super::*;
use crate::tls::nodes::{NodeTls, NodeTlsFiles};
use crate::tools::ca::{self, Authority};
use std::path::Path;

fn certified(folder: &Path, id: u64, file: &str) -> LinkIdentity {
    let name = format!("rabbit@{id}");
    let files = NodeTlsFiles {
        cert: folder.join(format!("{file}.pem")),
        key: folder.join(format!("{file}.key")),
        ca: folder.join(ca::CA_CERT),
    };
    LinkIdentity { tls: Some(Arc::new(NodeTls::load(&files, &name).unwrap())), ..identity(id) }
}

fn folder(nodes: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_make(folder.path()).unwrap();
    nodes.iter().for_each(|node| drop(authority.make(node, &[]).unwrap()));
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_certificates_of_one_authority_talk_by_tls() {
    let folder = folder(&["rabbit@1", "rabbit@2"]);
    let a = node_with(certified(folder.path(), 1, "rabbit@1"), patient(), 0).await;
    let b = node_with(certified(folder.path(), 2, "rabbit@2"), patient(), 0).await;
    introduce(&[&a, &b]);
    a.up(&b).await;
    b.up(&a).await;
    let large = Bytes::from(vec![9; 3 << 20]);
    a.links.send(b.id, Lane::Data, Kind::Forward, Bytes::from_static(b"small")).unwrap();
    a.links.send(b.id, Lane::Data, Kind::Forward, large.clone()).unwrap();
    until("both are there", || b.notes.frames().len() == 2).await;
    assert!(b.notes.frames()[1] == large);
    let answer = b.links.call(a.id, Lane::Control, Kind::Raft, large.clone(), PATIENCE).await.unwrap();
    assert!(answer == large);
    // By an address, too.
    let member = Kind::Member;
    a.links.call_address(&b.address, member, Bytes::new(), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn tls_on_one_side_only_is_told_to_both() {
    let folder = folder(&["rabbit@1"]);
    let a = node_with(certified(folder.path(), 1, "rabbit@1"), patient(), 0).await;
    let b = node(2).await;
    introduce(&[&a, &b]);
    until("both have tried", || a.error(&b).is_some() && b.error(&a).is_some()).await;
    for said in [a.error(&b).unwrap(), b.error(&a).unwrap()] {
        assert!(said.contains("set [cluster.tls] on all nodes, or on none"), "{said}");
    }
}

#[tokio::test]
async fn certificates_of_others_are_refused() {
    let (ours, theirs) = (folder(&["rabbit@1"]), folder(&["rabbit@2"]));
    let a = node_with(certified(ours.path(), 1, "rabbit@1"), patient(), 0).await;
    let b = node_with(certified(theirs.path(), 2, "rabbit@2"), patient(), 0).await;
    introduce(&[&a, &b]);
    until("both have tried", || a.error(&b).is_some() && b.error(&a).is_some()).await;
    for said in [a.error(&b).unwrap(), b.error(&a).unwrap()] {
        assert!(said.contains("was not signed by this cluster's authority"), "{said}");
    }
}

#[tokio::test]
async fn a_node_with_the_certificate_of_another_is_refused() {
    let folder = folder(&["rabbit@1", "rabbit@3"]);
    let a = node_with(certified(folder.path(), 1, "rabbit@1"), patient(), 0).await;
    let third = certified(folder.path(), 3, "rabbit@3");
    let b = node_with(LinkIdentity { tls: third.tls, ..identity(2) }, patient(), 0).await;
    introduce(&[&a, &b]);
    until("both have tried", || a.error(&b).is_some() && b.error(&a).is_some()).await;
    for said in [a.error(&b).unwrap(), b.error(&a).unwrap()] {
        assert_eq!(said, "rabbit@2 shows the certificate of rabbit@3");
    }
}

#[test]
fn a_certificate_of_another_node_is_found_at_the_start() {
    let folder = folder(&["rabbit@1"]);
    let files = NodeTlsFiles {
        cert: folder.path().join("rabbit@1.pem"),
        key: folder.path().join("rabbit@1.key"),
        ca: folder.path().join(ca::CA_CERT),
    };
    let error = NodeTls::load(&files, "rabbit@2").unwrap_err();
    assert!(
        error.to_string().ends_with("is the certificate of rabbit@1, and this node is rabbit@2"),
        "{error}"
    );
}
