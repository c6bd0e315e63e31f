//! Every decision of the agent; pure.
