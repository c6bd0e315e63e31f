//! Module `git`.
