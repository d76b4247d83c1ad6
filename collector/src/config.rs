//! Configuration: TOML, unknown keys refused with the nearest name.
