//! Module `engine`.
