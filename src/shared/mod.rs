//! What lives in a segment.
