//! The unix socket over which the command line talks to a running agent.
