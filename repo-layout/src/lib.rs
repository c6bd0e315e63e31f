//! From a repository tree and a server name to its stack set.
