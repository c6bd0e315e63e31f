//! Module `socket`.
