//! Times: everything fits into the load and the budget, and no two faults act at once on one target.

use super::Lint;
use crate::scenario::file::Written;
use crate::scenario::{Scenario, timeline};

impl Lint {
    pub(super) fn times(&mut self, written: &Written, scenario: &Scenario) {
        let lasts = scenario.load.lasts;
        if lasts + scenario.recover.within > scenario.budget {
            let message = "the load and the recovery do not fit into the budget".to_owned();
            let help = format!("the load alone lasts {}", humantime::format_duration(lasts));
            self.say("S018", written.budget.span(), message, "too short", help);
        }
        // Positions are meaningless while a start is broken.
        if !self.found.is_empty() {
            return;
        }
        let acts = timeline::acts(scenario);
        for (act, fault) in acts.iter().zip(&written.fault) {
            let id = fault.id.get_ref();
            if act.inject >= lasts {
                let message = format!("fault `{id}` starts after the load is over");
                self.say("S014", fault.start.span(), message, "no traffic to act on", String::new());
            } else if act.heal > lasts {
                let message = format!("fault `{id}` stops after the end of the load");
                let help = format!(
                    "it heals at {} s, the load ends at {} s",
                    act.heal.as_secs_f64(),
                    lasts.as_secs_f64()
                );
                self.say("S012", fault.start.span(), message, "heals too late", help);
            } else if act.heal + scenario.recover.within + scenario.recover.stable > lasts {
                let message = format!("no time is left to see the recovery from fault `{id}`");
                let need = act.heal + scenario.recover.within + scenario.recover.stable;
                let help = format!("let the load last {} at least", humantime::format_duration(need));
                self.say("S017", written.recover.within.span(), message, "longer than what is left", help);
            }
        }
        for (i, fault) in written.fault.iter().enumerate() {
            for j in 0..i {
                if timeline::collide(&acts[i], &acts[j]) {
                    let other = written.fault[j].id.get_ref();
                    let message =
                        format!("faults `{}` and `{other}` act at once on one target", fault.id.get_ref());
                    self.say(
                        "S013",
                        fault.start.span(),
                        message,
                        "overlaps",
                        "one of them would hide the other".to_owned(),
                    );
                }
            }
        }
    }
}
