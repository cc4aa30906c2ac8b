//! Tests of the metadata with a journal that can be slow or fail.
