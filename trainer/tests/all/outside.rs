//! Rivals of other programs: their scores are judged as if they were ours, and none is made up.

use std::fs::File;
use std::path::Path;

use polars_core::prelude::{Column, DataFrame, NamedFrom, Series};
use polars_io::SerReader;
use polars_io::prelude::{ParquetReader, ParquetWriter};
use stockade_trainer::corpus::Corpus;
use stockade_trainer::detectors::{Detector, Recorder, Seen, Vectors};
use stockade_trainer::evaluate::{Evaluation, Options, Plan, evaluate, numbered, pass_beside};

use crate::support::{corpus, plan};

fn planned() -> Plan {
    Plan::alone(Options::default().params)
}

/// The vectors of a made-up corpus, as the other program would read them.
fn vectors(opened: &Corpus, folder: &Path) -> DataFrame {
    let path = folder.join("web.parquet");
    for days in numbered(opened) {
        let recorder = Recorder::new(Vectors::create(&path).expect("a file"));
        pass_beside(&days, &planned(), vec![Box::new(recorder)]).expect("a pass");
    }
    ParquetReader::new(File::open(&path).expect("vectors")).finish().expect("a table")
}

/// What another program might answer: the sum of the coordinates of each event that is to be judged.
fn answers(vectors: &DataFrame) -> (Vec<(u32, u32)>, Vec<f64>) {
    let numbers = |name: &str| -> Vec<u32> {
        vectors.column(name).expect("a column").u32().expect("numbers").iter().flatten().collect()
    };
    let train: Vec<bool> = vectors.column("train").expect("a column").bool().expect("flags").iter().flatten().collect();
    let mut sums = vec![0.0; train.len()];
    for name in ["seq", "priv", "lineage", "file", "net", "fanout", "volume", "error"] {
        let values = vectors.column(name).expect("a coordinate").f64().expect("numbers");
        sums.iter_mut().zip(values.iter()).for_each(|(sum, value)| *sum += value.expect("a number"));
    }
    let all = numbers("day").into_iter().zip(numbers("place")).zip(sums).zip(train);
    all.filter(|(_, train)| !train).map(|(answer, _)| answer).unzip()
}

fn write(folder: &Path, keys: &[(u32, u32)], scores: &[f64]) {
    let (days, places): (Vec<u32>, Vec<u32>) = keys.iter().copied().unzip();
    let columns = [
        Series::new("day".into(), days),
        Series::new("place".into(), places),
        Series::new("another program".into(), scores.to_vec()),
    ];
    let mut frame = DataFrame::new(keys.len(), columns.into_iter().map(Column::from).collect()).expect("a table");
    let file = File::create(folder.join("web.parquet")).expect("a file");
    ParquetWriter::new(file).finish(&mut frame).expect("written");
}

fn evaluated(opened: &Corpus, scores: &Path) -> anyhow::Result<Evaluation> {
    let options = Options { ablations: false, outside: Some(scores.to_path_buf()), ..Options::default() };
    evaluate(opened, &options, "")
}

#[test]
fn scores_from_outside_are_judged_as_ours_are_and_a_missing_one_is_no_zero() {
    let (days, out, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    corpus(days.path(), "web", 3, &plan());
    let opened = Corpus::open(days.path(), None).expect("a corpus");
    let (keys, scores) = answers(&vectors(&opened, out.path()));

    write(back.path(), &keys, &scores);
    let evaluation = evaluated(&opened, back.path()).expect("an evaluation");
    let row = |name: &str| {
        let row = evaluation.rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"));
        serde_json::to_value(row).unwrap()
    };
    let (mut outside, mut ours) = (row("another program"), row("sum of surprise bits, no forest"));
    for row in [&mut outside, &mut ours] {
        row["name"] = "the same".into();
    }
    assert_eq!(outside, ours, "the same scores are the same row, whoever computed them");

    let refused = |keys: &[(u32, u32)], scores: &[f64]| {
        write(back.path(), keys, scores);
        format!("{:#}", evaluated(&opened, back.path()).expect_err("a refusal"))
    };
    let (last, most) = (keys.len() - 1, u32::MAX);
    assert!(refused(&keys[..last], &scores[..last]).contains("has no score of another program for"));
    let more: Vec<_> = keys.iter().copied().chain([(most, 0)]).collect();
    let told: Vec<f64> = scores.iter().copied().chain([0.0]).collect();
    assert!(refused(&more, &told).contains("they are of another corpus"));
    let twice: Vec<_> = keys.iter().copied().chain([keys[0]]).collect();
    assert!(refused(&twice, &told).contains("is scored twice"));
    let mut none = scores.clone();
    none[4] = f64::NAN;
    assert!(refused(&keys, &none).contains("another program has no finite score in row 4"));
    std::fs::remove_file(back.path().join("web.parquet")).unwrap();
    assert!(evaluated(&opened, back.path()).is_err(), "no file is not no rival");
}

#[test]
fn a_detector_whose_score_is_no_number_ends_the_evaluation() {
    struct Nothing;
    impl Detector for Nothing {
        fn name(&self) -> &str {
            "nothing"
        }
        fn learn(&mut self, _: &Seen) {}
        fn score(&mut self, _: &Seen) -> anyhow::Result<f64> {
            Ok(f64::NAN)
        }
    }
    let days = tempfile::tempdir().unwrap();
    corpus(days.path(), "web", 3, &plan());
    let opened = Corpus::open(days.path(), None).expect("a corpus");
    let host = &numbered(&opened)[0];
    let refused = pass_beside(host, &planned(), vec![Box::new(Nothing)]).err().expect("a refusal").to_string();
    assert!(refused.contains("nothing scores") && refused.contains("NaN"), "{refused}");
}
