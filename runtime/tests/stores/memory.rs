//! The memory guard and a limit that the kernel keeps: the server runs in a control group of its own, v1 or v2, as it does in a
//! container. Where this user may make no group, the test is not run.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use harness::environment::ServiceName;
use serde_json::{Value, json};

use crate::support::{Stage, eventually};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas/ecommerce/schema.graphql");

const SERVER: &str = env!("CARGO_BIN_EXE_fraiseql-server");

/// A group below that of this process, gone when it is dropped.
pub struct Group {
    folder: PathBuf,
    limit: &'static str,
    used: &'static str,
    reclaimable: &'static str,
}

impl Group {
    /// # Errors
    /// Says why there can be none here.
    pub fn make() -> Result<Self, String> {
        let own = std::fs::read_to_string("/proc/self/cgroup").map_err(|why| format!("no groups: {why}"))?;
        let of = |wanted: &str| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let controllers = parts.next()?;
                let is_it = controllers.split(',').any(|controller| controller == wanted);
                is_it.then(|| parts.next().unwrap_or_default().trim_start_matches('/').to_owned())
            })
        };
        let one = of("memory").map(|path| {
            let (used, reclaimable) = ("memory.usage_in_bytes", "total_inactive_file");
            ("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes", used, reclaimable)
        });
        let two =
            of("").map(|path| ("/sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file"));
        let (root, path, limit, used, reclaimable) = one.or(two).ok_or("no group of memory")?;
        let seen = Path::new(root).join(&path);
        let above = if seen.is_dir() { seen } else { PathBuf::from(root) };
        let folder = above.join(format!("fraiseql-test-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder)
            .map_err(|why| format!("no group can be made below {}: {why}", above.display()))?;
        let group = Self { folder, limit, used, reclaimable };
        if group.folder.join(limit).exists() {
            Ok(group)
        } else {
            Err(format!("the groups below {} do not limit memory", above.display()))
        }
    }

    /// What is used that the kernel cannot take back by itself, in bytes.
    fn used(&self) -> u64 {
        let number = |text: &str| text.trim().parse::<u64>().expect("a number");
        let stat = std::fs::read_to_string(self.folder.join("memory.stat")).expect("readable");
        let reclaimable = stat.lines().find_map(|line| line.strip_prefix(self.reclaimable)).map_or(0, number);
        let used = std::fs::read_to_string(self.folder.join(self.used)).expect("readable");
        number(&used) - reclaimable
    }

    fn set_limit(&self, bytes: u64) {
        std::fs::write(self.folder.join(self.limit), bytes.to_string()).expect("the limit is set");
    }

    /// A command that belongs to it before it is anything.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        let enter = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        command.args(["-c", enter]).arg(&self.folder).arg(program);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that was killed leaves it a moment later.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Killed when the test is over.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn a_limit_that_the_kernel_keeps_is_seen_when_it_comes_near_and_when_it_is_far(stage: Arc<Stage>) {
    let group = Group::make().expect("else the test is not run");
    let database = stage.database(stage.number()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let toml = format!(
        "[server]\nbind_address = \"127.0.0.1:0\"\n[graphql]\nschema = {SCHEMA:?}\n\
         [backpressure]\nqueue_rejection_policy = \"adaptive\"\nmemory_threshold_percent = 40\n"
    );
    std::fs::write(folder.path().join("fraiseql.toml"), toml).expect("written");
    let stores = [
        ("DATABASE_URL", database.to_string()),
        ("REDIS_URL", stage.url(ServiceName::Redis).to_string()),
        ("NATS_URL", stage.url(ServiceName::Nats).to_string()),
    ];
    let prepared = |mut command: Command| {
        command.env_clear().current_dir(folder.path()).envs(stores.clone()).stdout(Stdio::piped());
        command
    };
    let mut migrate = Command::new(SERVER);
    migrate.arg("migrate");
    let migrated = prepared(migrate).output().expect("it runs");
    assert!(migrated.status.success(), "{migrated:?}");
    let mut server = Server(prepared(group.command(SERVER)).spawn().expect("it starts"));
    let mut lines = BufReader::new(server.0.stdout.take().expect("piped")).lines();
    let address = lines
        .by_ref()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .find(|line| line["message"] == "listening")
        .expect("it listens")["address"]
        .as_str()
        .expect("an address")
        .to_owned();
    // Nobody else takes what it says.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));

    let client = reqwest::Client::new();
    let answer = async || {
        let request =
            client.post(format!("http://{address}/graphql")).json(&json!({"query": "{__typename}"}));
        let response = request.send().await.expect("an answer");
        let (status, waits) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
        let body: Value = response.json().await.expect("JSON");
        (status, waits, body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none").to_owned())
    };
    let is = async |what: &str, wanted: (u16, bool, &str)| {
        eventually(what, async || {
            let (status, waits, code) = answer().await;
            if (status, waits, code.as_str()) == wanted {
                Ok(())
            } else {
                Err(format!("{status} {waits} {code}"))
            }
        })
        .await;
    };
    is("without a limit it serves", (200, false, "none")).await;
    // Half of it is free: with a tenth, some 3 MB, the kernel killed the server in the middle of an answer.
    group.set_limit(group.used() * 2);
    is("half is used", (429, true, "OUT_OF_MEMORY")).await;
    group.set_limit(group.used() * 8);
    is("an eighth is used", (200, false, "none")).await;
    drop(server);
}
