//! Module `host`.
