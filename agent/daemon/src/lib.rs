//! Adapters and spines of the agent.
