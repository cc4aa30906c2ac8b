//! Tests of whole connections on loopback.
