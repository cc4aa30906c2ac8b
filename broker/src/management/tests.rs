//! The API against a running node.
