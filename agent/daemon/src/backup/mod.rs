//! Module `backup`.
