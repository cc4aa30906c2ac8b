//! Tests of following names, against a small name server on loopback.
