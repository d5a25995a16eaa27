//! A server of the real binary, to ask for its limits.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use runhub_api::v1::{GetServerInfoRequest, Limits};
use runhub_client::Client;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the limits that a server without flags reports.
pub fn default_limits() -> Limits {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_runhub"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RUNHUB_")) {
        command.env_remove(name);
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--db"]).arg(folder.path().join("runhub.db"));
    let mut server = Server(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    // The pipe stays open, because the server writes more to it.
    BufReader::new(server.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.split(" listens on ").nth(1).and_then(|rest| rest.split(',').next());
    let address = address.unwrap_or_else(|| panic!("the server announced {line:?}")).to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let info = runtime.block_on(async {
        let client = Client::connect(&address).await.unwrap();
        client.get_server_info(GetServerInfoRequest::default()).await.unwrap()
    });
    info.limits.unwrap()
}
