//! ADBench's `.npz`: `X.npy` of whatever number type, `y.npy` of 0 and 1.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ndarray::{Array1, Array2};
use ndarray_npy::{NpzReader, ReadNpzError, ReadableElement};

use super::{DatasetError, Table};

/// Loads a set.
///
/// # Errors
///
/// When the file is missing or no such archive, or holds NaN.
pub fn load(path: &Path) -> Result<Table, DatasetError> {
    let file = File::open(path).map_err(|source| DatasetError::File { path: path.to_path_buf(), source })?;
    let wrong = |what: String| DatasetError::Format { path: path.to_path_buf(), wanted: "an archive of ADBench", what };
    let mut archive = NpzReader::new(file).map_err(|error| wrong(error.to_string()))?;
    let rows = matrix(&mut archive).map_err(|error| wrong(format!("X: {error}")))?;
    let labels = labels(&mut archive).map_err(|error| wrong(format!("y: {error}")))?;
    if let Some(other) = labels.iter().find(|label| **label != 0 && **label != 1) {
        return Err(wrong(format!("a label is {other}, not 0 or 1")));
    }
    Table::checked(path, rows, labels.iter().map(|label| *label == 1).collect())
}

type Read2 = Result<Array2<f64>, ReadNpzError>;

/// The first number type that fits the file.
fn matrix(archive: &mut NpzReader<File>) -> Read2 {
    as_f64::<f64, File>(archive, f64::from)
        .or_else(|_| as_f64::<f32, File>(archive, f64::from))
        .or_else(|_| as_f64::<u8, File>(archive, f64::from))
        .or_else(|_| as_f64::<i16, File>(archive, f64::from))
        .or_else(|_| as_f64::<i32, File>(archive, f64::from))
        .or_else(|_| as_f64::<i64, File>(archive, |number| number as f64))
}

fn as_f64<T: ReadableElement + Copy, R: Read + std::io::Seek>(archive: &mut NpzReader<R>, wide: fn(T) -> f64) -> Read2 {
    let read: Array2<T> = archive.by_name("X")?;
    Ok(read.mapv(wide))
}

fn labels(archive: &mut NpzReader<File>) -> Result<Array1<i64>, ReadNpzError> {
    let narrow = |archive: &mut NpzReader<File>| {
        let read: Array1<u8> = archive.by_name("y")?;
        Ok(read.mapv(i64::from))
    };
    archive.by_name("y").or_else(|_| narrow(archive))
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;
    use ndarray_npy::NpzWriter;

    use super::*;

    fn written(rows: &Array2<f64>, labels: &[i64]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = NpzWriter::new(file.reopen().unwrap());
        archive.add_array("X", rows).unwrap();
        archive.add_array("y", &Array1::from(labels.to_vec())).unwrap();
        archive.finish().unwrap();
        file
    }

    #[test]
    fn a_set_is_read_and_a_damaged_one_is_refused() {
        let good = written(&arr2(&[[1.0, 2.0], [3.0, 4.0]]), &[0, 1]);
        let table = load(good.path()).unwrap();
        assert_eq!((table.rows[[1, 0]], table.positives()), (3.0, 1));
        let refused = |file: &tempfile::NamedTempFile| load(file.path()).unwrap_err().to_string();
        assert!(refused(&written(&arr2(&[[1.0], [f64::NAN]]), &[0, 1])).contains("row 1, column 0 is NaN"));
        assert!(refused(&written(&arr2(&[[1.0], [2.0]]), &[0])).contains("2 rows, but 1 labels"));
        assert!(refused(&written(&arr2(&[[1.0]]), &[7])).contains("a label is 7"));
        assert!(refused(&written(&Array2::zeros((0, 3)), &[])).contains("no rows"));
        let bytes = std::fs::read(good.path()).unwrap();
        std::fs::write(good.path(), &bytes[..bytes.len() / 2]).unwrap();
        assert!(refused(&good).contains("is not an archive of ADBench"));
    }
}
