//! This module is the test server: a server behind a proxy. The test server can kill, stop and start the server, can
//! make the server unreachable through the proxy, and can drop a response of the server. If the test server has an
//! nginx in front of the proxy, the test server can also kill, stop, start and reload nginx.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::nginx::Nginx;
use crate::proxy::Proxy;

/// The name of the server's socket in the test server's folder. The server does not listen on a port, because another
/// process could bind the port while the server is down.
const SOCKET: &str = "runhub.sock";

/// A server on a temporary database, and the proxy in front of the server.
pub struct TestServer {
    // The fields are dropped in this order, so nginx ends before the folder with its files is removed.
    /// The nginx in front of the proxy. If clients connect to the proxy itself, the value is None.
    nginx: Option<Nginx>,
    folder: TempDir,
    binary: PathBuf,
    proxy: Proxy,
    /// The process of the server. While the server is down, the value is None.
    server: Option<Child>,
}

impl TestServer {
    /// Starts a server with this binary on an empty database, and a proxy in front of the server. If `nginx` is the
    /// path of an nginx, also starts this nginx in front of the proxy. Returns the test server.
    ///
    /// # Errors
    /// Fails if the server, the proxy or nginx can't be started.
    pub async fn open(binary: &Path, nginx: Option<&Path>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let proxy = Proxy::bind(folder.path().join(SOCKET))?;
        let nginx = match nginx {
            Some(path) => Some(Nginx::open(path, folder.path().join("nginx"), proxy.address()).await?),
            None => None,
        };
        let mut test_server = Self { nginx, folder, binary: binary.to_owned(), proxy, server: None };
        test_server.start().await?;
        Ok(test_server)
    }

    /// Returns the address to which clients connect: the address of nginx or, without nginx, of the proxy.
    pub fn address(&self) -> String {
        self.nginx.as_ref().map_or(self.proxy.address(), Nginx::address).to_string()
    }

    /// Returns the server's own address, which bypasses the proxy and works while the server is unreachable through the
    /// proxy.
    pub fn direct_address(&self) -> String {
        format!("unix:{}", self.folder.path().join(SOCKET).display())
    }

    /// Returns the path of the server's binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Executes a command. client/scenarios/README.md explains the commands.
    ///
    /// # Errors
    /// Fails if the command does not exist or can't be executed. For example, `kill` fails while the server is down.
    pub async fn execute(&mut self, command: &str) -> Result<()> {
        match command {
            "start" => self.start().await,
            "kill" => self.end_server("KILL").await,
            "stop" => self.end_server("TERM").await,
            "show" => self.proxy.open(),
            "hide" => {
                self.proxy.close().await;
                self.proxy.cut();
                Ok(())
            }
            "lose_answer" => {
                self.proxy.drop_response();
                Ok(())
            }
            "start_nginx" => self.nginx()?.start().await,
            "kill_nginx" => self.nginx()?.kill().await,
            "stop_nginx" => self.nginx()?.stop().await,
            "reload_nginx" => self.nginx()?.reload().await,
            other => {
                bail!(
                    "the test server has no command {other:?}: use start, stop, kill, hide, show, lose_answer, or \
                     {{start,kill,stop,reload}}_nginx"
                )
            }
        }
    }

    fn nginx(&mut self) -> Result<&mut Nginx> {
        self.nginx.as_mut().context("the test server runs without nginx: set RUNHUB_TEST_NGINX to the path of nginx")
    }

    async fn start(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server is already running: add the command `kill` or `stop` first");
        let mut server = Command::new(&self.binary)
            .args(["serve", "--log", "warn", "--listen", &self.direct_address(), "--db"])
            .arg(self.folder.path().join("runhub.db"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("can't start the server {}: check that the file is an executable", self.binary.display())
            })?;
        wait_until_listening(&mut server).await?;
        self.server = Some(server);
        self.proxy.open()
    }

    async fn end_server(&mut self, signal: &str) -> Result<()> {
        let mut server = self.server.take().context("the server is already down: add the command `start` first")?;
        self.proxy.close().await;
        let pid = server.id().context("the server has exited without a command: read its standard error")?;
        let sent = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().await?;
        ensure!(
            sent.success(),
            "`kill -s {signal} {pid}` failed, so the server still runs: read the standard error of `kill`"
        );
        server.wait().await?;
        Ok(())
    }
}

/// Waits until the server prints its first line, `runhub … listens on ADDRESS, …`. Fails if the server prints another
/// line.
async fn wait_until_listening(server: &mut Child) -> Result<()> {
    let mut line = String::new();
    let stdout = server.stdout.as_mut().context("the server's standard output can't be read: report the bug")?;
    BufReader::new(stdout).read_line(&mut line).await?;
    ensure!(line.contains(" listens on "), "the server printed {line:?} and does not listen: read its standard error");
    Ok(())
}
