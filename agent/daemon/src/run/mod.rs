//! Module `run`.
