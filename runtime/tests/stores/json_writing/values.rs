//! Random values of each type in PostgreSQL's input syntax, with those of the edges more often than chance has them.

use rand::Rng;
use rand::seq::IndexedRandom;

/// One value as text that PostgreSQL reads.
pub type Make = fn(&mut dyn rand::RngCore) -> String;

pub fn boolean(random: &mut dyn rand::RngCore) -> String {
    random.random::<bool>().to_string()
}

pub fn int2(random: &mut dyn rand::RngCore) -> String {
    one_of(&[i16::MIN, i16::MAX, 0, -1], random, |random| random.random()).to_string()
}

pub fn int4(random: &mut dyn rand::RngCore) -> String {
    one_of(&[i32::MIN, i32::MAX, 0, -1], random, |random| random.random()).to_string()
}

/// Of any size: half of them fit 32 bits.
pub fn int8(random: &mut dyn rand::RngCore) -> String {
    let edges = [i64::MIN, i64::MAX, 0, 2_147_483_647, 2_147_483_648, -2_147_483_648, -2_147_483_649];
    one_of(&edges, random, |random| random.random::<i64>() >> random.random_range(0..64)).to_string()
}

pub fn float4(random: &mut dyn rand::RngCore) -> String {
    let edges = [0.0, -0.0, f32::MIN_POSITIVE, f32::MAX, 1e-45, 0.1, 16_777_216.0, f32::NAN, f32::INFINITY];
    let value = one_of(&edges, random, |random| f32::from_bits(random.random()));
    float(f64::from(value), format!("{value:e}"))
}

pub fn float8(random: &mut dyn rand::RngCore) -> String {
    let edges =
        [0.0, -0.0, f64::MIN_POSITIVE, f64::MAX, 5e-324, 0.1, 1e30, 1e21, 1e-7, f64::NAN, f64::INFINITY];
    let value = one_of(&edges, random, |random| {
        let any = f64::from_bits(random.random());
        let money = f64::from(random.random_range(-10_000_000..10_000_000)) / 100.0;
        if random.random() { any } else { money }
    });
    float(value, format!("{value:e}"))
}

fn float(value: f64, digits: String) -> String {
    match (value.is_nan(), value.is_infinite()) {
        (true, _) => "NaN".to_owned(),
        (_, true) => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        _ => digits,
    }
}

pub fn numeric(random: &mut dyn rand::RngCore) -> String {
    const EDGES: [&str; 14] = [
        "NaN",
        "Infinity",
        "-Infinity",
        "0",
        "-0.00",
        "1e131071",
        "-9.99e131071",
        "1e-16383",
        "0.0000",
        "10000",
        "-0.0001",
        "9999.9999",
        "100000000",
        "0.00000001",
    ];
    if random.random_ratio(1, 8) {
        return (*EDGES.choose(random).expect("edges")).to_owned();
    }
    let most = if random.random_ratio(1, 8) { 1_000 } else { 24 };
    let sign = if random.random() { "-" } else { "" };
    let whole = digits(most, random);
    if random.random_ratio(1, 3) {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{}", digits(most, random))
    }
}

/// Runs of zeros are as likely as digits, because groups of four zeros are not sent.
fn digits(most: usize, random: &mut dyn rand::RngCore) -> String {
    let length = random.random_range(1..=most);
    let mut digits = String::with_capacity(length + 12);
    while digits.len() < length {
        let run = random.random_range(1..12);
        let zeros: bool = random.random();
        digits
            .extend((0..run).map(|_| if zeros { '0' } else { char::from(random.random_range(b'0'..=b'9')) }));
    }
    digits
}

/// Characters of one to four bytes, among them all that JSON escapes; without NUL, which PostgreSQL does not keep.
pub fn text(random: &mut dyn rand::RngCore) -> String {
    let length = random.random_range(0..80);
    (0..length).map(|_| character(random)).collect()
}

/// Not longer than the length of a `char(12)` and of a `name`.
pub fn short_text(random: &mut dyn rand::RngCore) -> String {
    let length = random.random_range(0..12);
    (0..length).map(|_| character(random)).collect()
}

fn character(random: &mut dyn rand::RngCore) -> char {
    match random.random_range(0..8) {
        0 => char::from(random.random_range(1..0x20_u8)),
        1 => *['"', '\\', '/', '\u{7f}', '\u{80}', '\u{2028}', '\u{feff}', '\u{ffff}']
            .choose(random)
            .expect("one"),
        2 => char::from_u32(random.random_range(0x1_0000..0x11_0000)).expect("no surrogate is there"),
        3 => random.random_range('\u{80}'..='\u{d7ff}'),
        _ => random.random_range(' '..'\u{7f}'),
    }
}

pub fn uuid(random: &mut dyn rand::RngCore) -> String {
    uuid::Uuid::from_u128(one_of(&[0, u128::MAX], random, |random| random.random())).to_string()
}

/// A label of the enum of the tests' sessions.
pub fn mood(random: &mut dyn rand::RngCore) -> String {
    (*["a \"quoted\" one", "back\\slash", "größer", ""].choose(random).expect("one")).to_owned()
}

pub fn bytea(random: &mut dyn rand::RngCore) -> String {
    let length = random.random_range(0..60);
    let bytes: String = (0..length).map(|_| format!("{:02x}", random.random::<u8>())).collect();
    format!("\\x{bytes}")
}

pub fn date(random: &mut dyn rand::RngCore) -> String {
    if let Some(edge) = rarely(&["infinity", "-infinity", "4713-11-24 BC", "5874897-12-31"], random) {
        return edge;
    }
    let (day, era) = day(5_874_897, random);
    format!("{day}{era}")
}

pub fn timestamp(random: &mut dyn rand::RngCore) -> String {
    const EDGES: [&str; 6] = [
        "infinity",
        "-infinity",
        "4713-11-24 00:00:00 BC",
        "294276-12-31 23:59:59.999999",
        "2000-01-01",
        "1999-12-31 23:59:59.999999",
    ];
    rarely(&EDGES, random).unwrap_or_else(|| {
        let (day, era) = day(294_276, random);
        format!("{day} {}{era}", clock(random))
    })
}

/// In the time zone of the session or in another.
pub fn timestamptz(random: &mut dyn rand::RngCore) -> String {
    let text = timestamp(random);
    let offset = one_of(&["+00", "+05:30", "-11", "+14:00"], random, |_| "+00");
    match text.strip_suffix(" BC") {
        _ if text.contains("4713") || text.contains("infinity") || text.contains("294276") => text,
        Some(text) => format!("{text}{offset} BC"),
        None if text.contains(':') => format!("{text}{offset}"),
        None => text,
    }
}

/// Every month, every kind of leap year, and the years about the turn of the era more often.
fn day(last_year: u32, random: &mut dyn rand::RngCore) -> (String, &'static str) {
    let (era, last) = if random.random_ratio(1, 3) { (" BC", 4_712) } else { ("", last_year) };
    let last = if random.random_ratio(3, 4) { last.min(3_000) } else { last };
    let year: u32 =
        if random.random_ratio(1, 5) { random.random_range(1..12) } else { random.random_range(1..=last) };
    if random.random_ratio(1, 5) {
        // 1 BC is a leap year, and the years after it in fours.
        let year = year.saturating_sub(400).max(1) / 400 * 400;
        return if era.is_empty() {
            (format!("{:04}-02-29", year + 400), era)
        } else {
            (format!("{:04}-02-29", year + 1), era)
        };
    }
    (format!("{year:04}-{:02}-{:02}", random.random_range(1..=12), random.random_range(1..=28)), era)
}

fn clock(random: &mut dyn rand::RngCore) -> String {
    let [hour, minute, second] = [24, 60, 60].map(|end| random.random_range(0..end));
    let micros = random.random_range(0..1_000_000) / [1, 1_000, 100_000].choose(random).expect("one")
        * [1, 10, 1_000, 0].choose(random).expect("one")
        % 1_000_000;
    format!("{hour:02}:{minute:02}:{second:02}.{micros:06}")
}

pub fn time(random: &mut dyn rand::RngCore) -> String {
    rarely(&["00:00", "24:00", "23:59:59.999999"], random).unwrap_or_else(|| clock(random))
}

pub fn timetz(random: &mut dyn rand::RngCore) -> String {
    const OFFSETS: [&str; 7] = ["+00", "+02", "-03:30", "+00:19:32", "-15:59:59", "+15:59", "-00:00:01"];
    format!("{}{}", time(random), OFFSETS.choose(random).expect("one"))
}

/// Each part has its own sign, and may be missing.
pub fn interval(random: &mut dyn rand::RngCore) -> String {
    let mut part = |most: i32| match random.random_range(0..4) {
        0 => 0,
        1 => random.random_range(-1..=1),
        2 => random.random_range(-30..30),
        _ => random.random_range(-most..most),
    };
    let (months, days, hours) = (part(2_000_000_000), part(2_000_000_000), part(500_000_000));
    let sign = if hours < 0 || random.random() { "-" } else { "" };
    let clock = if random.random() { clock(random) } else { "00:00:00".to_owned() };
    let (_, minutes) = clock.split_once(':').expect("a clock");
    format!("{months} mons {days} days {sign}{}:{minutes}", hours.unsigned_abs())
}

pub fn json(random: &mut dyn rand::RngCore) -> String {
    let value = tree(3, random);
    if random.random() { value.to_string() } else { format!(" {value:#}\n") }
}

fn tree(depth: u32, random: &mut dyn rand::RngCore) -> serde_json::Value {
    use serde_json::Value;
    match random.random_range(0..if depth == 0 { 4 } else { 6 }) {
        0 => Value::Null,
        1 => Value::Bool(random.random()),
        2 => Value::from(random.random::<i64>()),
        3 => Value::String(text(random)),
        4 => (0..random.random_range(0..4)).map(|_| tree(depth - 1, random)).collect(),
        _ => {
            let fields =
                (0..random.random_range(0..4)).map(|_| (short_text(random), tree(depth - 1, random)));
            Value::Object(fields.collect())
        }
    }
}

fn rarely(edges: &[&str], random: &mut dyn rand::RngCore) -> Option<String> {
    random.random_ratio(1, 12).then(|| (*edges.choose(random).expect("edges")).to_owned())
}

/// An edge each twelfth time.
fn one_of<T: Copy>(
    edges: &[T],
    random: &mut dyn rand::RngCore,
    other: impl FnOnce(&mut dyn rand::RngCore) -> T,
) -> T {
    if random.random_ratio(1, 12) { *edges.choose(random).expect("edges") } else { other(random) }
}
