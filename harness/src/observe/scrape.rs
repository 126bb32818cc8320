//! Prometheus text: fetched, parsed, and reduced to its schema (families, types, label names) for snapshots.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;

/// A scrape.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    pub families: BTreeMap<String, Family>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Family {
    /// `counter`, `gauge`, `histogram` …; `untyped` when the page does not say.
    pub kind: String,
    pub series: Vec<Series>,
}

/// One line of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Full name, `_total` or `_bucket` included.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// Fetches and parses a metrics page.
pub async fn fetch(http: &reqwest::Client, url: &str) -> anyhow::Result<Metrics> {
    let response = http.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let text = response.with_context(|| format!("fetch {url}"))?.text().await;
    Ok(Metrics::parse(&text.with_context(|| format!("read {url}"))?))
}

impl Metrics {
    /// Lines that are not metrics are passed over: a page with one odd line is still worth reading.
    pub fn parse(text: &str) -> Self {
        let mut metrics = Metrics::default();
        for line in text.lines().map(str::trim) {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                if let Some((name, kind)) = declared.split_once(' ') {
                    metrics.families.entry(name.into()).or_default().kind = kind.trim().into();
                }
            } else if !line.is_empty()
                && !line.starts_with('#')
                && let Some(series) = parse_series(line)
            {
                let family = metrics.family_of(&series.name);
                let family = metrics.families.entry(family).or_default();
                if family.kind.is_empty() {
                    family.kind = "untyped".into();
                }
                family.series.push(series);
            }
        }
        metrics
    }

    /// Sum of all series of a name whose labels include `labels`; `None` when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = self.families.get(&self.family_of(name))?;
        let fits = |series: &&Series| {
            series.name == name
                && labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|v| v == value))
        };
        let mut values = family.series.iter().filter(fits).map(|series| series.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Sum of the series that `text` names: `name`, or `name{label=value,…}`, with the values in quotes or without.
    pub fn named(&self, text: &str) -> Option<f64> {
        let Some((name, selector)) = text.split_once('{') else { return self.sum(text, &[]) };
        let labels = selector.strip_suffix('}')?.split(',');
        let labels: Option<Vec<(&str, &str)>> = labels
            .map(|label| {
                Some((label.split_once('=')?.0.trim(), label.split_once('=')?.1.trim().trim_matches('"')))
            })
            .collect();
        self.sum(name, &labels?)
    }

    /// One line for each family, without values: `name type {label,label}`.
    pub fn schema(&self) -> String {
        let mut lines = String::new();
        for (name, family) in &self.families {
            let labels: BTreeSet<&str> = family
                .series
                .iter()
                .flat_map(|series| series.labels.keys())
                .map(String::as_str)
                .filter(|label| *label != "le" && *label != "quantile")
                .collect();
            let labels: Vec<&str> = labels.into_iter().collect();
            lines.push_str(&format!("{name} {} {{{}}}\n", family.kind, labels.join(",")));
        }
        lines
    }

    /// The declared family that a series belongs to, or its own name.
    fn family_of(&self, series: &str) -> String {
        const SUFFIXES: [&str; 6] = ["_bucket", "_sum", "_count", "_total", "_created", "_info"];
        if self.families.contains_key(series) {
            return series.into();
        }
        let stems = SUFFIXES.iter().filter_map(|suffix| series.strip_suffix(suffix));
        stems.into_iter().find(|stem| self.families.contains_key(*stem)).unwrap_or(series).into()
    }
}

fn parse_series(line: &str) -> Option<Series> {
    let (name, rest) = line.split_at(line.find(['{', ' ', '\t'])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => parse_labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    // A timestamp or an exemplar may follow the value.
    let value = match rest.split_whitespace().next()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    Some(Series { name: name.into(), labels, value })
}

/// Labels up to the closing brace, and what follows it.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at,
                (_, other) => value.push(other),
            }
        };
        labels.insert(key.trim().into(), value);
        rest = &quoted[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP http_requests Requests.
# TYPE http_requests counter
http_requests_total{method="POST",path="/graphql",status="200"} 12
http_requests_total{method="GET",path="/a\"b,}",status="500"} 3 1700000000
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1",path="/"} 4
latency_seconds_bucket{le="+Inf",path="/"} 5
latency_seconds_sum{path="/"} 0.5
latency_seconds_count{path="/"} 5
loose 7.5
odd line that is no metric at all
# EOF
"#;

    #[test]
    fn values_are_found_by_name_and_labels() {
        let metrics = Metrics::parse(PAGE);
        assert_eq!(metrics.sum("http_requests_total", &[]), Some(15.0));
        assert_eq!(metrics.sum("http_requests_total", &[("status", "500")]), Some(3.0));
        assert_eq!(metrics.sum("http_requests_total", &[("path", "/a\"b,}")]), Some(3.0));
        assert_eq!(metrics.sum("latency_seconds_count", &[]), Some(5.0));
        assert_eq!(metrics.sum("loose", &[]), Some(7.5));
        assert_eq!(metrics.sum("absent", &[]), None);
    }

    #[test]
    fn a_series_is_named_as_a_scenario_writes_it() {
        let metrics = Metrics::parse("a_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\nb 5\n");
        for (text, value) in [
            ("a_total{x=1}", Some(7.0)),
            ("a_total{x=1,y=3}", Some(4.0)),
            ("a_total{x=\"1\", y=\"2\"}", Some(3.0)),
            ("b", Some(5.0)),
            ("a_total{x=2}", None),
            ("a_total{x}", None),
            ("a_total{x=1", None),
        ] {
            assert_eq!(metrics.named(text), value, "{text}");
        }
    }

    #[test]
    fn schema_has_families_types_and_labels_and_no_values() {
        let schema = "http_requests counter {method,path,status}\nlatency_seconds histogram {path}\nloose untyped {}\n";
        assert_eq!(Metrics::parse(PAGE).schema(), schema);
    }
}
