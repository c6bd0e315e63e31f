//! Module `compose`.
