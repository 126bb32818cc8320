//! Turns the OpenMetrics text that the metrics library writes into the classic Prometheus text
//! format 0.0.4, which every scraper reads.
//!
//! The formats differ in four things: a counter's family name lacks `_total` in OpenMetrics and
//! has it here; `# UNIT` and `# EOF` do not exist here; neither do exemplars; and types that are
//! unknown here become `untyped` or `gauge`.

/// Content type of the classic format.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Content type of OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn to_classic(open_metrics: &str) -> String {
    let mut classic = String::with_capacity(open_metrics.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The type, on the next line, decides about the name.
            help = Some(rest.split_once(' ').unwrap_or((rest, "")));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, open_type) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let (suffix, classic_type) = match open_type {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take() {
                push(&mut classic, &["# HELP ", name, suffix, " ", text]);
            }
            push(&mut classic, &["# TYPE ", name, suffix, " ", classic_type]);
        } else if !line.starts_with('#') {
            push(&mut classic, &[line.split(" # ").next().unwrap_or(line)]);
        }
    }
    classic
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_suffix_and_the_end_mark_goes() {
        let open = "# HELP jobs Jobs done.\n# TYPE jobs counter\njobs_total{a=\"1\"} 3 # {trace=\"x\"} 1.0\n\
                    # HELP wait_seconds Wait.\n# TYPE wait_seconds histogram\n# UNIT wait_seconds seconds\n\
                    wait_seconds_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let classic = "# HELP jobs_total Jobs done.\n# TYPE jobs_total counter\njobs_total{a=\"1\"} 3\n\
                       # HELP wait_seconds Wait.\n# TYPE wait_seconds histogram\nwait_seconds_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(to_classic(open), classic);
    }
}
