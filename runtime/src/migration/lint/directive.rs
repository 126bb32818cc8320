//! Comments that speak to the lint: `-- fraiseql: allow(<rule>) <reason>` and `-- fraiseql: unused-since <release>`.

use super::release::Release;
use super::rule::Rule;

/// What a comment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Directive {
    Allow(Rule),
    UnusedSince(Release),
    /// It is for the lint, and wrong: why.
    Wrong(String),
}

impl Directive {
    /// What a comment says to the lint; `None` for one that is not for it.
    pub(super) fn parse(comment: &str) -> Option<Self> {
        let words = comment.strip_prefix("--")?.trim().strip_prefix("fraiseql:")?.trim();
        Some(Self::of_words(words).unwrap_or_else(Self::Wrong))
    }

    fn of_words(words: &str) -> Result<Self, String> {
        if let Some(release) = words.strip_prefix("unused-since") {
            return release.trim().parse().map(Self::UnusedSince).map_err(|error| format!("{error}"));
        }
        let (id, reason) = words
            .strip_prefix("allow(")
            .and_then(|rest| rest.split_once(')'))
            .ok_or_else(|| format!("`{words}` is neither allow(<rule>) nor unused-since"))?;
        match Rule::of_id(id.trim()) {
            None => Err(format!("there is no rule `{}`", id.trim())),
            Some(rule) if !rule.has_exceptions() => Err(format!("`{}` has no exceptions", rule.id())),
            Some(rule) if reason.trim().is_empty() => Err(format!("allow({}) gives no reason", rule.id())),
            Some(rule) => Ok(Self::Allow(rule)),
        }
    }

    pub(super) fn allows(&self, rule: Rule) -> bool {
        matches!(self, Self::Allow(allowed) if *allowed == rule)
    }

    /// What is wrong with it, once it is known whether it excepted anything.
    pub(super) fn problem(&self, used: bool) -> Option<String> {
        match self {
            Self::Wrong(why) => Some(why.clone()),
            Self::Allow(rule) if !used => Some(format!("allow({}) excepts nothing here", rule.id())),
            Self::Allow(_) | Self::UnusedSince(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_or_told_why_not() {
        let wrong = |why: &str| Some(Directive::Wrong(why.to_owned()));
        for (comment, meant) in [
            ("-- only words", None),
            ("-- fraiseql: allow(rename) no server runs yet", Some(Directive::Allow(Rule::Rename))),
            ("--fraiseql:allow( rename ) why", Some(Directive::Allow(Rule::Rename))),
            ("-- fraiseql: allow(rename)  ", wrong("allow(rename) gives no reason")),
            ("-- fraiseql: allow(renames) why", wrong("there is no rule `renames`")),
            ("-- fraiseql: allow(syntax) why", wrong("`syntax` has no exceptions")),
            (
                "-- fraiseql: alow(rename) why",
                wrong("`alow(rename) why` is neither allow(<rule>) nor unused-since"),
            ),
            ("-- fraiseql: unused-since 1.2.0", "1.2.0".parse().ok().map(Directive::UnusedSince)),
            ("-- fraiseql: unused-since", wrong("`` is not a release: write it as 1.4.0")),
        ] {
            assert_eq!(Directive::parse(comment), meant, "{comment}");
        }
    }
}
