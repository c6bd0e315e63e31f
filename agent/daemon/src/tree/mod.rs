//! Module `tree`.
