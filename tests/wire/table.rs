//! The table of rules and tests in `tests/README.md` names tests that exist.

use std::path::Path;

#[test]
fn every_test_that_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/README.md")).unwrap();
    let named: Vec<(&str, &str)> = table.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 50);
    for (file, test) in named {
        let folder = if file.starts_with("wire") { "tests" } else { "src/dialect" };
        let path = root.join(folder).join(format!("{file}.rs"));
        let code =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(code.contains(&format!("fn {test}(")), "{file}.rs has no test {test}");
    }
}
