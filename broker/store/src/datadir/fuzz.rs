//! Body of a fuzz target: the file that says whose data it is.

use super::{FORMAT_VERSION, Identity};

/// `node.toml`.
pub fn node_toml(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    match Identity::parse(&text) {
        Ok(identity) if identity.format_version <= FORMAT_VERSION => {
            assert_eq!(Identity::parse(&identity.to_text()), Ok(identity));
        }
        Ok(_) => {}
        Err((line, problem)) => {
            assert!(line <= text.lines().count(), "{problem}");
            assert!(!problem.is_empty());
        }
    }
}
