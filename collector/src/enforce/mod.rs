//! Decisions → deny entries in kernel maps.
