//! Module `trigger`.
