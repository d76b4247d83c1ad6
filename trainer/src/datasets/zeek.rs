//! Zeek's conn.log: tab-separated, columns named by `#fields`, `-` for what is not set; labelled ones have a column `label`.

use std::path::Path;

use ndarray::Array2;

use super::{DatasetError, Lines, Table};

/// Numbers that are taken; what is not set is 0.
const NUMBERS: [&str; 9] = [
    "duration",
    "orig_bytes",
    "resp_bytes",
    "missed_bytes",
    "orig_pkts",
    "orig_ip_bytes",
    "resp_pkts",
    "resp_ip_bytes",
    "id.resp_p",
];
/// Columns that become one number a known value.
const STATES: [&str; 13] = ["S0", "S1", "S2", "S3", "SF", "REJ", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH"];
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "icmp"];

/// Loads a log.
///
/// # Errors
///
/// Names the line that is no connection.
pub fn load(path: &Path) -> Result<Table, DatasetError> {
    let (mut fields, mut flat, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for line in Lines::open(path)? {
        let (line, text) = line?;
        let wrong = |what| DatasetError::Line { path: path.to_path_buf(), line, what };
        if let Some(names) = text.strip_prefix("#fields") {
            fields = names.split_whitespace().map(str::to_owned).collect();
            continue;
        }
        if text.starts_with('#') || text.is_empty() {
            continue;
        }
        if fields.is_empty() {
            return Err(wrong("no line before it begins with #fields: is this a log of Zeek?".to_owned()));
        }
        // IoT-23 separates its last three columns by blanks.
        let values: Vec<&str> = text.split('\t').flat_map(|value| value.split("   ")).collect();
        if values.len() != fields.len() {
            return Err(wrong(format!("it has {} values for {} fields", values.len(), fields.len())));
        }
        let value = |name: &str| fields.iter().position(|field| field == name).and_then(|at| values.get(at)).copied();
        for name in NUMBERS {
            flat.push(number(value(name)).ok_or_else(|| wrong(format!("{name} is {:?}", value(name).unwrap_or(""))))?);
        }
        flat.extend(PROTOCOLS.map(|protocol| f64::from(u8::from(value("proto") == Some(protocol)))));
        flat.extend(STATES.map(|state| f64::from(u8::from(value("conn_state") == Some(state)))));
        labels.push(value("label").is_some_and(|label| label.trim().eq_ignore_ascii_case("malicious")));
    }
    let width = NUMBERS.len() + PROTOCOLS.len() + STATES.len();
    let shape = |error: ndarray::ShapeError| DatasetError::Format {
        path: path.to_path_buf(),
        wanted: "a conn.log",
        what: error.to_string(),
    };
    Table::checked(path, Array2::from_shape_vec((labels.len(), width), flat).map_err(shape)?, labels)
}

fn number(value: Option<&str>) -> Option<f64> {
    match value {
        None | Some("-" | "(empty)") => Some(0.0),
        Some(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_with_and_without_labels() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conn.log");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            load(&path)
        };
        let head = "#separator \\x09\n#fields\tts\tid.resp_p\tproto\tduration\torig_bytes\tconn_state";
        let plain = read(&format!("{head}\n1.0\t443\ttcp\t0.5\t-\tSF\n#close\n")).unwrap();
        assert_eq!((plain.labels.as_slice(), plain.rows[[0, 0]], plain.rows[[0, 8]]), (&[false][..], 0.5, 443.0));
        let labelled =
            format!("{head}\ttunnel_parents   label   detailed-label\n1.0\t23\ttcp\t-\t-\tS0\t-   Malicious   Scan\n");
        assert_eq!(read(&labelled).unwrap().positives(), 1);
        let refused = |text: &str| read(text).unwrap_err().to_string();
        assert!(refused("1\t2\n").contains("line 1: no line before it begins with #fields"));
        assert!(refused(&format!("{head}\n1.0\t443\n")).contains("line 3: it has 2 values for 6 fields"));
        assert!(refused(&format!("{head}\n1.0\t443\ttcp\tNaN\t-\tSF\n")).contains("duration is \"NaN\""));
        assert!(refused(&format!("{head}\n")).contains("no rows"));
    }
}
