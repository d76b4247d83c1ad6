//! NSL-KDD: 41 features, the name of the attack or `normal`, and a difficulty that is no feature.
//!
//! The three categorical features become one number a value (one-hot), with the values of the training part; a value that is
//! only in the test is none of them. `num_outbound_cmds` is always zero and stays.

use std::collections::BTreeSet;
use std::path::Path;

use ndarray::Array2;

use super::{DatasetError, Lines, Table};

const FIELDS: usize = 43;
const FEATURES: usize = 41;
/// protocol_type, service, flag.
const CATEGORIES: [usize; 3] = [1, 2, 3];

type Record = (Vec<f64>, [String; 3], bool);

/// Loads the training part and the test.
///
/// # Errors
///
/// Names the file and line that is no such record.
pub fn load(train: &Path, test: &Path) -> Result<(Table, Table), DatasetError> {
    let (training, testing) = (records(train)?, records(test)?);
    let mut values: [BTreeSet<&str>; 3] = Default::default();
    for (_, categories, _) in &training {
        values.iter_mut().zip(categories).for_each(|(values, value)| {
            values.insert(value);
        });
    }
    Ok((table(train, &training, &values)?, table(test, &testing, &values)?))
}

fn records(path: &Path) -> Result<Vec<Record>, DatasetError> {
    let mut records = Vec::new();
    for line in Lines::open(path)? {
        let (line, text) = line?;
        let wrong = |what| DatasetError::Line { path: path.to_path_buf(), line, what };
        let fields: Vec<&str> = text.split(',').collect();
        if fields.len() != FIELDS {
            return Err(wrong(format!("it has {} fields, not {FIELDS}", fields.len())));
        }
        let numbers = (0..FEATURES).filter(|at| !CATEGORIES.contains(at)).map(|at| {
            let number: f64 = fields[at].parse().map_err(|_| wrong(format!("field {} is {:?}", at + 1, fields[at])))?;
            if number.is_finite() { Ok(number) } else { Err(wrong(format!("field {} is {number}", at + 1))) }
        });
        let numbers = numbers.collect::<Result<Vec<f64>, _>>()?;
        records.push((numbers, CATEGORIES.map(|at| fields[at].to_owned()), fields[FEATURES] != "normal"));
    }
    Ok(records)
}

fn table(path: &Path, records: &[Record], values: &[BTreeSet<&str>; 3]) -> Result<Table, DatasetError> {
    let width = FEATURES - CATEGORIES.len() + values.iter().map(BTreeSet::len).sum::<usize>();
    let mut flat = Vec::with_capacity(records.len() * width);
    for (numbers, categories, _) in records {
        flat.extend_from_slice(numbers);
        for (values, own) in values.iter().zip(categories) {
            flat.extend(values.iter().map(|value| f64::from(u8::from(value == own))));
        }
    }
    let shape = |error: ndarray::ShapeError| DatasetError::Format {
        path: path.to_path_buf(),
        wanted: "a part of NSL-KDD",
        what: error.to_string(),
    };
    let rows = Array2::from_shape_vec((records.len(), width), flat).map_err(shape)?;
    Table::checked(path, rows, records.iter().map(|(_, _, attack)| *attack).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(protocol: &str, bytes: &str, label: &str) -> String {
        let zeros = ["0"; 36].join(",");
        format!("0,{protocol},http,SF,{bytes},{zeros},{label},21\n")
    }

    #[test]
    fn categories_become_columns_and_bad_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (train, test) = (folder.path().join("train"), folder.path().join("test"));
        std::fs::write(&train, line("tcp", "5", "normal") + &line("udp", "7", "neptune")).unwrap();
        std::fs::write(&test, line("icmp", "9", "smurf")).unwrap();
        let (training, testing) = load(&train, &test).unwrap();
        assert_eq!(training.rows.dim(), (2, 38 + 4));
        assert_eq!((training.positives(), testing.positives()), (1, 1));
        assert_eq!(testing.rows.row(0).sum(), 9.0 + 2.0, "an unknown protocol is none of the known ones");
        let refused = |text: String| {
            std::fs::write(&test, text).unwrap();
            load(&train, &test).unwrap_err().to_string()
        };
        assert!(refused(line("tcp", "5", "normal") + "1,2\n").contains("line 2: it has 2 fields, not 43"));
        assert!(refused(line("tcp", "NaN", "normal")).contains("line 1: field 5 is NaN"));
        assert!(refused(line("tcp", "x", "normal")).contains("line 1: field 5 is \"x\""));
        assert!(refused(String::new()).contains("no rows"));
    }
}
