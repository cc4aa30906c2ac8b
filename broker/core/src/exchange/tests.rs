//! Tests of the routing tables against naive references.
