//! Where findings and decisions go.
