//! Tests that are left out say so.

/// Says that something was left out, where whoever started the tests can read it.
pub fn skipped(what: &str) {
    println!("skipped: {what}");
    if let Some(notes) = std::env::var_os("STOCKADE_SKIP_NOTES")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(notes)
    {
        let _ = std::io::Write::write_all(&mut file, format!("skipped: {what}\n").as_bytes());
    }
}
