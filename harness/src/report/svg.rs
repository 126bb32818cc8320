//! The timeline: everything that happened in a run on one time axis, as an inline SVG.
//!
//! Lanes from top to bottom: violations, rates, latency percentiles (log axis), memory, health. Fault bands run through all
//! of them; the recovery budget after each is hatched. Colours are Okabe and Ito's, which colour-blind readers can tell.

use std::fmt::Write as _;

use super::text::{bytes, clock, escape, millis};
use super::{RunReport, SecondPoint};

/// Coordinates of the picture's frame, in units of the view box.
pub const WIDTH: f64 = 1200.0;
pub const LEFT: f64 = 150.0;
pub const RIGHT: f64 = 18.0;
const GAP: f64 = 30.0;
/// Most points that a lane draws; longer runs are drawn in buckets of several seconds.
const POINTS_MAX: usize = 600;

const TOP: f64 = 46.0;
const RATE: f64 = 150.0;
const LATENCY: f64 = 150.0;
const MEMORY: f64 = 76.0;
const STRIP: f64 = 20.0;

/// Series that the memory lane draws.
const MEMORY_SERIES: &str = "runtime.anonymous_bytes";

/// The picture of a run.
pub fn timeline(report: &RunReport) -> String {
    let mut canvas = Canvas::new(report);
    let rate = canvas.lane(RATE);
    let latency = canvas.lane(LATENCY);
    let memory =
        report.samples.get(MEMORY_SERIES).filter(|s| !s.is_empty()).map(|s| (canvas.lane(MEMORY), s));
    let subjects = subjects(report);
    let health = (!subjects.is_empty()).then(|| canvas.lane(STRIP * subjects.len() as f64));
    let bottom = canvas.cursor - GAP;

    canvas.bands(report, bottom);
    canvas.time_axis(bottom);
    canvas.rates(&rate);
    canvas.latencies(&latency, report);
    if let Some((lane, series)) = memory {
        canvas.memory(&lane, series);
    }
    if let Some(lane) = health {
        canvas.health(&lane, report, &subjects);
    }
    canvas.violations(report, bottom);
    canvas.finish(bottom + 34.0)
}

/// Seconds or, for long runs, buckets of several: rates are means, percentiles the worst of the bucket.
pub fn buckets(seconds: &[SecondPoint]) -> (u32, Vec<SecondPoint>) {
    let width = seconds.len().div_ceil(POINTS_MAX).max(1);
    let merged = seconds.chunks(width).map(|chunk| {
        let n = chunk.len() as u64;
        let mean = |of: fn(&SecondPoint) -> u64| (chunk.iter().map(of).sum::<u64>() + n / 2) / n;
        let worst = |of: fn(&SecondPoint) -> Option<f64>| chunk.iter().filter_map(of).reduce(f64::max);
        SecondPoint {
            second: chunk[0].second,
            target: chunk.iter().map(|s| s.target).sum::<f64>() / n as f64,
            ok: mean(|s| s.ok),
            fail: mean(|s| s.fail),
            unknown: mean(|s| s.unknown),
            dropped: mean(|s| s.dropped),
            p50_ms: worst(|s| s.p50_ms),
            p95_ms: worst(|s| s.p95_ms),
            p99_ms: worst(|s| s.p99_ms),
        }
    });
    (width as u32, merged.collect())
}

/// Health subjects in the order of their first change.
fn subjects(report: &RunReport) -> Vec<&str> {
    let mut subjects: Vec<&str> = Vec::new();
    for change in &report.health {
        if !subjects.contains(&change.subject.as_str()) {
            subjects.push(&change.subject);
        }
    }
    subjects
}

struct Lane {
    top: f64,
    height: f64,
}

impl Lane {
    /// A share of the lane's height, 0 at its bottom, as a coordinate.
    fn y(&self, share: f64) -> f64 {
        self.top + self.height * (1.0 - share.clamp(0.0, 1.0))
    }
}

struct Canvas {
    svg: String,
    span_s: f64,
    cursor: f64,
    width_s: u32,
    points: Vec<SecondPoint>,
}

impl Canvas {
    fn new(report: &RunReport) -> Self {
        let (width_s, points) = buckets(&report.seconds);
        Canvas { svg: String::new(), span_s: report.span_s(), cursor: TOP, width_s, points }
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.svg.write_fmt(text).expect("writing to a String cannot fail");
        self.svg.push('\n');
    }

    fn lane(&mut self, height: f64) -> Lane {
        let lane = Lane { top: self.cursor, height };
        self.cursor += height + GAP;
        lane
    }

    fn x(&self, second: f64) -> f64 {
        LEFT + (second / self.span_s).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.put(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>", escape(text)));
    }

    fn bands(&mut self, report: &RunReport, bottom: f64) {
        for fault in &report.faults {
            let healed = fault.healed_s.unwrap_or(self.span_s);
            let (from, to) = (self.x(fault.injected_s), self.x(healed));
            let until = self.x(healed + fault.recovery_budget_s);
            let (top, height) = (TOP - 20.0, bottom - TOP + 20.0);
            let width = (to - from).max(2.0);
            self.put(format_args!(
                "<g class=\"fault\"><title>{} on {}, {} to {}</title>\
                 <rect x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" class=\"band\"/>\
                 <rect x=\"{to:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"url(#budget)\"/>\
                 <path d=\"M{from:.1} {top:.1}V{bottom:.1}M{to:.1} {top:.1}V{bottom:.1}\" class=\"edge\"/></g>",
                escape(&fault.id),
                escape(&fault.target),
                clock(fault.injected_s),
                clock(healed),
                (until - to).max(0.0),
            ));
            let name = fault.id.split('#').next().unwrap_or(&fault.id).to_owned();
            // Half the width of the name, so that it never leaves the frame.
            let half = name.len() as f64 * 3.4;
            let middle = f64::midpoint(from, to).clamp(LEFT + half, WIDTH - RIGHT - half);
            self.text(middle, top - 7.0, "faultname", &name);
        }
    }

    fn time_axis(&mut self, bottom: f64) {
        let step = nice_time(self.span_s / 10.0);
        let mut at = 0.0;
        while at <= self.span_s + 1e-9 {
            let x = self.x(at);
            self.put(format_args!("<path d=\"M{x:.1} {TOP:.1}V{bottom:.1}\" class=\"grid\"/>"));
            let label = clock(at);
            self.text(x, bottom + 18.0, "tick mid", label.trim_end_matches(".0"));
            at += step;
        }
    }

    fn frame(&mut self, lane: &Lane, title: &str, unit: &str) {
        self.put(format_args!(
            "<path d=\"M{LEFT} {:.1}H{:.1}\" class=\"axis\"/>",
            lane.top + lane.height,
            WIDTH - RIGHT
        ));
        self.text(0.0, lane.top + 12.0, "lane", title);
        self.text(0.0, lane.top + 27.0, "unit", unit);
    }

    /// A horizontal grid line with its label.
    fn level(&mut self, lane: &Lane, share: f64, label: &str) {
        let y = lane.y(share);
        self.put(format_args!("<path d=\"M{LEFT} {y:.1}H{:.1}\" class=\"grid\"/>", WIDTH - RIGHT));
        self.text(LEFT - 6.0, y + 4.0, "tick end", label);
    }

    fn rates(&mut self, lane: &Lane) {
        let sum = |p: &SecondPoint| (p.ok + p.fail + p.unknown + p.dropped) as f64;
        let highest = self.points.iter().map(|p| sum(p).max(p.target)).fold(1.0, f64::max);
        let step = nice(highest / 3.0);
        let top = (highest * 1.04 / step).ceil() * step;
        self.frame(lane, "Rate", "operations/s");
        let mut at = step;
        while at <= top + 1e-9 {
            self.level(lane, at / top, &format!("{at}"));
            at += step;
        }
        type Layer = (&'static str, fn(&SecondPoint) -> u64);
        let layers: [Layer; 4] =
            [("ok", |p| p.ok), ("fail", |p| p.fail), ("unknown", |p| p.unknown), ("dropped", |p| p.dropped)];
        let points = std::mem::take(&mut self.points);
        let mut base: Vec<f64> = vec![0.0; points.len()];
        for (class, of) in layers {
            let upper: Vec<f64> = points.iter().zip(&base).map(|(p, b)| b + of(p) as f64).collect();
            if upper != base {
                let path = self.area(lane, &points, &base, &upper, top);
                self.put(format_args!("<path d=\"{path}\" class=\"{class}\"/>"));
            }
            base = upper;
        }
        let target: Vec<Option<f64>> = points.iter().map(|p| Some(lane.y(p.target / top))).collect();
        let path = self.steps(&points, &target);
        self.put(format_args!("<path d=\"{path}\" class=\"target\"/>"));
        self.points = points;
    }

    /// A filled band between two stepped lines.
    fn area(&self, lane: &Lane, points: &[SecondPoint], base: &[f64], upper: &[f64], top: f64) -> String {
        let mut path = String::new();
        let mut add = |x: f64, y: f64| {
            let command = if path.is_empty() { 'M' } else { 'L' };
            write!(path, "{command}{x:.1} {y:.1}").expect("writing to a String cannot fail");
        };
        let ends = |p: &SecondPoint| {
            let from = f64::from(p.second);
            (self.x(from), self.x(from + f64::from(self.width_s)))
        };
        for (p, value) in points.iter().zip(upper) {
            let (from, to) = ends(p);
            add(from, lane.y(value / top));
            add(to, lane.y(value / top));
        }
        for (p, value) in points.iter().zip(base).rev() {
            let (from, to) = ends(p);
            add(to, lane.y(value / top));
            add(from, lane.y(value / top));
        }
        path.push('Z');
        path
    }

    /// A stepped line through heights; a gap where there is none.
    fn steps(&self, points: &[SecondPoint], heights: &[Option<f64>]) -> String {
        let mut path = String::new();
        let mut pen = 'M';
        for (p, y) in points.iter().zip(heights) {
            let Some(y) = y else {
                pen = 'M';
                continue;
            };
            let from = f64::from(p.second);
            let to = self.x(from + f64::from(self.width_s));
            write!(path, "{pen}{:.1} {y:.1}H{to:.1}", self.x(from)).expect("writing to a String cannot fail");
            pen = 'L';
        }
        path
    }

    fn latencies(&mut self, lane: &Lane, report: &RunReport) {
        let values = || {
            let all = self.points.iter().flat_map(|p| [p.p50_ms, p.p95_ms, p.p99_ms]).flatten();
            all.chain([report.objectives.p95_ms, report.objectives.p99_ms].into_iter().flatten())
                .filter(|v| *v > 0.0)
        };
        // Whole decades, at least one.
        let low = values().fold(f64::MAX, f64::min).clamp(0.01, 1000.0).log10().floor();
        let high = values().fold(10f64.powf(low), f64::max).log10().ceil().max(low + 1.0);
        let share = |ms: f64| (ms.max(1e-9).log10() - low) / (high - low);
        self.frame(lane, "Latency", "from intended start");
        let mut decade = low;
        while decade <= high + 1e-9 {
            let ms = 10f64.powf(decade);
            let label = if ms >= 1000.0 { format!("{} s", ms / 1000.0) } else { format!("{} ms", round(ms)) };
            self.level(lane, share(ms), &label);
            decade += 1.0;
        }
        // Their labels stand on different sides, because the two lines are often close.
        for (name, objective, label) in
            [("p95", report.objectives.p95_ms, 11.0), ("p99", report.objectives.p99_ms, -4.0)]
        {
            if let Some(ms) = objective {
                let y = lane.y(share(ms));
                self.put(format_args!(
                    "<path d=\"M{LEFT} {y:.1}H{:.1}\" class=\"objective {name}\"/>",
                    WIDTH - RIGHT
                ));
                self.text(
                    WIDTH - RIGHT - 2.0,
                    y + label,
                    "tick end",
                    &format!("{name} objective {}", millis(ms)),
                );
            }
        }
        type Line = (&'static str, fn(&SecondPoint) -> Option<f64>);
        let lines: [Line; 3] = [("p99", |p| p.p99_ms), ("p95", |p| p.p95_ms), ("p50", |p| p.p50_ms)];
        for (class, of) in lines {
            let heights: Vec<Option<f64>> =
                self.points.iter().map(|p| of(p).map(|ms| lane.y(share(ms)))).collect();
            let path = self.steps(&self.points, &heights);
            self.put(format_args!("<path d=\"{path}\" class=\"line {class}\"/>"));
        }
    }

    fn memory(&mut self, lane: &Lane, series: &[(f64, f64)]) {
        let highest = series.iter().map(|(_, v)| *v).fold(1.0, f64::max);
        self.frame(lane, "Memory", "anonymous");
        self.level(lane, 1.0 / 1.15, &bytes(highest));
        let stride = series.len().div_ceil(POINTS_MAX).max(1);
        let mut path = String::new();
        for (at, value) in series.iter().step_by(stride) {
            let pen = if path.is_empty() { 'M' } else { 'L' };
            let (x, y) = (self.x(*at), lane.y(value / highest / 1.15));
            write!(path, "{pen}{x:.1} {y:.1}").expect("writing to a String cannot fail");
        }
        let (first, last) = (self.x(series[0].0), self.x(series[series.len() - 1].0));
        let base = lane.y(0.0);
        self.put(format_args!("<path d=\"{path}V{base:.1}H{first:.1}Z\" class=\"memory\"/>"));
        self.put(format_args!(
            "<path d=\"{path}\" class=\"line memoryline\"><title>to {last:.0}</title></path>"
        ));
    }

    fn health(&mut self, lane: &Lane, report: &RunReport, subjects: &[&str]) {
        for (row, subject) in subjects.iter().enumerate() {
            let y = lane.top + STRIP * row as f64;
            self.text(0.0, y + 13.0, "lane small", subject);
            let changes: Vec<_> = report.health.iter().filter(|c| c.subject == *subject).collect();
            for (i, change) in changes.iter().enumerate() {
                let until = changes.get(i + 1).map_or(self.span_s, |next| next.at_s);
                let (from, to) = (self.x(change.at_s), self.x(until));
                let class = mood(&change.state);
                self.put(format_args!(
                    "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" class=\"{class}\">\
                     <title>{} {} from {}</title></rect>",
                    (to - from - 1.0).max(1.0),
                    STRIP - 4.0,
                    escape(subject),
                    escape(&change.state),
                    clock(change.at_s)
                ));
                if to - from > 7.0 * change.state.len() as f64 + 8.0 {
                    self.text(from + 6.0, y + 12.0, "onstrip", &change.state);
                }
            }
        }
    }

    fn violations(&mut self, report: &RunReport, bottom: f64) {
        for anomaly in &report.anomalies {
            let Some(at) = anomaly.at_s else { continue };
            let (x, y) = (self.x(at), TOP - 4.0);
            self.put(format_args!(
                "<g class=\"violation\"><title>{}: {} {}</title><path d=\"M{x:.1} {y:.1}V{bottom:.1}\"/>\
                 <path d=\"M{x:.1} {:.1}l7 7l-7 7l-7 -7z\"/></g>",
                escape(&anomaly.invariant),
                escape(&anomaly.kind),
                escape(&anomaly.key),
                y - 7.0
            ));
        }
    }

    fn finish(self, height: f64) -> String {
        format!(
            "<svg id=\"timeline\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"timeline of the run\">\n\
             <defs><pattern id=\"budget\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><path d=\"M0 0V7\" stroke=\"#b9a7d6\" stroke-width=\"1.6\" \
             stroke-opacity=\".55\"/></pattern></defs>\n{}\
             <path id=\"cross\" d=\"M0 {TOP}V{:.1}\"/>\n</svg>\n",
            self.svg,
            height - 34.0
        )
    }
}

/// Which of the four colours of the strip a state has.
fn mood(state: &str) -> &'static str {
    match state {
        "healthy" | "ready" | "up" | "200" | "ok" => "good",
        "degraded" => "warn",
        "unknown" | "starting" | "" => "none",
        _ => "bad",
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|m| *m >= value - 1e-9).unwrap_or(power * 10.0)
}

/// The next of the distances that people divide time by.
fn nice_time(seconds: f64) -> f64 {
    [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0]
        .into_iter()
        .find(|step| *step >= seconds)
        .unwrap_or(7200.0)
}

/// Without the noise that powers leave.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
