//! What is known of Redis's commands: which change data, which set a connection up, where the first key stands.

use super::super::rule::{Command, Kind};

/// Arguments that are read of a command.
const ARGUMENTS_MAX: usize = 16;

/// Name, subcommand and first key, from the beginning of a command.
pub(super) fn read<'a>(head: &'a [u8], arguments: &mut Vec<&'a [u8]>) -> Command<'a> {
    arguments.clear();
    match head.first() {
        Some(b'*') => array(head, arguments),
        _ => inline(head, arguments),
    }
    let Some(name) = arguments.first().copied() else { return Command::default() };
    let upper = name.to_ascii_uppercase();
    Command {
        name,
        sub: arguments.get(1).copied(),
        key: key(&upper, arguments),
        kind: match () {
            () if contains(&WRITES, &upper) => Kind::Write,
            () if contains(&SETUP, &upper) => Kind::Setup,
            () => Kind::Other,
        },
    }
}

fn array<'a>(mut rest: &'a [u8], arguments: &mut Vec<&'a [u8]>) {
    let Some(count) = line(&mut rest) else { return };
    for _ in 0..count.min(ARGUMENTS_MAX) {
        let Some(size) = line(&mut rest) else { return };
        let Some(argument) = rest.get(..size) else { return };
        arguments.push(argument);
        let Some(next) = rest.get(size + 2..) else { return };
        rest = next;
    }
}

/// The number of a line such as `$5`.
fn line(rest: &mut &[u8]) -> Option<usize> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let number = rest[..end].trim_ascii_end().get(1..)?;
    *rest = &rest[end + 1..];
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Words of a line; one in quotes may hold white space. Escapes are left as they are written.
fn inline<'a>(head: &'a [u8], arguments: &mut Vec<&'a [u8]>) {
    let mut rest = head.trim_ascii_start();
    while !rest.is_empty() && arguments.len() < ARGUMENTS_MAX {
        let (word, behind) = quoted(rest).unwrap_or_else(|| {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            rest.split_at(end)
        });
        arguments.push(word);
        rest = behind.trim_ascii_start();
    }
}

/// What stands between quotes at the beginning, and what follows them.
fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (quote, inside) = text.split_first().filter(|(first, _)| matches!(first, b'"' | b'\''))?;
    let mut escaped = false;
    let end = inside.iter().position(|byte| {
        let ends = byte == quote && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    let behind = &inside[end + 1..];
    behind.first().is_none_or(u8::is_ascii_whitespace).then_some((&inside[..end], behind))
}

fn key<'a>(name: &[u8], arguments: &[&'a [u8]]) -> Option<&'a [u8]> {
    let at = match name {
        b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => {
            if arguments.get(2).is_none_or(|count| *count == b"0") {
                return None;
            }
            3
        }
        b"XREAD" | b"XREADGROUP" => {
            1 + arguments.iter().position(|argument| argument.eq_ignore_ascii_case(b"STREAMS"))?
        }
        b"OBJECT" | b"XINFO" | b"XGROUP" | b"MEMORY" | b"BITOP" => 2,
        // Behind the number of keys.
        b"LMPOP" | b"SINTERCARD" | b"ZDIFF" | b"ZINTER" | b"ZINTERCARD" | b"ZMPOP" | b"ZUNION" => 2,
        b"BLMPOP" | b"BZMPOP" | b"MIGRATE" => 3,
        name if contains(&SETUP, name) || contains(&KEYLESS, name) => return None,
        _ => 1,
    };
    arguments.get(at).copied()
}

fn contains(sorted: &[&str], name: &[u8]) -> bool {
    sorted.binary_search_by(|one| one.as_bytes().cmp(name)).is_ok()
}

/// Sorted. They set a connection up or look at the server; a rule for any command leaves them alone.
const SETUP: [&str; 9] = ["AUTH", "CLIENT", "COMMAND", "CONFIG", "HELLO", "INFO", "QUIT", "RESET", "SELECT"];

/// Sorted.
const KEYLESS: [&str; 37] = [
    "ACL",
    "BGSAVE",
    "CLUSTER",
    "DBSIZE",
    "DEBUG",
    "DISCARD",
    "ECHO",
    "EXEC",
    "FLUSHALL",
    "FLUSHDB",
    "FUNCTION",
    "KEYS",
    "LATENCY",
    "MODULE",
    "MONITOR",
    "MULTI",
    "PING",
    "PSUBSCRIBE",
    "PUBLISH",
    "PUBSUB",
    "PUNSUBSCRIBE",
    "RANDOMKEY",
    "REPLICAOF",
    "ROLE",
    "SAVE",
    "SCAN",
    "SCRIPT",
    "SHUTDOWN",
    "SLAVEOF",
    "SLOWLOG",
    "SUBSCRIBE",
    "SWAPDB",
    "TIME",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WAITAOF",
];

/// Sorted. Commands with the flag `write`, and the scripts, which are refused when they write.
const WRITES: [&str; 109] = [
    "APPEND",
    "BITFIELD",
    "BITOP",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "COPY",
    "DECR",
    "DECRBY",
    "DEL",
    "EVAL",
    "EVALSHA",
    "EXPIRE",
    "EXPIREAT",
    "FCALL",
    "FLUSHALL",
    "FLUSHDB",
    "GEOADD",
    "GEORADIUS",
    "GEORADIUSBYMEMBER",
    "GEOSEARCHSTORE",
    "GETDEL",
    "GETEX",
    "GETSET",
    "HDEL",
    "HEXPIRE",
    "HEXPIREAT",
    "HGETDEL",
    "HGETEX",
    "HINCRBY",
    "HINCRBYFLOAT",
    "HMSET",
    "HPERSIST",
    "HPEXPIRE",
    "HPEXPIREAT",
    "HSET",
    "HSETEX",
    "HSETNX",
    "INCR",
    "INCRBY",
    "INCRBYFLOAT",
    "LINSERT",
    "LMOVE",
    "LMPOP",
    "LPOP",
    "LPUSH",
    "LPUSHX",
    "LREM",
    "LSET",
    "LTRIM",
    "MIGRATE",
    "MOVE",
    "MSET",
    "MSETNX",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "PFADD",
    "PFMERGE",
    "PSETEX",
    "RENAME",
    "RENAMENX",
    "RESTORE",
    "RPOP",
    "RPOPLPUSH",
    "RPUSH",
    "RPUSHX",
    "SADD",
    "SDIFFSTORE",
    "SET",
    "SETBIT",
    "SETEX",
    "SETNX",
    "SETRANGE",
    "SINTERSTORE",
    "SMOVE",
    "SORT",
    "SPOP",
    "SREM",
    "SUNIONSTORE",
    "SWAPDB",
    "UNLINK",
    "XACK",
    "XADD",
    "XAUTOCLAIM",
    "XCLAIM",
    "XDEL",
    "XGROUP",
    "XREADGROUP",
    "XSETID",
    "XTRIM",
    "ZADD",
    "ZDIFFSTORE",
    "ZINCRBY",
    "ZINTERSTORE",
    "ZMPOP",
    "ZPOPMAX",
    "ZPOPMIN",
    "ZRANGESTORE",
    "ZREM",
    "ZREMRANGEBYLEX",
    "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE",
    "ZUNIONSTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(command: &str) -> Option<String> {
        let mut arguments = vec![];
        read(command.as_bytes(), &mut arguments).key.map(|key| String::from_utf8_lossy(key).into_owned())
    }

    #[test]
    fn the_lists_are_sorted() {
        assert!(SETUP.is_sorted() && KEYLESS.is_sorted() && WRITES.is_sorted());
    }

    #[test]
    fn the_first_key_is_where_the_command_has_it() {
        assert_eq!(key_of("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").as_deref(), Some("k"));
        assert_eq!(key_of("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900\r\nxxx").as_deref(), Some("k"));
        assert_eq!(key_of("EVALSHA abc 1 k v\r\n").as_deref(), Some("k"));
        assert_eq!(key_of("EVALSHA abc 0\r\n"), None);
        assert_eq!(key_of("XREADGROUP GROUP g c COUNT 1 STREAMS s >\r\n").as_deref(), Some("s"));
        assert_eq!(key_of("PING hello\r\n"), None);
        assert_eq!(key_of("set \"k\" 1\r\n").as_deref(), Some("k"));
        assert_eq!(key_of("ZUNION 2 a b\r\n").as_deref(), Some("a"));
        assert_eq!(key_of("BLMPOP 0 1 list LEFT\r\n").as_deref(), Some("list"));
        assert_eq!(key_of("PUNSUBSCRIBE a*\r\n"), None);
    }

    #[test]
    fn words_of_a_line_may_stand_in_quotes() {
        assert_eq!(key_of("SET \"a b\" 1\r\n").as_deref(), Some("a b"));
        assert_eq!(key_of("SET 'it \\' is' 1\r\n").as_deref(), Some("it \\' is"));
        assert_eq!(key_of("SET \"open 1\r\n").as_deref(), Some("\"open"));
        assert_eq!(key_of("SET \"a\"b 1\r\n").as_deref(), Some("\"a\"b"));
        assert_eq!(key_of("  GET   \"\"  \r\n").as_deref(), Some(""));
    }
}
