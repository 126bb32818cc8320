//! What a flag may be: told with field, value and what is allowed. Pure.

use super::FeatureFlag;

const NAME_BYTES_MAX: usize = 200;
const DESCRIPTION_BYTES_MAX: usize = 2_000;
/// Users in each list. Whoever needs more means a percentage.
pub const USERS_MAX: usize = 10_000;
const USER_BYTES_MAX: usize = 400;
const ENVIRONMENTS_MAX: usize = 100;

/// Every problem of a flag, one a line.
///
/// # Errors
/// What is wrong.
pub fn check(flag: &FeatureFlag) -> Result<(), String> {
    let mut problems = Vec::new();
    let mut require = |holds: bool, field: &str, value: String, allowed: &str| {
        if !holds {
            problems.push(format!("{field} is {value}: it must be {allowed}"));
        }
    };
    let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let named = !flag.name.is_empty() && flag.name.len() <= NAME_BYTES_MAX && flag.name.bytes().all(sign);
    require(named, "name", format!("{:?}", flag.name), "1 to 200 letters of ASCII, digits, _, . and -");
    let bytes = flag.description.len();
    require(bytes <= DESCRIPTION_BYTES_MAX, "description", format!("{bytes} bytes"), "at most 2000 bytes");
    require(flag.percentage <= 100, "percentage", flag.percentage.to_string(), "0 to 100");
    for (field, users) in [("user_allowlist", &flag.user_allowlist), ("user_denylist", &flag.user_denylist)] {
        require(users.len() <= USERS_MAX, field, format!("{} users", users.len()), "at most 10000 users");
        let wrong =
            users.iter().find(|user| user.is_empty() || user.len() > USER_BYTES_MAX || user.contains('\0'));
        require(
            wrong.is_none(),
            field,
            format!("{:?}", wrong.map_or("", |user| user)),
            "users of 1 to 400 bytes",
        );
    }
    if let (Some(start), Some(end)) = (flag.start_time, flag.end_time) {
        require(
            start <= end,
            "end_time",
            end.to_rfc3339(),
            &format!("at or after start_time, {}", start.to_rfc3339()),
        );
    }
    let count = flag.environments.len();
    require(count <= ENVIRONMENTS_MAX, "environments", format!("{count} names"), "at most 100 names");
    let wrong =
        flag.environments.iter().find(|name| name.is_empty() || name.len() > 100 || name.contains('\0'));
    require(
        wrong.is_none(),
        "environments",
        format!("{:?}", wrong.map_or("", |name| name)),
        "names of 1 to 100 bytes",
    );
    let text = flag.description.contains('\0');
    require(!text, "description", "text with a zero byte".to_owned(), "text without");
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;

    #[test]
    fn every_problem_is_told_with_its_field_its_value_and_what_is_allowed() {
        let good =
            FeatureFlag { name: "new_checkout.v2-b".into(), percentage: 100, ..FeatureFlag::default() };
        check(&good).expect("it is good");
        let now = DateTime::UNIX_EPOCH;
        let cases = [
            (FeatureFlag { name: String::new(), ..good.clone() }, "name is \"\": it must be 1 to 200"),
            (FeatureFlag { name: "a b".into(), ..good.clone() }, "name is \"a b\""),
            (FeatureFlag { percentage: 101, ..good.clone() }, "percentage is 101: it must be 0 to 100"),
            (FeatureFlag { description: "x".repeat(2_001), ..good.clone() }, "description is 2001 bytes"),
            (FeatureFlag { user_denylist: [String::new()].into(), ..good.clone() }, "user_denylist is \"\""),
            (
                FeatureFlag {
                    start_time: Some(now),
                    end_time: Some(now - TimeDelta::seconds(1)),
                    ..good.clone()
                },
                "end_time is 1969-12-31T23:59:59+00:00: it must be at or after start_time, 1970-01-01T00:00:00+00:00",
            ),
            (FeatureFlag { environments: vec![String::new()], ..good.clone() }, "environments is \"\""),
        ];
        for (flag, expected) in cases {
            let told = check(&flag).expect_err(expected);
            assert!(told.contains(expected) && !told.contains('\n'), "{told}");
        }
        let many = FeatureFlag { name: "ü".into(), percentage: 200, ..good };
        assert_eq!(check(&many).expect_err("two").lines().count(), 2);
    }
}
