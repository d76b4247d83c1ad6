//! The table of the coordinates is in the order of their numbers, and the documentation page is what it says.

use std::path::Path;

use model::Coordinate;
use model::schema::{SCHEMA, page};

#[test]
fn the_table_has_every_coordinate_at_its_place() {
    assert!(SCHEMA.iter().map(|row| row.coordinate).eq(Coordinate::ALL));
    let mut names: Vec<&str> = SCHEMA.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), SCHEMA.len(), "no two have one name");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    assert!(SCHEMA.iter().all(|row| root.join(row.computed).exists()), "each is computed where the table says");
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/coordinates.md");
    if std::env::var_os("STOCKADE_BLESS").is_some() {
        std::fs::write(&path, page()).expect("blessed");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(page(), written, "if this is meant: STOCKADE_BLESS=1 cargo test -p model --test coordinates");
}
