//! The stage: a server behind a proxy. It can be killed, stopped, started again, hidden, and made to lose an answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::proxy::Proxy;

/// The server's socket in the stage's folder. It is not a port, because another process could take the port while the server
/// is down.
const SOCKET: &str = "runhub.sock";

/// A server on a temporary database, and the proxy in front of it.
pub struct Stage {
    folder: TempDir,
    binary: PathBuf,
    proxy: Proxy,
    /// None while the server is down.
    server: Option<Child>,
}

impl Stage {
    /// Starts a server with this binary on an empty database.
    ///
    /// # Errors
    /// Fails if the server can't be started.
    pub async fn open(binary: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let proxy = Proxy::bind(folder.path().join(SOCKET))?;
        let mut stage = Self { folder, binary: binary.to_owned(), proxy, server: None };
        stage.start().await?;
        Ok(stage)
    }

    /// Returns the address of the proxy, to which clients connect.
    pub fn address(&self) -> String {
        self.proxy.address().to_string()
    }

    /// Returns the server's own address, which works while the server is hidden too.
    pub fn direct_address(&self) -> String {
        format!("unix:{}", self.folder.path().join(SOCKET).display())
    }

    /// Returns the binary of the server.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Executes a command, which the README in this folder explains.
    ///
    /// # Errors
    /// Fails if the command does not exist or can't be executed, for example if the server to be killed is down already.
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
                self.proxy.lose_answer();
                Ok(())
            }
            other => bail!("the stage has no command {other:?}"),
        }
    }

    async fn start(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server is running already");
        let mut server = Command::new(&self.binary)
            .args(["serve", "--log", "warn", "--listen", &self.direct_address(), "--db"])
            .arg(self.folder.path().join("runhub.db"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", self.binary.display()))?;
        wait_until_it_listens(&mut server).await?;
        self.server = Some(server);
        self.proxy.open()
    }

    async fn end_server(&mut self, signal: &str) -> Result<()> {
        let mut server = self.server.take().context("the server is down already")?;
        self.proxy.close().await;
        let pid = server.id().context("the server has exited without a command")?;
        let sent = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().await?;
        ensure!(sent.success(), "kill -s {signal} {pid} failed");
        server.wait().await?;
        Ok(())
    }
}

/// Waits for the server's first line: `runhub … listens on ADDRESS, …`.
async fn wait_until_it_listens(server: &mut Child) -> Result<()> {
    let mut line = String::new();
    let stdout = server.stdout.as_mut().context("the server has no output")?;
    BufReader::new(stdout).read_line(&mut line).await?;
    ensure!(line.contains(" listens on "), "the server printed {line:?} and does not listen");
    Ok(())
}
