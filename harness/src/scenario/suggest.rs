//! Did-you-mean for closed sets of words.

/// The candidate nearest to `word`, when it is near enough to be a slip of the finger: an edit distance (Damerau and
/// Levenshtein) of a third of the word at most.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= word.len().max(candidate.len()).div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// A help line: `did you mean `redis`? <what>: postgres, redis, nats`.
pub fn help(word: &str, what: &str, candidates: &[&str]) -> String {
    let list = candidates.join(", ");
    match nearest(word, candidates.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {what}: {list}"),
        None => format!("{what}: {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_corrected_and_another_word_is_not() {
        assert_eq!(nearest("reddis", ["postgres", "redis", "nats"]), Some("redis"));
        assert_eq!(nearest("kafka", ["postgres", "redis", "nats"]), None);
    }
}
