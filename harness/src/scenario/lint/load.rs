//! Load: a rate, clients and a mix.

use std::collections::BTreeMap;

use toml::Spanned;

use super::Lint;
use crate::load::clients::{CLIENTS_MAX, Clients};
use crate::scenario::file::Written;
use crate::scenario::{CLASSES, Load};

/// Each of them hears every event: more would measure the harness.
const SUBSCRIBERS_MAX: u32 = 256;

/// What to write.
pub(super) const RATE: &str = "write `150/s`";

/// Arrivals a second, of `150/s`.
pub(super) fn rate(text: &str) -> Option<f64> {
    let rate = text.strip_suffix("/s")?.trim().parse::<f64>().ok()?;
    (rate > 0.0 && rate <= 1_000_000.0).then_some(rate)
}

impl Lint {
    pub(super) fn load(&mut self, written: &Written) -> Load {
        let arrival = &written.load.arrival;
        let rate = rate(arrival.get_ref()).unwrap_or_else(|| {
            let message = format!("`{}` is not a rate", arrival.get_ref());
            self.say("S025", arrival.span(), message, "wanted a rate", RATE.to_owned());
            1.0
        });
        if *written.load.clients.get_ref() == 0 {
            let span = written.load.clients.span();
            self.say("S025", span, "no client issues the load".to_owned(), "at least 1", String::new());
        }
        let mut mix = BTreeMap::new();
        for (class, weight) in &written.load.mix {
            if self.one_of("S011", "operation class", class, &CLASSES[..6]) {
                mix.insert(class.get_ref().clone(), *weight);
            }
        }
        let subscribers = written.load.subscribers.as_ref().map_or(0, |count| *count.get_ref());
        if subscribers > SUBSCRIBERS_MAX {
            let span = written.load.subscribers.as_ref().map_or(0..0, Spanned::span);
            let message = format!("{subscribers} subscribers are more than the harness keeps");
            self.say("S025", span, message, "too many", format!("at most {SUBSCRIBERS_MAX}"));
        }
        let callers =
            written.load.callers.as_ref().map_or_else(Clients::default, |callers| *callers.get_ref());
        if callers.total() > CLIENTS_MAX {
            let span = written.load.callers.as_ref().map_or(0..0, Spanned::span);
            let message = format!("{} callers are more than the harness makes keys for", callers.total());
            self.say("S025", span, message, "too many", format!("at most {CLIENTS_MAX}"));
        }
        Load {
            rate,
            users: *written.load.clients.get_ref(),
            subscribers,
            callers,
            may_be_refused: written.load.may_be_refused,
            lasts: written.load.lasts.get_ref().0,
            mix,
        }
    }
}
