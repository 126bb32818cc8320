//! Real children: a shell with two sleeping children of its own, one of them in its own session.

use std::process::{Child, Command, Stdio};

use super::*;

/// Kills what a failing test would leave.
struct Tree(Child, ProcessHandle);

impl Drop for Tree {
    fn drop(&mut self) {
        for process in self.1.descendants().unwrap_or_default() {
            process.signal(Signal::SIGKILL).expect("kill a descendant");
        }
        self.0.kill().expect("kill the shell");
        self.0.wait().expect("reap the shell");
    }
}

fn tree() -> Tree {
    let child = Command::new("sh")
        .args(["-c", "setsid sleep 300 & sleep 300 & wait"])
        .stdout(Stdio::null())
        .spawn()
        .expect("start a shell");
    let handle = ProcessHandle::of(i32::try_from(child.id()).expect("pid")).expect("handle");
    let tree = Tree(child, handle);
    let until = Instant::now() + Duration::from_secs(10);
    while sleeping(&handle) < 2 {
        assert!(Instant::now() < until, "children: {:?}", handle.descendants());
        std::thread::sleep(POLL);
    }
    tree
}

/// Descendants that have become `sleep`; before that, `setsid` may still fork.
fn sleeping(handle: &ProcessHandle) -> usize {
    let names = handle.descendants().expect("descendants").into_iter();
    names
        .filter(|p| std::fs::read_to_string(format!("/proc/{}/comm", p.pid)).is_ok_and(|n| n == "sleep\n"))
        .count()
}

#[test]
fn a_tree_is_killed_with_its_children_in_other_sessions() {
    let tree = tree();
    let children = tree.1.descendants().expect("descendants");
    assert_eq!(children.len(), 2);
    assert_eq!(tree.1.kill_tree().expect("kill"), 3);
    assert!(!tree.1.alive());
    assert!(children.iter().all(|child| !child.alive()));
    assert_eq!(tree.1.kill_tree().expect("kill again"), 0);
}

#[test]
fn a_tree_is_stopped_and_goes_on() {
    let tree = tree();
    assert_eq!(tree.1.stop_tree().expect("stop"), 3);
    assert!(tree.1.is(Stat::stopped) && tree.1.alive());
    assert_eq!(tree.1.continue_tree().expect("continue"), 3);
    assert!(!tree.1.is(Stat::stopped) && tree.1.alive());
    assert_eq!(tree.1.continue_tree().expect("continue again"), 0);
}

#[test]
fn another_process_with_the_same_pid_is_refused() {
    let tree = tree();
    let other = ProcessHandle { start_ticks: tree.1.start_ticks + 1, ..tree.1 };
    assert!(!other.alive());
    assert!(matches!(other.signal(Signal::SIGKILL), Err(Error::NotTheProcess { .. })));
    assert!(matches!(other.kill_tree(), Err(Error::NotTheProcess { .. })));
    assert!(matches!(other.stop_tree(), Err(Error::NotTheProcess { .. })));
    assert!(matches!(other.terminate(Duration::ZERO), Err(Error::NotTheProcess { .. })));
    assert!(tree.1.alive());
}

#[test]
fn a_process_that_ignores_sigterm_is_told_from_one_that_obeys() {
    // Alone: who obeys ends itself and leaves its children.
    let sleeper = Command::new("sleep").arg("300").spawn().expect("start a program");
    let handle = ProcessHandle::of(i32::try_from(sleeper.id()).expect("pid")).expect("handle");
    let obeys = Tree(sleeper, handle);
    assert!(obeys.1.terminate(Duration::from_secs(10)).expect("terminate"));
    let mut stubborn = Command::new("sh")
        .args(["-c", "trap '' TERM; echo ready; sleep 300 & wait; wait"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start a shell");
    let mut line = String::new();
    let out = stubborn.stdout.take().expect("stdout");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("ready");
    let handle = ProcessHandle::of(i32::try_from(stubborn.id()).expect("pid")).expect("handle");
    let stubborn = Tree(stubborn, handle);
    assert!(!stubborn.1.terminate(Duration::from_millis(200)).expect("terminate"));
    stubborn.1.kill_tree().expect("kill");
    assert!(stubborn.1.wait_gone(Duration::from_secs(10)));
}

#[test]
fn a_name_with_brackets_does_not_shift_the_fields() {
    let rest = "S 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
    let stat = parse(&format!("12 (a) b (c)) {rest}")).expect("parse");
    assert_eq!(stat, Stat { state: 'S', parent: 7, start_ticks: 4242 });
}
