//! Checks: one subject each, and a comparison that fits it.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::Lint;
use crate::scenario::check::{Check, Metric, Op, Subject};
use crate::scenario::{CLASSES, file, suggest};

const READS: [&str; 2] = ["products", "order"];
const WRITES: [&str; 4] = ["createOrder", "updateOrderStatus", "requestInvoice", "paymentWebhook"];

impl Lint {
    pub(super) fn check(&mut self, spanned: &Spanned<file::Check>) -> Option<Check> {
        let check = spanned.get_ref();
        let subject = match (&check.metric, &check.series, &check.http) {
            (Some(metric), None, None) => self.metric(metric, check, spanned.span())?,
            (None, Some(series), None) => {
                let (op, value) = self.number(check, spanned.span())?;
                Subject::Series { series: series.get_ref().clone(), op, value }
            }
            (None, None, Some(path)) => self.http(path, check, spanned.span())?,
            _ => {
                let message = format!("check `{}` needs one subject", check.name);
                let help = "one of `metric`, `series` and `http`".to_owned();
                self.say("S025", spanned.span(), message, "what is looked at?", help);
                return None;
            }
        };
        Some(Check {
            name: check.name.clone(),
            subject,
            within: check.within.map_or(Duration::ZERO, |w| w.0),
        })
    }

    fn metric(
        &mut self,
        written: &Spanned<String>,
        check: &file::Check,
        span: Range<usize>,
    ) -> Option<Subject> {
        let word = written.get_ref();
        let (name, classes) = match word.split_once('{') {
            None => (word.as_str(), Vec::new()),
            Some((name, selector)) => {
                let class =
                    selector.strip_prefix("class=").and_then(|s| s.strip_suffix('}')).unwrap_or_default();
                let classes: Vec<&str> = match class {
                    "read" => READS.to_vec(),
                    "write" => WRITES.to_vec(),
                    class => CLASSES.iter().copied().filter(|known| *known == class).collect(),
                };
                if classes.is_empty() {
                    let known: Vec<&str> = CLASSES.iter().copied().chain(["read", "write"]).collect();
                    let help =
                        format!("write `{name}{{class=NAME}}`; {}", suggest::help(class, "classes", &known));
                    self.say(
                        "S011",
                        written.span(),
                        format!("`{word}` names no operation class"),
                        "unknown class",
                        help,
                    );
                    return None;
                }
                (name, classes)
            }
        };
        let Some((_, metric)) = Metric::ALL.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = Metric::ALL.iter().map(|(known, _)| *known).collect();
            let help = suggest::help(name, "metrics", &known);
            self.say("S011", written.span(), format!("unknown metric `{name}`"), "unknown metric", help);
            return None;
        };
        let (op, value) = self.number(check, span)?;
        let classes = classes.into_iter().map(str::to_owned).collect();
        Some(Subject::Metric { metric: *metric, classes, op, value })
    }

    fn http(&mut self, path: &Spanned<String>, check: &file::Check, span: Range<usize>) -> Option<Subject> {
        let json = match (&check.json, &check.value) {
            (None, None) => None,
            (Some(pointer), Some(value)) => {
                let op = self.op(check, span.clone())?;
                let value =
                    serde_json::to_value(value.get_ref()).expect("a TOML value is representable as JSON");
                Some((pointer.get_ref().clone(), op, value))
            }
            _ => {
                let message = format!("check `{}` needs both `json` and `value`, or neither", check.name);
                self.say("S025", span, message, "half a comparison", String::new());
                return None;
            }
        };
        if json.is_none() && check.status.is_none() {
            let message = format!("check `{}` compares nothing", check.name);
            let help = "add `status = 200` or `json`, `op` and `value`".to_owned();
            self.say("S025", path.span(), message, "any answer would do", help);
            return None;
        }
        Some(Subject::Http { path: path.get_ref().clone(), status: check.status, json })
    }

    pub(super) fn op(&mut self, check: &file::Check, span: Range<usize>) -> Option<Op> {
        let Some(op) = &check.op else {
            let message = format!("check `{}` has no `op`", check.name);
            self.say("S025", span, message, "how to compare?", "one of == != < <= > >= increases".to_owned());
            return None;
        };
        let known = Op::ALL.map(|(sign, _)| sign);
        self.one_of("S011", "operator", op, &known)
            .then(|| Op::ALL.iter().find(|(sign, _)| sign == op.get_ref()).expect("just found").1)
    }

    fn number(&mut self, check: &file::Check, span: Range<usize>) -> Option<(Op, f64)> {
        let op = self.op(check, span.clone())?;
        let value = match (&check.value, op) {
            (None, Op::Increases) => Some(1.0),
            (value, _) => value.as_ref().and_then(|v| match v.get_ref() {
                toml::Value::Integer(n) => Some(*n as f64),
                toml::Value::Float(n) => Some(*n),
                _ => None,
            }),
        };
        if value.is_none() {
            let span = check.value.as_ref().map_or(span, Spanned::span);
            self.say(
                "S025",
                span,
                format!("check `{}` needs a number", check.name),
                "wanted `value`",
                String::new(),
            );
        }
        value.map(|value| (op, value))
    }
}
