//! `harness baseline|stress|spike|soak|capacity`: their shared options, and the plan they make.

use std::path::PathBuf;
use std::time::Duration;

use crate::load::profile::{self, Overrides, Plan, Profile};

/// Options of the load commands.
#[derive(Debug, Clone, PartialEq, clap::Args)]
pub struct Args {
    /// Length of the run without its warm-up, such as `2m` or `90s`
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Highest rate in requests a second; all rates of the profile keep their proportions
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Seed of everything random; drawn and printed when not given
    #[arg(long)]
    pub seed: Option<u64>,
    /// Profile to use instead of the command's own
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,
    /// Inject no faults
    #[arg(long)]
    pub no_chaos: bool,
    /// What runs the services
    #[arg(long, default_value = "auto", value_parser = ["auto", "container", "process", "external"])]
    pub backend: String,
    /// Drive a server that is already running, with the profile's plain requests alone and no environment
    #[arg(long, value_name = "URL", conflicts_with = "server")]
    pub target: Option<url::Url>,
    /// Server binary to use instead of building one
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Program that migrates the database: a newer release than the server's, beside which it must still work
    #[arg(long, value_name = "PATH", conflicts_with = "target")]
    pub migrator: Option<PathBuf>,
    /// Schema file that the server serves instead of the workspace's
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    pub schema: Option<PathBuf>,
    /// Send the links through a Toxiproxy (or chaos-proxy) that is running, with the faults that it has
    #[arg(long, value_name = "ADDR", conflicts_with = "target", value_parser = super::api_address)]
    pub toxiproxy: Option<String>,
    /// Folder for the run and its report
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

impl Args {
    /// The plan of the command `name`. Errors are those of the profile file and end with exit code 4.
    pub fn plan(&self, name: &str) -> Result<Plan, profile::Error> {
        let profile = match &self.profile {
            Some(path) => Profile::read(path)?,
            None => Profile::built_in(name).expect("every load command has a profile of its name")?,
        };
        let overrides = Overrides { duration: self.duration, rate: self.rate, no_chaos: self.no_chaos };
        Ok(Plan { plain_only: self.target.is_some(), ..Plan::new(profile, overrides) })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) { Err("must be at least 1s".into()) } else { Ok(duration) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "must be a number".to_string())?;
    if rate > 0.0 && rate <= 1_000_000.0 {
        Ok(rate)
    } else {
        Err("must be above 0 and at most 1000000".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Command::try_parse_from(std::iter::once("soak").chain(line.split_whitespace())).map(|c| c.args)
    }

    #[test]
    fn options_become_a_plan() {
        let args = parse("--duration 2m --rate 50 --seed 7 --no-chaos --backend process").expect("valid");
        let plan = args.plan("soak").expect("plan");
        assert_eq!(plan.schedule.duration(), Duration::from_secs(130));
        assert_eq!((plan.profile.peak_rate(), args.seed), (50.0, Some(7)));
        assert!(plan.chaos_slots().0.is_empty() && !plan.plain_only);
    }

    #[test]
    fn wrong_values_are_refused() {
        for line in ["--toxiproxy https://a:1", "--toxiproxy a:1 --target http://b:2"] {
            assert!(parse(line).is_err(), "{line}");
        }
        for line in ["--duration 0s", "--rate 0", "--rate NaN", "--backend moon", "--target nowhere"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
