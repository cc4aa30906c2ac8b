//! Tests of the haproxy.cfg reader.
