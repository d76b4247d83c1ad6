//! Plots as SVG: ROC, precision and recall, a day's scores with the attack marked, time to finding and denial, convergence.

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, IntoDrawingArea, LineSeries, PathElement, RGBColor, Rectangle, SVGBackend, WHITE,
};

use crate::evaluate::{Evaluation, FACTS, FULL};

/// Colours that colour-blind people tell apart (Okabe and Ito, 2008).
static COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];
const SIZE: (u32, u32) = (720, 420);

type Lines = Vec<(String, Vec<(f64, f64)>)>;

struct Axes<'a> {
    title: String,
    x: (&'a str, f64, f64),
    y: (&'a str, f64, f64),
}

/// Every plot that the evaluation has data for.
pub fn all(evaluation: &Evaluation) -> anyhow::Result<Vec<(String, String)>> {
    let mut plots = vec![
        ("roc.svg".to_owned(), roc(evaluation)?),
        ("precision-recall.svg".to_owned(), precision_recall(evaluation)?),
        ("time-to-denial.svg".to_owned(), time_to_denial(evaluation)?),
        ("convergence.svg".to_owned(), convergence(evaluation)?),
    ];
    if let Some(timeline) = timeline(evaluation)? {
        plots.push(("timeline.svg".to_owned(), timeline));
    }
    Ok(plots)
}

fn titled(what: &str, evaluation: &Evaluation) -> String {
    let short = |hash: &str| hash.get(..8).unwrap_or(hash).to_owned();
    format!("{what} (commit {}, data {}, seed {})", short(&evaluation.commit), short(&evaluation.data), evaluation.seed)
}

fn compared(evaluation: &Evaluation, point: impl Fn(&(f64, f64, f64)) -> (f64, f64)) -> Lines {
    let shown = [FULL, FACTS, "sum of surprise bits, no forest", "STIDE, n = 3", "our batch forest, raw features"];
    let rows = evaluation.rows.iter().filter(|row| shown.contains(&row.name.as_str()));
    rows.map(|row| (row.name.clone(), row.curve.iter().map(&point).collect())).collect()
}

fn roc(evaluation: &Evaluation) -> anyhow::Result<String> {
    let lines = compared(evaluation, |(false_share, recall, _)| (*false_share, *recall));
    let from_origin = |(name, mut line): (String, Vec<(f64, f64)>)| {
        line.insert(0, (0.0, 0.0));
        (name, line)
    };
    let axes = Axes {
        title: titled("ROC", evaluation),
        x: ("share of benign units alarmed", 0.0, 1.0),
        y: ("share of attacks found", 0.0, 1.0),
    };
    draw(&axes, lines.into_iter().map(from_origin).collect(), &[])
}

fn precision_recall(evaluation: &Evaluation) -> anyhow::Result<String> {
    let lines = compared(evaluation, |(_, recall, precision)| (*recall, *precision));
    let axes = Axes {
        title: titled("Precision and recall", evaluation),
        x: ("share of attacks found", 0.0, 1.0),
        y: ("share of alarms that are attacks", 0.0, 1.0),
    };
    draw(&axes, lines, &[])
}

/// Share of attacks that are over by then, against real seconds.
fn time_to_denial(evaluation: &Evaluation) -> anyhow::Result<String> {
    let all = evaluation.attacks.len().max(1) as f64;
    let line = |name: &str, times: Vec<Option<f64>>| {
        let mut times: Vec<f64> = times.into_iter().flatten().map(|seconds| seconds.max(1e-3).log10()).collect();
        times.sort_by(f64::total_cmp);
        let steps = times.iter().enumerate().flat_map(|(n, at)| [(*at, n as f64 / all), (*at, (n + 1) as f64 / all)]);
        (name.to_owned(), steps.collect())
    };
    let lines = vec![
        line("finding", evaluation.attacks.iter().map(|attack| attack.seconds_to_finding).collect()),
        line("would-be denial", evaluation.attacks.iter().map(|attack| attack.seconds_to_denial).collect()),
        line("novelty told", evaluation.attacks.iter().map(|attack| attack.seconds_to_novelty).collect()),
    ];
    let axes = Axes {
        title: titled("Time to denial", evaluation),
        x: ("log10 of real seconds since the first operation", -3.0, 4.0),
        y: ("share of attacks", 0.0, 1.0),
    };
    draw(&axes, lines, &[])
}

/// New facts an hour while the baselines are learnt.
fn convergence(evaluation: &Evaluation) -> anyhow::Result<String> {
    let line = |(host, hours): (&String, &Vec<u32>)| {
        let points = hours.iter().enumerate().map(|(hour, new)| (hour as f64 / 24.0, (f64::from(*new) + 1.0).log10()));
        (host.clone(), points.collect())
    };
    let lines: Lines = evaluation.hosts.iter().zip(&evaluation.new_facts).map(line).collect();
    let days = lines.iter().map(|(_, line)| line.len() as f64 / 24.0).fold(1.0, f64::max);
    let most = highest(&lines).max(1.0);
    let axes = Axes {
        title: titled("Convergence of baselines", evaluation),
        x: ("days of training", 0.0, days),
        y: ("log10 of new facts an hour, plus one", 0.0, most),
    };
    draw(&axes, lines, &[])
}

fn timeline(evaluation: &Evaluation) -> anyhow::Result<Option<String>> {
    let Some((day, minutes)) = &evaluation.timeline else { return Ok(None) };
    let hour = |minute: usize| minute as f64 / 60.0;
    let points =
        |of: fn(&(f64, f64)) -> f64| minutes.iter().enumerate().map(|(at, pair)| (hour(at), of(pair))).collect();
    let mut lines: Lines =
        vec![("benign".to_owned(), points(|pair| pair.0)), ("attack".to_owned(), points(|pair| pair.1))];
    let full = evaluation.rows.iter().find(|row| row.name == FULL);
    let threshold = full.and_then(|row| row.at.get(row.at.len() / 2)).map(|at| at.threshold.max(0.0));
    if let Some(threshold) = threshold {
        lines.push(("threshold".to_owned(), vec![(0.0, threshold), (24.0, threshold)]));
    }
    let marked: Vec<(f64, f64)> =
        minutes.iter().enumerate().filter(|(_, pair)| pair.1 > 0.0).map(|(at, _)| (hour(at), hour(at + 1))).collect();
    let most = highest(&lines).max(1.0) * 1.05;
    let axes = Axes {
        title: titled(&format!("Scores of {day}"), evaluation),
        x: ("hour of the day", 0.0, 24.0),
        y: ("episode score, bits", 0.0, most),
    };
    draw(&axes, lines, &marked).map(Some)
}

fn highest(lines: &Lines) -> f64 {
    lines.iter().flat_map(|(_, line)| line).map(|(_, y)| *y).fold(0.0, f64::max)
}

fn draw(axes: &Axes, lines: Lines, marked: &[(f64, f64)]) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        chart(&area, axes, lines, marked).map_err(|error| anyhow!("cannot draw {}: {error}", axes.title))?;
        area.present().map_err(|error| anyhow!("cannot draw {}: {error}", axes.title))?;
    }
    Ok(svg)
}

type Failed = Box<dyn std::error::Error>;

fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    axes: &Axes,
    lines: Lines,
    marked: &[(f64, f64)],
) -> Result<(), Failed> {
    let failed = |error: plotters::drawing::DrawingAreaErrorKind<std::io::Error>| Failed::from(error.to_string());
    area.fill(&WHITE).map_err(failed)?;
    let ((x, left, right), (y, low, high)) = (axes.x, axes.y);
    let mut chart = ChartBuilder::on(area)
        .caption(&axes.title, ("sans-serif", 15))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(left..right, low..high)
        .map_err(failed)?;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw().map_err(failed)?;
    let shade = COLOURS[1].mix(0.2).filled();
    let boxes = marked.iter().map(|(from, to)| Rectangle::new([(*from, low), (*to, high)], shade));
    chart.draw_series(boxes).map_err(failed)?;
    for ((name, line), colour) in lines.into_iter().zip(COLOURS.iter().cycle()) {
        let clipped = line.into_iter().map(|(x, y)| (x.clamp(left, right), y.clamp(low, high)));
        chart
            .draw_series(LineSeries::new(clipped, colour.stroke_width(2)))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(COLOURS[0]).draw().map_err(failed)
}
