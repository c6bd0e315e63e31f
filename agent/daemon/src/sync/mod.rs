//! Module `sync`.
