//! Named bytes.
